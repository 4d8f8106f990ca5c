"""What operators do about an agent: replace its lost token, and end its session."""

import grpc
import pytest

from tests.callers import Caller, operator, register
from tests.peers import Peer
from tests.presence import state
from tests.refusals import refused
from tests.rpcs import nothing_stored, send
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import PRESENCE_OFFLINE, PRESENCE_UNSPECIFIED
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    EndSessionResponse,
    GetAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, HeartbeatRequest, WaitEnding
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import JOIN_START_FIRST, JoinThreadRequest


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The server's operator."""
    return operator(server)


async def reset(agents: AgentStub, name: str, by: Caller, grace: int = 0) -> Caller:
    """Replace an agent's tokens. Returns the agent with the new one."""
    request = RotateTokenRequest(agent=name)
    request.grace.seconds = grace
    answer = await agents.RotateToken(request, metadata=by.metadata)
    return Caller(name, answer.token)


async def test_an_operator_gives_an_agent_a_new_token_and_the_old_ones_end(
    bus: BusStub, agents: AgentStub, boss: Caller, name: str, thread: str
) -> None:
    lost = await register(agents, name)
    async with Peer(bus, lost).wait(thread) as frames:
        await frames.until("caught_up")
        found = await reset(agents, name, boss)
        refusal = await refused(frames.failure())
    assert refusal.reason == "TOKEN_EXPIRED"
    refusal = await refused(Peer(bus, lost).post(thread))
    assert refusal.reason == "TOKEN_EXPIRED"
    assert (await Peer(bus, found).post(thread)).seq == 1
    again = await reset(agents, name, boss, grace=60)
    for each in (found, again):
        info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=each.metadata)
        assert info.agent == name


async def test_an_agent_without_a_token_gets_one(
    bus: BusStub, agents: AgentStub, boss: Caller, name: str, thread: str
) -> None:
    await Peer(bus, boss).post(thread, on_behalf_of=name)
    found = await reset(agents, name, boss)
    assert (await Peer(bus, found).post(thread)).seq == 2


async def test_an_operator_ends_the_session_of_an_agent(
    bus: BusStub, agents: AgentStub, boss: Caller, name: str, thread: str
) -> None:
    agent = await register(agents, name)
    async with Peer(bus, agent).wait(thread) as frames:
        await frames.until("caught_up")
        assert await state(agents, name) == "WAITING"
        await agents.EndSession(EndSessionRequest(agent=name), metadata=boss.metadata)
        ending = await frames.ending()
    assert ending.reason == WaitEnding.REASON_SESSION_ENDED
    assert await state(agents, name) == "OFFLINE"
    assert (await Peer(bus, agent).post(thread)).seq == 1  # it may come back


async def test_the_end_of_a_session_by_an_operator_is_no_sign_of_life(
    agents: AgentStub, boss: Caller, name: str
) -> None:
    agent = await register(agents, name, boss)
    await agents.EndSession(EndSessionRequest(agent=name), metadata=boss.metadata)
    never = (await agents.GetAgent(GetAgentRequest(agent=name))).agent
    assert (never.presence, never.HasField("last_seen_time")) == (PRESENCE_UNSPECIFIED, False)
    await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
    seen = (await agents.GetAgent(GetAgentRequest(agent=name))).agent
    await agents.EndSession(EndSessionRequest(agent=name), metadata=boss.metadata)
    ended = (await agents.GetAgent(GetAgentRequest(agent=name))).agent
    assert ended.presence == PRESENCE_OFFLINE
    assert ended.last_seen_time == seen.last_seen_time


@pytest.mark.own_server
async def test_a_name_that_is_registered_again_has_none_of_the_old_read_positions(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, boss: Caller, name: str, thread: str
) -> None:
    gone = await register(agents, name)
    for _ in range(5):
        await Peer(bus, boss).post(thread)
    join = JoinThreadRequest(thread=thread, start=JOIN_START_FIRST)
    await threads.JoinThread(join, metadata=gone.metadata)
    read = HeartbeatRequest(read_cursors=[Cursor(thread=thread, after_seq=5)])
    await bus.Heartbeat(read, metadata=gone.metadata)
    await agents.UnregisterAgent(UnregisterAgentRequest(agent=name), metadata=boss.metadata)
    back = await register(agents, name, boss)
    joined = await threads.JoinThread(join, metadata=back.metadata)
    assert joined.cursor.after_seq == 0
    (position,) = [each for each in joined.participants if each.agent == name]
    assert (position.read_seq, position.delivered_seq) == (0, 0)


@pytest.mark.parametrize("itself", [True, False])
async def test_agents_may_only_name_themselves(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, name: str, itself: bool
) -> None:
    agent, other = await register(agents, f"{name}-1"), await register(agents, f"{name}-2")
    ending = EndSessionRequest(agent=(agent if itself else other).name)
    rotating = RotateTokenRequest(agent=ending.agent)
    if itself:
        answer = await agents.EndSession(ending, metadata=agent.metadata)
        assert answer == EndSessionResponse()
        assert (await agents.RotateToken(rotating, metadata=agent.metadata)).token
        return
    async with nothing_stored(channel):
        for request in (ending, rotating):
            refusal = await refused(send(channel, request, agent.metadata))
            assert refusal.reason == "ACCESS_DENIED"
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=other.metadata)
    assert info.agent == other.name


async def test_an_unknown_agent_is_an_error(
    channel: grpc.aio.Channel, boss: Caller, name: str
) -> None:
    async with nothing_stored(channel):
        for request in (EndSessionRequest(agent=name), RotateTokenRequest(agent=name)):
            refusal = await refused(send(channel, request, boss.metadata))
            assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", name)])


@pytest.mark.parametrize("name", ["", "operator"])
async def test_an_operator_does_not_reset_itself(
    bus: BusStub, agents: AgentStub, boss: Caller, name: str
) -> None:
    request = RotateTokenRequest(agent=name)
    refusal = await refused(agents.RotateToken(request, metadata=boss.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["agent"])
    assert "by deleting the file" in refusal.message
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=boss.metadata)
    assert info.agent == "operator"


@pytest.mark.parametrize("name", ["Upper", "x" * 64, "a\0b"])
async def test_an_invalid_name_is_refused(
    channel: grpc.aio.Channel, boss: Caller, name: str
) -> None:
    for request in (EndSessionRequest(agent=name), RotateTokenRequest(agent=name)):
        refusal = await refused(send(channel, request, boss.metadata))
        assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["agent"])
