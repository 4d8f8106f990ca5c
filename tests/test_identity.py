"""Authentication without required tokens: anonymous, an agent by its token, or the operator."""

import asyncio
import secrets

import grpc
import pytest

from tests.callers import Caller, operator, register
from tests.refusals import refused
from tests.rpcs import RPCS, Metadata, Rpc, as_registered, good_request, nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    Agent,
)
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

NO_TOKENS = {
    "unknown": f"Bearer {secrets.token_urlsafe(32)}",
    "empty": "",
    "no-token": "Bearer",
    "blank-token": "Bearer  ",
    "no-scheme": secrets.token_urlsafe(32),
    "another-scheme": "Basic YTpi",
    "two-words": "Bearer a b",
    "long": "Bearer " + "x" * 4_000,
    "punctuation": "Bearer '; DROP TABLE token; --",
}


async def posted(bus: BusStub, thread: str, metadata: Metadata, **fields: str) -> Message:
    """Post as `caller`; returns the message as stored."""
    request = PostMessageRequest(thread=thread, content="x", **fields)  # type: ignore[arg-type]
    answer = await bus.PostMessage(request, metadata=metadata)
    return (await bus.GetMessage(GetMessageRequest(thread=thread, seq=answer.seq))).message


async def test_a_call_without_a_token_is_anonymous(bus: BusStub, thread: str) -> None:
    info = await bus.GetServerInfo(GetServerInfoRequest())
    assert (info.auth, info.agent, list(info.scopes)) == ("open", "anonymous", ["post", "read"])
    message = await posted(bus, thread, ())
    assert (message.sender, message.sender_kind) == ("anonymous", AGENT_KIND_ANONYMOUS)
    assert message.posted_by == ""


async def test_a_registered_sender_is_taken_from_its_token(
    bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    agent = await register(agents, name)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=agent.metadata)
    assert (info.agent, list(info.scopes)) == (name, ["post", "read"])
    message = await posted(bus, thread, agent.metadata)
    assert (message.sender, message.sender_kind) == (name, AGENT_KIND_AGENT)


async def test_a_human_sender_is_marked_as_one(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    person = await register(agents, name, operator(server), AGENT_KIND_HUMAN)
    message = await posted(bus, thread, person.metadata)
    assert (message.sender, message.sender_kind) == (name, AGENT_KIND_HUMAN)


async def test_a_threads_creator_is_taken_from_the_token(
    threads: ThreadStub, agents: AgentStub, name: str
) -> None:
    agent = await register(agents, name)
    request = CreateThreadRequest(thread=name)
    created = await threads.CreateThread(request, metadata=agent.metadata)
    assert created.thread.creator == name


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_authentication_scheme_is_case_insensitive(
    bus: BusStub, agents: AgentStub, name: str, scheme: str
) -> None:
    token = (await register(agents, name)).token
    metadata = (("authorization", f"{scheme} {token}"),)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)
    assert info.agent == name


@pytest.mark.parametrize("header", NO_TOKENS.values(), ids=NO_TOKENS)
@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_an_invalid_token_is_refused_and_not_taken_for_anonymous(
    channel: grpc.aio.Channel, rpc: Rpc, header: str
) -> None:
    data = good_request(rpc, "unknown").SerializeToString()
    async with nothing_stored(channel):
        refusal = await refused(rpc.call(channel, data, metadata=(("authorization", header),)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    secret = header.removeprefix("Bearer").strip()
    assert not secret or secret not in refusal.message


@pytest.mark.parametrize("joined", [False, True], ids=["two_entries", "joined_by_a_proxy"])
async def test_two_different_tokens_are_refused(
    bus: BusStub, agents: AgentStub, name: str, joined: bool
) -> None:
    one, other = [(await register(agents, f"{name}-{n}")).token for n in (1, 2)]
    for tokens in ((one, other), (one, "x" * 43), ("x" * 43, one), (one, one, other), (one, "")):
        entries = [f"Bearer {token}" for token in tokens]
        entries = [", ".join(entries)] if joined else entries
        metadata = tuple(("authorization", entry) for entry in entries)
        refusal = await refused(bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        assert "several `authorization` entries" in refusal.message
        assert one not in refusal.message


@pytest.mark.parametrize("joined", [False, True], ids=["two_entries", "joined_by_a_proxy"])
async def test_one_token_sent_twice_is_accepted(
    bus: BusStub, agents: AgentStub, name: str, joined: bool
) -> None:
    entries = [f"Bearer {(await register(agents, name)).token}"] * 2
    entries = [", ".join(entries)] if joined else entries
    metadata = tuple(("authorization", entry) for entry in entries)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)
    assert info.agent == name


async def test_the_token_is_checked_before_the_request(channel: grpc.aio.Channel) -> None:
    for rpc in RPCS:
        call = rpc.call(channel, b"\xff", metadata=(("authorization", "Bearer unknown"),))
        refusal = await refused(call)
        assert refusal.reason == "TOKEN_INVALID", (rpc, refusal)


async def test_registering_again_with_the_same_token_is_safe(agents: AgentStub, name: str) -> None:
    request = RegisterAgentRequest(agent=name, description="first", token=secrets.token_hex(16))
    first = await agents.RegisterAgent(request)
    assert first.created
    for request.description in ("first", "second"):
        again = await agents.RegisterAgent(request)
        assert (again.created, again.token) == (False, first.token)
        assert as_registered(again.agent) == as_registered(first.agent)


async def test_registering_again_with_the_servers_own_token_is_safe(
    agents: AgentStub, name: str
) -> None:
    first = await agents.RegisterAgent(RegisterAgentRequest(agent=name))
    again = await agents.RegisterAgent(RegisterAgentRequest(agent=name, token=first.token))
    assert (first.created, again.created) == (True, False)
    assert again.token == first.token
    assert as_registered(again.agent) == as_registered(first.agent)


@pytest.mark.parametrize("token", ["", "x" * 32])
async def test_a_registered_name_is_not_given_to_another_token(
    channel: grpc.aio.Channel, agents: AgentStub, bus: BusStub, name: str, token: str
) -> None:
    agent = await register(agents, name)
    async with nothing_stored(channel):
        refusal = await refused(agents.RegisterAgent(RegisterAgentRequest(agent=name, token=token)))
    assert refusal.reason == "AGENT_EXISTS"
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=agent.metadata)
    assert info.agent == name


async def test_one_token_cannot_be_two_agents(
    channel: grpc.aio.Channel, agents: AgentStub, server: ServerProcess, name: str
) -> None:
    agent = await register(agents, name)
    for taken in (agent.token, operator(server).token):
        async with nothing_stored(channel):
            refusal = await refused(
                agents.RegisterAgent(RegisterAgentRequest(agent=f"{name}-2", token=taken))
            )
        assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["token"])


async def test_of_concurrent_registrations_of_a_name_one_wins(
    agents: AgentStub, bus: BusStub, name: str
) -> None:
    answers = await asyncio.gather(
        *(agents.RegisterAgent(RegisterAgentRequest(agent=name)) for _ in range(16)),
        return_exceptions=True,
    )
    (won,) = (answer for answer in answers if not isinstance(answer, BaseException))
    lost = [error.code() for error in answers if isinstance(error, grpc.aio.AioRpcError)]
    assert lost == [grpc.StatusCode.ALREADY_EXISTS] * 15
    metadata = Caller(name, won.token).metadata
    assert (await bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)).agent == name


async def test_tokens_that_the_server_makes_differ(agents: AgentStub, name: str) -> None:
    tokens = {(await register(agents, f"{name}-{n}")).token for n in range(10)}
    assert len(tokens) == 10
    assert min(map(len, tokens)) >= 32


async def test_an_agent_is_read_by_its_name_or_by_its_token(
    agents: AgentStub, server: ServerProcess, name: str
) -> None:
    agent = await register(agents, name)
    by_token = await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
    assert by_token.agent.name == name
    lasting = as_registered(by_token.agent)
    for metadata in ((), agent.metadata, operator(server).metadata):
        by_name = await agents.GetAgent(GetAgentRequest(agent=name), metadata=metadata)
        assert as_registered(by_name.agent) == lasting


async def test_anonymous_and_the_operator_can_ask_who_they_are(
    agents: AgentStub, server: ServerProcess
) -> None:
    nobody = (await agents.GetAgent(GetAgentRequest())).agent
    assert nobody == Agent(name="anonymous", kind=AGENT_KIND_ANONYMOUS)
    boss = await agents.GetAgent(GetAgentRequest(), metadata=operator(server).metadata)
    assert (boss.agent.name, boss.agent.kind) == ("operator", AGENT_KIND_HUMAN)


@pytest.mark.own_server
async def test_agents_are_listed_by_name_page_by_page(agents: AgentStub, name: str) -> None:
    wanted = [f"{name}-{n:02}" for n in range(10)]
    for agent in reversed(wanted):
        await register(agents, agent)
    listed: list[str] = []
    request = ListAgentsRequest(page_size=3)
    for _ in range(1_000):
        page = await agents.ListAgents(request)
        assert len(page.agents) <= 3
        listed += [agent.name for agent in page.agents]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert listed == sorted(set(listed))
    assert [agent for agent in listed if agent.startswith(name)] == wanted
    whole = await agents.ListAgents(ListAgentsRequest())
    assert [agent.name for agent in whole.agents] == listed
    assert whole.next_page_token == ""
