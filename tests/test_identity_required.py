"""Where tokens are required: no access without one, and only the operator registers agents."""

from collections.abc import Iterator

import grpc
import pytest

from tests.callers import Caller, operator, operator_token_file, register
from tests.refusals import refused
from tests.rpcs import RPCS, Rpc, as_registered, good_request, nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.agent_service_pb2 import GetAgentRequest, RegisterAgentRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest, ServerLimits
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

GUARDED = [rpc for rpc in RPCS if str(rpc) != "GetServerInfo"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server; tokens are required."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", "required") as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


@pytest.fixture
async def thread(threads: ThreadStub, boss: Caller, name: str) -> str:
    """A fresh thread's name."""
    await threads.CreateThread(CreateThreadRequest(thread=name), metadata=boss.metadata)
    return name


def test_the_server_reports_that_tokens_are_required(server: ServerProcess) -> None:
    assert "auth required" in server.announcement
    assert operator_token_file(server.db).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("where", ["thread", "unknown", "no name"])
@pytest.mark.parametrize("rpc", GUARDED, ids=str)
async def test_without_a_token_nothing_is_done_or_revealed(
    channel: grpc.aio.Channel, boss: Caller, thread: str, rpc: Rpc, where: str
) -> None:
    data = good_request(rpc, thread if where == "thread" else where).SerializeToString()
    async with nothing_stored(channel, boss.metadata):
        refusal = await refused(rpc.call(channel, data))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize("rpc", GUARDED, ids=str)
async def test_without_a_token_no_request_is_parsed(channel: grpc.aio.Channel, rpc: Rpc) -> None:
    assert (await refused(rpc.call(channel, b"\xff"))).reason == "TOKEN_INVALID"


async def test_server_info_needs_no_token_but_its_limits_do(
    bus: BusStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    info = await bus.GetServerInfo(GetServerInfoRequest())
    assert (info.auth, info.agent, list(info.scopes)) == ("required", "anonymous", [])
    assert info.version
    assert not info.HasField("limits")
    agent = await register(agents, name, by=boss)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=agent.metadata)
    assert (info.agent, list(info.scopes)) == (name, ["post", "read"])
    assert info.limits != ServerLimits()


async def test_a_wrong_token_gets_not_even_server_info(bus: BusStub) -> None:
    metadata = (("authorization", "Bearer " + "x" * 43),)
    refusal = await refused(bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata))
    assert refusal.reason == "TOKEN_INVALID"


async def test_an_agent_that_the_operator_registered_may_post(
    bus: BusStub, agents: AgentStub, boss: Caller, thread: str, name: str
) -> None:
    agent = await register(agents, name, by=boss)
    request = PostMessageRequest(thread=thread, content="x")
    assert (await bus.PostMessage(request, metadata=agent.metadata)).seq == 1


async def test_an_agent_may_repeat_its_own_registration(
    agents: AgentStub, boss: Caller, name: str
) -> None:
    request = RegisterAgentRequest(agent=name, token="of-my-own-making-" + name * 2)
    first = await agents.RegisterAgent(request, metadata=boss.metadata)
    own = Caller(name, request.token)
    again = await agents.RegisterAgent(request, metadata=own.metadata)
    assert (as_registered(again.agent), again.token) == (first.agent, request.token)
    request.token = "another-of-my-own-" + name * 2
    refusal = await refused(agents.RegisterAgent(request, metadata=own.metadata))
    assert refusal.reason == "AGENT_EXISTS"


@pytest.mark.parametrize("registered", [True, False])
async def test_an_agent_can_neither_register_nor_list_others(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Caller, name: str, registered: bool
) -> None:
    agent = await register(agents, name, by=boss)
    other = RegisterAgentRequest(agent=f"{name}-2", kind=AGENT_KIND_HUMAN)
    if registered:
        await agents.RegisterAgent(other, metadata=boss.metadata)
    async with nothing_stored(channel, boss.metadata):
        refusal = await refused(agents.RegisterAgent(other, metadata=agent.metadata))
    assert refusal.reason == "ACCESS_DENIED"


async def test_the_operator_registers_humans(agents: AgentStub, boss: Caller, name: str) -> None:
    request = RegisterAgentRequest(agent=name, kind=AGENT_KIND_HUMAN)
    answer = await agents.RegisterAgent(request, metadata=boss.metadata)
    own = Caller(name, answer.token)
    read = await agents.GetAgent(GetAgentRequest(), metadata=own.metadata)
    assert (read.agent.name, read.agent.kind) == (name, AGENT_KIND_HUMAN)


async def test_an_agent_may_not_post_on_behalf_of_another(
    channel: grpc.aio.Channel,
    bus: BusStub,
    agents: AgentStub,
    boss: Caller,
    thread: str,
    name: str,
) -> None:
    agent = await register(agents, name, by=boss)
    for where in (thread, "unknown"):
        request = PostMessageRequest(thread=where, content="x", on_behalf_of=f"{name}-2")
        async with nothing_stored(channel, boss.metadata):
            refusal = await refused(bus.PostMessage(request, metadata=agent.metadata))
        assert refusal.reason == "ACCESS_DENIED"
