"""An agent's own entries count as read if it has read all entries before them."""

import pytest

from tests.callers import operator
from tests.participation import join, position, report_read
from tests.peers import Peer, registered, set_state
from tests.presence import beat
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import UpdateThreadRequest


@pytest.fixture
async def agent(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "agent")


async def read_seq(threads: ThreadStub, thread: str, agent: Peer) -> int:
    """Returns an agent's read_seq, as other callers see it."""
    return (await position(threads, thread, agent))[1]


async def unread(bus: BusStub, agent: Peer) -> list[tuple[str, int, int]]:
    """Returns the agent's unread threads, as it sees them itself."""
    assert agent.caller
    told = (await beat(bus, agent.caller)).unread
    return [(found.thread, found.head_seq, found.read_seq) for found in told]


async def test_own_messages_are_read(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await agent.post_all(thread, "1", "2", "3")
    assert await read_seq(threads, thread, agent) == 3
    assert await unread(bus, agent) == []


async def test_an_agent_that_joined_at_the_head_has_read_its_next_message(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await Peer(bus).post_all(thread, "1", "2")
    await join(threads, thread, agent)
    await agent.post(thread)
    assert await read_seq(threads, thread, agent) == 3


async def test_messages_of_others_stay_unread(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post(thread)
    await agent.post_all(thread, "2", "3")
    assert await read_seq(threads, thread, agent) == 0
    assert await unread(bus, agent) == [(thread, 3, 0)]


async def test_an_agent_that_was_only_mentioned_has_not_read_the_mention(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await Peer(bus).post(thread, mentions=[agent.name])
    await agent.post(thread)
    assert await read_seq(threads, thread, agent) == 0


@pytest.mark.parametrize("how", ["reported", "with the post"])
async def test_a_read_position_just_reported_counts(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str, how: str
) -> None:
    await Peer(bus).post_all(thread, "1", "2")
    await join(threads, thread, agent, start="JOIN_START_FIRST")
    if how == "reported":  # and not saved yet
        await report_read(bus, agent, thread, 2)
        await agent.post(thread)
    else:
        await agent.post(thread, based_on_seq=2)
    assert await read_seq(threads, thread, agent) == 3
    assert (await join(threads, thread, agent)).cursor.after_seq == 3


async def test_a_read_position_that_was_reported_by_no_participant_never_counts(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await Peer(bus).post_all(thread, "1", "2")
    await report_read(bus, agent, thread, 2)
    await agent.post(thread)  # before a checkpoint
    assert await read_seq(threads, thread, agent) == 0
    assert await unread(bus, agent) == [(thread, 3, 0)]
    assert (await join(threads, thread, agent)).cursor.after_seq == 0  # saves what is unsaved
    await report_read(bus, agent, thread, 2)
    assert await read_seq(threads, thread, agent) == 2


async def test_posts_of_a_batch_are_read_up_to_the_first_of_another(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await Peer(bus).post(thread)
    await join(threads, thread, agent, start="JOIN_START_FIRST")
    await report_read(bus, agent, thread, 1)
    posts = [PostMessageRequest(thread=thread, content=str(n)) for n in range(30)]
    batch = PostMessagesRequest(posts=[*posts, PostMessageRequest(thread=thread), *posts])
    stream = bus.PostMessages(iter([batch]), metadata=agent.metadata)
    (answer,) = [answer async for answer in stream]
    assert answer.results[-1].response.seq == 61
    assert await read_seq(threads, thread, agent) == 61


async def test_edits_count_as_entries(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await agent.post(thread, "teh")
    await agent.post(thread, "the", edit_of=1)
    assert await read_seq(threads, thread, agent) == 2


async def test_entries_about_the_thread_are_read_by_the_agent_that_made_them(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await Peer(bus).post(thread)
    await join(threads, thread, agent, start="JOIN_START_FIRST")
    await report_read(bus, agent, thread, 1)
    update = UpdateThreadRequest(thread=thread, topic="x")
    update.update_mask.paths.append("topic")
    await threads.UpdateThread(update, metadata=agent.metadata)
    assert await read_seq(threads, thread, agent) == 2
    await set_state(threads, thread, THREAD_STATE_CLOSED, by=agent)
    assert await read_seq(threads, thread, agent) == 3
    assert await unread(bus, agent) == []


async def test_changing_a_thread_makes_no_participant(
    bus: BusStub, threads: ThreadStub, agent: Peer, thread: str
) -> None:
    await set_state(threads, thread, THREAD_STATE_CLOSED, by=agent)
    assert await unread(bus, agent) == []
    assert (await join(threads, thread, agent, start="JOIN_START_FIRST")).cursor.after_seq == 0


async def test_posts_on_behalf_of_an_agent_are_its_own(
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    thread: str,
    server: ServerProcess,
) -> None:
    """Otherwise it would stay unread: it is never delivered to the agent."""
    agent, boss = await registered(agents, bus, "away"), Peer(bus, operator(server))
    await join(threads, thread, agent)
    await boss.post(thread, on_behalf_of=agent.name)
    assert await read_seq(threads, thread, agent) == 1
