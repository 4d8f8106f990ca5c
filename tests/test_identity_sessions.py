"""EndSession: an agent goes offline until its next call."""

import pytest

from tests.callers import operator
from tests.peers import Peer, registered
from tests.rpcs import pages
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_OFFLINE,
    PRESENCE_WAITING,
    Agent,
    Presence,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest, GetAgentRequest, ListAgentsRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, HeartbeatRequest, WaitEnding
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, ListParticipantsRequest


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def end_session(agents: AgentStub, peer: Peer) -> None:
    await agents.EndSession(EndSessionRequest(), metadata=peer.metadata)


async def shown(agents: AgentStub, name: str) -> Agent:
    return (await agents.GetAgent(GetAgentRequest(agent=name))).agent


async def presence(agents: AgentStub, peer: Peer) -> Presence.ValueType:
    return (await shown(agents, peer.name)).presence


async def test_an_agent_that_ends_its_session_is_offline_at_once(
    agents: AgentStub, bus: BusStub, agent: Peer
) -> None:
    beat = HeartbeatRequest(state=PRESENCE_AWAITING_HUMAN, status_text="stuck")
    beat.lease.FromSeconds(3_600)
    await bus.Heartbeat(beat, metadata=agent.metadata)
    assert await presence(agents, agent) == PRESENCE_AWAITING_HUMAN
    for _ in range(2):
        await end_session(agents, agent)
        assert await presence(agents, agent) == PRESENCE_OFFLINE
    offline = ListAgentsRequest(presences=[PRESENCE_OFFLINE], page_size=1_000)
    listed = await pages(agents.ListAgents, offline)
    assert agent.name in [found.name for page in listed for found in page.agents]


async def test_an_agents_waits_end_with_its_session_and_carry_all_cursors(
    agents: AgentStub, bus: BusStub, threads: ThreadStub, thread: str, agent: Peer
) -> None:
    another, second = await registered(agents, bus, "another"), f"{thread}-2"
    await threads.CreateThread(CreateThreadRequest(thread=second))
    async with (
        agent.wait(thread) as one,
        agent.wait(second, thread, include_participants=True) as two,
        another.wait(thread) as others,
        Peer(bus).wait(thread) as anybodys,
    ):
        for frames in (one, two, others, anybodys):
            await frames.until("caught_up")
        await Peer(bus).post(thread, "before")
        for frames in (one, two, others, anybodys):
            await frames.messages(1)
        await end_session(agents, agent)
        for frames, after in ((one, {thread: 1}), (two, {second: 0, thread: 1})):
            rest = await frames.rest()
            ending = rest[-1].ending
            assert (ending.reason, messages_in(rest)) == (WaitEnding.REASON_SESSION_ENDED, [])
            cursors = [position.cursor for position in ending.threads]
            assert {cursor.thread: cursor.after_seq for cursor in cursors} == after
            assert not ending.HasField("retry_delay")
        assert await presence(agents, agent) == PRESENCE_OFFLINE
        await Peer(bus).post(thread, "after")
        for frames in (others, anybodys):
            assert [message.content for message in await frames.messages(1)] == ["after"]


async def test_an_offline_agent_is_still_a_participant(
    agents: AgentStub, threads: ThreadStub, thread: str, agent: Peer
) -> None:
    await agent.post(thread)
    await end_session(agents, agent)
    answer = await threads.ListParticipants(ListParticipantsRequest(thread=thread))
    (found,) = answer.participants
    assert (found.agent, found.presence, found.waiting) == (agent.name, PRESENCE_OFFLINE, False)


@pytest.mark.parametrize("call", ["GetServerInfo", "PostMessage", "Heartbeat"])
async def test_any_later_call_brings_it_back(
    agents: AgentStub, bus: BusStub, thread: str, agent: Peer, call: str
) -> None:
    await end_session(agents, agent)
    if call == "PostMessage":
        await agent.post(thread)
    elif call == "Heartbeat":
        await bus.Heartbeat(HeartbeatRequest(), metadata=agent.metadata)
    else:
        await bus.GetServerInfo(GetServerInfoRequest(), metadata=agent.metadata)
    assert await presence(agents, agent) == PRESENCE_IDLE


async def test_a_wait_opened_later_is_not_ended(
    agents: AgentStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await end_session(agents, agent)
    async with agent.wait(thread) as frames:
        await frames.until("caught_up")
        assert await presence(agents, agent) == PRESENCE_WAITING
        await Peer(bus).post(thread)
        assert len(await frames.messages(1)) == 1


async def test_anonymous_has_no_session_to_end(
    agents: AgentStub, bus: BusStub, thread: str
) -> None:
    async with Peer(bus).wait(thread) as frames:
        await frames.until("caught_up")
        await end_session(agents, Peer(bus))
        await Peer(bus).post(thread)
        assert len(await frames.messages(1)) == 1


async def test_the_operators_waits_end_with_its_session(
    agents: AgentStub, bus: BusStub, thread: str, server: ServerProcess
) -> None:
    boss = Peer(bus, operator(server))
    async with boss.wait(thread) as frames:
        await frames.until("caught_up")
        await end_session(agents, boss)
        assert (await frames.ending()).reason == WaitEnding.REASON_SESSION_ENDED
