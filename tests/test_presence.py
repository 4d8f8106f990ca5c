"""An agent's presence follows the newest evidence: calls, heartbeats, waits and deliveries."""

import pytest

from tests.callers import Caller, operator, register
from tests.peers import Peer
from tests.presence import beat, seen, state, until_state
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import Frames, waiting
from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
    Presence,
)
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, JoinThreadRequest


@pytest.fixture
async def agent(agents: AgentStub, name: str) -> Caller:
    """A newly registered agent that has not called yet."""
    return await register(agents, name)


async def handed(frames: Frames, bus: BusStub, thread: str) -> None:
    """Post a message; return when the wait has it."""
    await Peer(bus).post(thread, "work to do")
    await frames.messages(1)


async def test_registering_is_a_sign_of_life_of_the_agent_that_does_it(
    agents: AgentStub, name: str
) -> None:
    request = RegisterAgentRequest(agent=name, token=f"{name}-a-token-that-is-long-enough")
    registered = (await agents.RegisterAgent(request)).agent
    assert registered.presence == PRESENCE_IDLE
    assert registered.HasField("last_seen_time")
    assert await state(agents, name) == "IDLE"
    metadata = (("authorization", f"Bearer {request.token}"),)
    await agents.EndSession(EndSessionRequest(), metadata=metadata)
    assert (await agents.RegisterAgent(request)).agent.presence == PRESENCE_IDLE


@pytest.mark.parametrize("by", ["operator", "agent"])
async def test_an_agent_registered_by_another_was_never_seen(
    agents: AgentStub, agent: Caller, server: ServerProcess, by: str
) -> None:
    other = operator(server) if by == "operator" else agent
    registered = await register(agents, f"{agent.name}-other", other)
    found = await seen(agents, registered.name)
    assert found.presence == PRESENCE_UNSPECIFIED
    assert not found.HasField("last_seen_time")


async def test_any_call_makes_an_agent_idle(agents: AgentStub, agent: Caller) -> None:
    await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
    found = await seen(agents, agent.name)
    assert found.presence == PRESENCE_IDLE
    assert found.last_seen_time.ToMicroseconds() >= found.create_time.ToMicroseconds()


async def test_an_open_wait_is_waiting_and_its_end_is_idle(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        assert await state(agents, agent.name) == "WAITING"
    await until_state(agents, agent.name, "IDLE")


async def test_a_delivery_is_work_until_it_is_read(
    agents: AgentStub, bus: BusStub, threads: ThreadStub, agent: Caller, thread: str
) -> None:
    await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        await handed(frames, bus, thread)
        await handed(frames, bus, thread)
        assert await state(agents, agent.name) == "WORKING"
        await beat(bus, agent, read_cursors=[Cursor(thread=thread, after_seq=1)])
        assert await state(agents, agent.name) == "WORKING"
        await beat(bus, agent, read_cursors=[Cursor(thread=thread, after_seq=2)])
        assert await state(agents, agent.name) == "WAITING"


async def test_what_an_agent_that_is_no_participant_reports_as_read_is_ignored(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        await handed(frames, bus, thread)
        await beat(bus, agent, read_cursors=[Cursor(thread=thread, after_seq=1)])
        assert await state(agents, agent.name) == "WORKING"


async def test_a_delivery_is_work_until_the_agent_posts_there(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        await handed(frames, bus, thread)
        assert await state(agents, agent.name) == "WORKING"
        await Peer(bus, agent).post(thread, "done")
        assert await state(agents, agent.name) == "WAITING"


async def test_work_goes_on_after_the_wait_until_the_next_one(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus).post(thread, "work to do")
    async with waiting(bus, thread, max_wait=0, metadata=agent.metadata) as frames:
        await frames.ending()
    assert await state(agents, agent.name) == "WORKING"
    after = Cursor(thread=thread, after_seq=1)
    async with waiting(bus, after, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        assert await state(agents, agent.name) == "WAITING"


async def test_a_delivery_of_its_own_messages_is_no_work(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus, agent).post(thread, "said before")
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.messages(1)
        assert await state(agents, agent.name) == "WAITING"
        await Peer(bus, agent).post(thread, "hear me")
        await frames.messages(1)
        assert await state(agents, agent.name) == "WAITING"


async def test_reading_a_page_is_no_work(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await Peer(bus).post(thread, "history")
    await bus.ListMessages(ListMessagesRequest(thread=thread), metadata=agent.metadata)
    assert await state(agents, agent.name) == "IDLE"


async def test_work_on_one_thread_is_not_ended_by_another(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str, threads: ThreadStub
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await handed(frames, bus, thread)
        elsewhere = f"{thread}-elsewhere"
        await threads.CreateThread(CreateThreadRequest(thread=elsewhere))
        await Peer(bus, agent).post(elsewhere, "asking somebody")
        async with waiting(bus, elsewhere, metadata=agent.metadata) as other:
            await other.until("caught_up")
            assert await state(agents, agent.name) == "WORKING"


@pytest.mark.parametrize(
    "said", [PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE, PRESENCE_AWAITING_HUMAN]
)
async def test_an_agent_has_the_state_that_it_reports(
    agents: AgentStub, bus: BusStub, agent: Caller, said: Presence.ValueType
) -> None:
    await beat(bus, agent, state=said, status_text="on it")
    await beat(bus, agent, status_text="still on it")
    found = await seen(agents, agent.name)
    assert (found.presence, found.status_text) == (said, "still on it")


async def test_later_evidence_outweighs_a_reported_state(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN)
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await frames.until("caught_up")
        assert await state(agents, agent.name) == "WAITING"
        await beat(bus, agent, state=PRESENCE_IDLE)
        assert await state(agents, agent.name) == "IDLE"
        await handed(frames, bus, thread)
        assert await state(agents, agent.name) == "WORKING"
        await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN)
        assert await state(agents, agent.name) == "AWAITING_HUMAN"


async def test_an_ended_session_is_offline_until_the_next_call(
    agents: AgentStub, bus: BusStub, agent: Caller
) -> None:
    await beat(bus, agent, status_text="last words")
    await agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
    assert await state(agents, agent.name) == "OFFLINE"
    await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
    assert await state(agents, agent.name) == "IDLE"


async def test_a_post_on_behalf_of_an_agent_is_no_activity_of_its_own(
    agents: AgentStub, bus: BusStub, name: str, thread: str, server: ServerProcess
) -> None:
    request = PostMessageRequest(thread=thread, content="for it", on_behalf_of=name)
    await bus.PostMessage(request, metadata=operator(server).metadata)
    assert await state(agents, name) == "UNSPECIFIED"


async def test_a_post_on_behalf_of_an_agent_does_not_end_its_work(
    agents: AgentStub, bus: BusStub, agent: Caller, thread: str, server: ServerProcess
) -> None:
    async with waiting(bus, thread, metadata=agent.metadata) as frames:
        await handed(frames, bus, thread)
        request = PostMessageRequest(thread=thread, content="for it", on_behalf_of=agent.name)
        await bus.PostMessage(request, metadata=operator(server).metadata)
        await frames.messages(1)
        assert await state(agents, agent.name) == "WORKING"


async def test_agents_are_listed_by_presence(
    agents: AgentStub, bus: BusStub, agent: Caller, server: ServerProcess
) -> None:
    unseen = await register(agents, f"{agent.name}-unseen", operator(server))
    await beat(bus, agent, state=PRESENCE_AWAITING_HUMAN)

    async def found(*presences: Presence.ValueType) -> set[str]:
        names: set[str] = set()
        request = ListAgentsRequest(presences=presences, page_size=1)
        while True:
            page = await agents.ListAgents(request)
            names |= {one.name for one in page.agents}
            if not page.next_page_token:
                return names & {agent.name, unseen.name}
            request.page_token = page.next_page_token

    assert await found(PRESENCE_AWAITING_HUMAN) == {agent.name}
    assert await found(PRESENCE_UNSPECIFIED) == {unseen.name}
    assert await found(PRESENCE_WORKING) == set()
    assert await found() == {agent.name, unseen.name}


async def test_anonymous_has_no_presence(bus: BusStub, agents: AgentStub) -> None:
    answer = await bus.Heartbeat(HeartbeatRequest(state=PRESENCE_WORKING))
    assert not answer.HasField("expire_time")
    found = (await agents.GetAgent(GetAgentRequest())).agent
    assert (found.name, found.presence) == ("anonymous", PRESENCE_UNSPECIFIED)


async def test_a_heartbeat_returns_when_the_next_is_due_and_when_the_lease_ends(
    bus: BusStub, agent: Caller
) -> None:
    plain = await beat(bus, agent)
    assert (plain.heartbeat_interval.seconds, plain.agent_timeout.seconds) == (40, 60)
    long = await beat(bus, agent, lease=600)
    longest = await beat(bus, agent, lease=100_000)
    ends = [answer.expire_time.ToMicroseconds() / 1e6 for answer in (plain, long, longest)]
    assert 500 < ends[1] - ends[0] < 580
    assert 2_900 < ends[2] - ends[1] < 3_050


async def test_a_heartbeat_returns_unread_threads(
    bus: BusStub, agent: Caller, thread: str, threads: ThreadStub
) -> None:
    other = f"{thread}-other"
    for name in (thread, other):
        request = JoinThreadRequest(thread=name, create=True)
        await threads.JoinThread(request, metadata=agent.metadata)
        await Peer(bus).post(name, "news")
    unread = (await beat(bus, agent)).unread
    assert [(u.thread, u.head_seq, u.read_seq) for u in unread] == [(other, 1, 0), (thread, 1, 0)]
    unread = (await beat(bus, agent, read_cursors=[Cursor(thread=other, after_seq=1)])).unread
    assert [u.thread for u in unread] == [thread]
