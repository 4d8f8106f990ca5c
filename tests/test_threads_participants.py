"""The participants of a thread: agents that joined, posted, or were mentioned or handed to."""

import pytest

from tests.callers import operator, register
from tests.participation import join, participants, position, report_read
from tests.peers import Peer, recreate, registered
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_HUMAN,
    AGENT_KIND_UNSPECIFIED,
)
from threadbus.v1.bus_service_pb2 import ListMessagesRequest
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    ListParticipantsRequest,
)


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def test_a_new_thread_has_no_participants(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await Peer(bus).post(thread)
    await Peer(bus).read(thread)
    await join(threads, thread, Peer(bus))
    assert await participants(threads, thread) == {}


async def test_joining_posting_or_being_addressed_makes_a_participant(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    joining, posting, mentioned, handed_to, reading = [
        await registered(agents, bus, name) for name in ("c", "b", "d", "a", "e")
    ]
    await join(threads, thread, joining)
    answer = await posting.post(thread, mentions=[mentioned.name], handoff_to=handed_to.name)
    await reading.read(thread)
    found = await participants(threads, thread)
    assert list(found) == [peer.name for peer in (handed_to, posting, joining, mentioned)]
    for peer in (posting, mentioned, handed_to):
        assert found[peer.name].join_time == answer.create_time
    since = found[joining.name].join_time.ToMicroseconds()
    assert 0 < answer.create_time.ToMicroseconds() - since < 60_000_000


async def test_each_participant_is_listed_with_its_kind(
    threads: ThreadStub, agents: AgentStub, bus: BusStub, server: ServerProcess, thread: str,
    agent: Peer, name: str,
) -> None:  # fmt: skip
    boss = Peer(bus, operator(server))
    await register(agents, name, boss.caller, AGENT_KIND_HUMAN)
    await agent.post(thread, mentions=[name])
    await boss.post(thread)
    kinds = {name: found.kind for name, found in (await participants(threads, thread)).items()}
    assert kinds == {
        agent.name: AGENT_KIND_AGENT,
        name: AGENT_KIND_HUMAN,
        "operator": AGENT_KIND_UNSPECIFIED,  # not a registered agent
    }


async def test_an_agent_posted_for_becomes_a_participant_and_the_operator_does_not(
    threads: ThreadStub, bus: BusStub, server: ServerProcess, thread: str, name: str
) -> None:
    await Peer(bus, operator(server)).post(thread, on_behalf_of=name)
    assert list(await participants(threads, thread)) == [name]


async def test_a_refused_post_makes_no_participant(
    threads: ThreadStub, thread: str, agent: Peer
) -> None:
    await refused(agent.post(thread, expected_last_seq=7, mentions=[agent.name]))
    assert await participants(threads, thread) == {}


async def test_participants_are_listed_page_by_page(
    threads: ThreadStub, agents: AgentStub, bus: BusStub, thread: str
) -> None:
    names = [(await registered(agents, bus, "agent")).name for _ in range(7)]
    await Peer(bus).post(thread, mentions=names)
    listed: list[str] = []
    request = ListParticipantsRequest(thread=thread, page_size=3)
    for expected in (3, 3, 1):
        page = await threads.ListParticipants(request)
        assert len(page.participants) == expected
        listed += [participant.agent for participant in page.participants]
        request.page_token = page.next_page_token
    assert (listed, request.page_token) == (sorted(names), "")
    request.page_size = 7
    whole = await threads.ListParticipants(request)
    assert (len(whole.participants), whole.next_page_token) == (7, "")


# ── Positions ───────────────────────────────────────────────────────────────────────────────────


async def test_a_reported_read_position_is_visible_at_once(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await Peer(bus).post_all(thread, "1", "2", "3", "4")
    await agent.post(thread, based_on_seq=1)
    assert await position(threads, thread, agent) == (0, 1)
    await report_read(bus, agent, thread, 3)
    assert await position(threads, thread, agent) == (0, 3)
    await report_read(bus, agent, thread, 2)
    await agent.post(thread, based_on_seq=2)
    assert await position(threads, thread, agent) == (0, 3)  # it never falls
    await report_read(bus, agent, thread, 7)
    assert await position(threads, thread, agent) == (0, 3)  # nor passes the head


async def test_a_newcomers_read_position_is_where_it_starts(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    at_head, at_first, mentioned = [await registered(agents, bus, "agent") for _ in range(3)]
    await Peer(bus).post_all(thread, "1", "2")
    await join(threads, thread, at_head)
    await join(threads, thread, at_first, start=JOIN_START_FIRST)
    await Peer(bus).post(thread, mentions=[mentioned.name])
    assert await position(threads, thread, at_head) == (0, 2)
    assert await position(threads, thread, at_first) == (0, 0)
    assert await position(threads, thread, mentioned) == (0, 0)


async def test_messages_sent_by_a_wait_count_as_delivered(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post_all(thread, "1", "2")
    await agent.read(Cursor(thread=thread, after_seq=1))
    assert await position(threads, thread, agent) == (2, 0)
    async with agent.wait(thread) as frames:
        await frames.until("caught_up")
        await Peer(bus).post(thread, "3")
        await frames.messages(1)

        async def delivered() -> bool:
            return await position(threads, thread, agent) == (3, 0)

        await until_known(delivered)  # after the write, perhaps after the read
    await agent.read(thread, max_messages=1)
    assert await position(threads, thread, agent) == (3, 0)  # it never falls


async def test_messages_returned_by_a_list_count_as_delivered(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post_all(thread, "1", "2", "3", "4")
    for request, delivered in (
        (ListMessagesRequest(thread=thread, after_seq=4), 0),
        (ListMessagesRequest(thread=thread, limit=2), 2),
        (ListMessagesRequest(thread=thread, after_seq=2, before_seq=4, newest=True), 3),
        (ListMessagesRequest(thread=thread, limit=1), 3),
    ):
        await bus.ListMessages(request, metadata=agent.metadata)
        assert await position(threads, thread, agent) == (delivered, 0)
    await bus.ListMessages(ListMessagesRequest(thread=thread))  # by another caller
    assert await position(threads, thread, agent) == (3, 0)


async def test_filtered_messages_do_not_count_as_delivered(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await Peer(bus).post_all(thread, "1", "2")
    await agent.post(thread, "3")
    others = MessageFilter(exclude_own=True)
    request = ListMessagesRequest(thread=thread, filter=others)
    await bus.ListMessages(request, metadata=agent.metadata)
    await agent.read(thread, filter=others)
    assert await position(threads, thread, agent) == (2, 0)


async def test_a_recreated_thread_has_no_participants_and_ignores_old_positions(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await agent.post_all(thread, "1", "2", "3")
    await report_read(bus, agent, thread, 3)
    await agent.read(thread)
    assert await position(threads, thread, agent) == (3, 3)
    await recreate(threads, thread)
    assert await participants(threads, thread) == {}
    await Peer(bus).post_all(thread, "1", "2", "3")
    await agent.post(thread, "4")  # right after the last message that it has read
    assert await position(threads, thread, agent) == (0, 0)


@pytest.mark.own_server
@pytest.mark.slow
async def test_participants_are_the_same_after_a_restart(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer, server: ServerProcess
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post_all(thread, "1", "2", "3")
    await agent.read(thread)
    await report_read(bus, agent, thread, 2)
    before = await participants(threads, thread)
    assert await position(threads, thread, agent) == (3, 2)
    server.stop()
    server.start()
    after = await participants(threads, thread, wait_for_ready=True)
    assert after == before


# ── In JoinThread ───────────────────────────────────────────────────────────────────────────────


async def test_joining_returns_the_participants_the_caller_included(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str, agent: Peer
) -> None:
    another = await registered(agents, bus, "another")
    await another.post(thread)
    await report_read(bus, another, thread, 1)
    joined = await join(threads, thread, agent)
    found = await participants(threads, thread)
    assert list(joined.participants) == list(found.values())
    assert list(found) == [another.name, agent.name]
    assert found[another.name].read_seq == 1
    unnamed = await join(threads, thread, Peer(bus))
    assert list(unnamed.participants) == list(found.values())


async def test_joining_a_crowded_thread_returns_a_hundred_the_caller_among_them(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    crowd = sorted([(await registered(agents, bus, "agent")).name for _ in range(101)])
    late = await registered(agents, bus, "zoe")
    for first in range(0, len(crowd), 32):
        await Peer(bus).post(thread, mentions=crowd[first : first + 32])
    joined = await join(threads, thread, late)
    assert [participant.agent for participant in joined.participants] == [*crowd[:99], late.name]
    unnamed = await join(threads, thread, Peer(bus))
    assert [participant.agent for participant in unnamed.participants] == crowd[:100]
