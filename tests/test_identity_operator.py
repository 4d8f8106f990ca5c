"""The operator: who it is, and posting on behalf of others."""

import grpc
import pytest

from tests.callers import Caller, operator, operator_token_file, register
from tests.conftest import StartServer
from tests.refusals import refused
from tests.rpcs import Metadata, nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN
from threadbus.v1.agent_service_pb2 import GetAgentRequest, RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    GetServerInfoResponse,
    PostMessageRequest,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_service_pb2 import ListThreadsRequest


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


async def post_for(bus: BusStub, boss: Caller, thread: str, agent: str) -> Message:
    """Post as the operator on behalf of an agent; returns the message as stored."""
    request = PostMessageRequest(thread=thread, content="x", on_behalf_of=agent)
    answer = await bus.PostMessage(request, metadata=boss.metadata)
    return (await bus.GetMessage(GetMessageRequest(thread=thread, seq=answer.seq))).message


async def server_info(server: ServerProcess, metadata: Metadata) -> GetServerInfoResponse:
    """Returns the caller as the server sees it."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus: BusStub = BusServiceStub(channel)
        return await bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)


async def test_the_operators_token_is_in_a_file_that_only_its_owner_can_read(
    server: ServerProcess,
) -> None:
    file = operator_token_file(server.db)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(operator(server).token) >= 32
    info = await server_info(server, operator(server).metadata)
    assert (info.agent, list(info.scopes)) == ("operator", ["post", "read", "admin"])


async def test_an_operator_posts_under_its_own_name(
    bus: BusStub, boss: Caller, thread: str
) -> None:
    message = await post_for(bus, boss, thread, "")
    assert (message.sender, message.sender_kind) == ("operator", AGENT_KIND_HUMAN)
    assert message.posted_by == ""


async def test_a_post_on_behalf_of_an_agent_names_both(
    bus: BusStub, agents: AgentStub, boss: Caller, thread: str, name: str
) -> None:
    await register(agents, name)
    message = await post_for(bus, boss, thread, name)
    assert (message.sender, message.sender_kind) == (name, AGENT_KIND_AGENT)
    assert message.posted_by == "operator"


async def test_a_post_on_behalf_of_a_human_keeps_its_kind(
    bus: BusStub, agents: AgentStub, boss: Caller, thread: str, name: str
) -> None:
    await register(agents, name, boss, AGENT_KIND_HUMAN)
    message = await post_for(bus, boss, thread, name)
    assert (message.sender, message.sender_kind) == (name, AGENT_KIND_HUMAN)


async def test_a_post_on_behalf_of_an_unknown_name_registers_it(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, boss: Caller, thread: str, name: str
) -> None:
    message = await post_for(bus, boss, thread, name)
    assert (message.sender, message.sender_kind) == (name, AGENT_KIND_AGENT)
    assert (await agents.GetAgent(GetAgentRequest(agent=name))).agent.name == name
    listed = await threads.ListThreads(ListThreadsRequest(participant=name))
    assert [found.name for found in listed.threads] == [thread]
    again = await post_for(bus, boss, thread, name)
    assert (again.seq, again.sender) == (2, name)


async def test_a_name_posted_for_cannot_be_registered_by_others(
    bus: BusStub, agents: AgentStub, boss: Caller, thread: str, name: str
) -> None:
    await post_for(bus, boss, thread, name)
    refusal = await refused(agents.RegisterAgent(RegisterAgentRequest(agent=name)))
    assert refusal.reason == "AGENT_EXISTS"


async def test_a_refused_post_on_behalf_registers_no_agent(
    channel: grpc.aio.Channel, bus: BusStub, boss: Caller, thread: str, name: str
) -> None:
    request = PostMessageRequest(thread=thread, content="x", on_behalf_of=name)
    for field, value in (("expected_last_seq", 7), ("reply_to", 7), ("thread", "unknown")):
        bad = PostMessageRequest()
        bad.CopyFrom(request)
        setattr(bad, field, value)
        async with nothing_stored(channel):
            await refused(bus.PostMessage(bad, metadata=boss.metadata))


@pytest.mark.parametrize(
    "agent",
    ["anonymous", "system", "operator", "me", "all", "everyone", "here", "none", "Upper", "x" * 64],
)
async def test_a_post_on_behalf_of_an_invalid_name_is_refused(
    channel: grpc.aio.Channel, bus: BusStub, boss: Caller, thread: str, agent: str
) -> None:
    request = PostMessageRequest(thread=thread, content="x", on_behalf_of=agent)
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(request, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["on_behalf_of"])


async def test_only_the_operator_posts_on_behalf_of_others(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    agent = await register(agents, name)
    for metadata in ((), agent.metadata):
        for other in (f"{name}-2", name, "no name"):
            request = PostMessageRequest(thread=thread, content="x", on_behalf_of=other)
            async with nothing_stored(channel):
                refusal = await refused(bus.PostMessage(request, metadata=metadata))
            assert refusal.reason == "ACCESS_DENIED"


async def test_permission_is_checked_before_the_thread_is_looked_up(
    bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    for where in (thread, "unknown"):
        request = PostMessageRequest(thread=where, content="x", on_behalf_of=name)
        assert (await refused(bus.PostMessage(request))).reason == "ACCESS_DENIED"


async def test_request_ids_on_behalf_of_different_agents_are_separate(
    bus: BusStub, boss: Caller, thread: str, name: str
) -> None:
    seqs = []
    for agent in (f"{name}-1", f"{name}-2", f"{name}-1"):
        request = PostMessageRequest(
            thread=thread, content="x", request_id="one", on_behalf_of=agent
        )
        seqs.append((await bus.PostMessage(request, metadata=boss.metadata)).seq)
    assert seqs == [1, 2, 1]


@pytest.mark.slow
async def test_tokens_survive_restarts(start_server: StartServer) -> None:
    server = start_server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        agent = await register(AgentServiceStub(channel), "coder")
    boss = operator(server)
    for end in (server.kill, server.stop):
        end()
        server.start()
        assert operator(server) == boss
        assert (await server_info(server, boss.metadata)).agent == "operator"
        assert (await server_info(server, agent.metadata)).agent == "coder"


@pytest.mark.slow
async def test_two_servers_on_one_file_have_one_operator(start_server: StartServer) -> None:
    first, second = start_server(), start_server()
    boss = operator(first)
    for server in (first, second):
        assert (await server_info(server, boss.metadata)).agent == "operator"


@pytest.mark.sqlite
@pytest.mark.slow
async def test_tokens_are_stored_nowhere_in_clear(start_server: StartServer) -> None:
    server = start_server("--log-level", "debug")
    own = "made-by-the-caller-0123456789-0123456789"
    async with grpc.aio.insecure_channel(server.address) as channel:
        agents: AgentStub = AgentServiceStub(channel)
        made = await register(agents, "coder")
        await agents.RegisterAgent(RegisterAgentRequest(agent="tester", token=own))
        await refused(agents.RegisterAgent(RegisterAgentRequest(agent="coder", token=own)))
    secrets = [token.encode() for token in (own, made.token, operator(server).token)]

    def found() -> list[str]:
        kept = ("operator-token", "-hints")
        files = [file for file in server.db.parent.iterdir() if not file.name.endswith(kept)]
        assert server.db in files
        return [file.name for file in files if any(s in file.read_bytes() for s in secrets)]

    assert found() == []
    server.stop()
    assert found() == []
    assert not [line for line in server.log if any(s.decode() in line for s in secrets)]
