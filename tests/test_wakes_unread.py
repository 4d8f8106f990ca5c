"""What a post wakes whom for, and what is unread in a heartbeat because of it."""

import pytest

from tests.participation import join, position, report_read
from tests.peers import Peer, registered, set_state
from tests.presence import beat
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_ALL, WAKE_NOBODY
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN


@pytest.fixture
async def reader(bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str) -> Peer:
    """An agent that joined the empty thread."""
    peer = await registered(agents, bus, "reader")
    await join(threads, thread, peer)
    return peer


async def unread(bus: BusStub, peer: Peer) -> list[tuple[int, int, int]]:
    """Returns head_seq, read_seq and addressed_count of the peer's unread threads."""
    assert peer.caller
    found = (await beat(bus, peer.caller)).unread
    return [(each.head_seq, each.read_seq, each.addressed_count) for each in found]


async def test_each_post_says_whom_it_wakes(bus: BusStub, threads: ThreadStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    await anyone.post(thread, wakes=WAKE_ALL)
    await anyone.post(thread, wakes=WAKE_ADDRESSED)
    await anyone.post(thread, wakes=WAKE_NOBODY, request_id="a")
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    wakes = [WAKE_ALL, WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY, WAKE_NOBODY]
    assert [message.wakes for message in await anyone.read(thread)] == wakes
    again = await anyone.post(thread, wakes=WAKE_NOBODY, request_id="a")
    assert (again.seq, again.deduplicated) == (4, True)


async def test_each_post_of_a_stream_says_whom_it_wakes(bus: BusStub, thread: str) -> None:
    posts = [
        PostMessageRequest(thread=thread, content="x", wakes=wakes)
        for wakes in (WAKE_NOBODY, WAKE_ALL, WAKE_ADDRESSED)
    ]
    async for _ in bus.PostMessages(iter([PostMessagesRequest(posts=posts)])):
        pass
    wakes = [WAKE_NOBODY, WAKE_ALL, WAKE_ADDRESSED]
    assert [message.wakes for message in await Peer(bus).read(thread)] == wakes


async def test_an_edit_wakes_as_its_message(
    bus: BusStub, reader: Peer, agents: AgentStub, thread: str
) -> None:
    author = await registered(agents, bus, "author")
    await author.post(thread, "frist", wakes=WAKE_NOBODY)
    await author.post(thread, "first", edit_of=1, mentions=[reader.name])
    assert [message.wakes for message in await reader.read(thread)] == [WAKE_NOBODY] * 2
    assert await unread(bus, reader) == []


async def test_entries_that_wake_nobody_are_not_unread(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    await Peer(bus).post(thread, wakes=WAKE_NOBODY, mentions=[reader.name])
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    await set_state(threads, thread, THREAD_STATE_OPEN)
    await Peer(bus).post(thread, wakes=WAKE_ADDRESSED)
    assert await unread(bus, reader) == []
    await Peer(bus).post(thread)
    assert await unread(bus, reader) == [(5, 0, 0)]


async def test_an_entry_that_wakes_those_it_addresses_is_unread_for_them(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, reader: Peer, thread: str
) -> None:
    other = await registered(agents, bus, "other")
    await join(threads, thread, other)
    await reader.post(thread)
    await report_read(bus, other, thread, 1)
    await Peer(bus).post(thread, wakes=WAKE_ADDRESSED, reply_to=1)
    assert await unread(bus, reader) == [(2, 1, 1)]
    assert await unread(bus, other) == []
    await Peer(bus).post(thread, wakes=WAKE_ADDRESSED, handoff_to=other.name)
    assert await unread(bus, reader) == [(3, 1, 1)]
    assert await unread(bus, other) == [(3, 1, 1)]


async def test_what_an_agent_has_just_read_is_taken_into_account(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    """Its position is in memory: the next checkpoint will store it."""
    await Peer(bus).post(thread, mentions=[reader.name])
    await Peer(bus).post(thread, mentions=[reader.name])
    await Peer(bus).post(thread, wakes=WAKE_NOBODY)
    assert await unread(bus, reader) == [(3, 0, 2)]
    await report_read(bus, reader, thread, 1)
    assert await unread(bus, reader) == [(3, 1, 1)]
    await report_read(bus, reader, thread, 2)
    assert await unread(bus, reader) == []
    assert (await position(threads, thread, reader))[1] == 2


async def test_unread_threads_stay_in_order_of_activity(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str, name: str
) -> None:
    others = [f"{name}-{number}" for number in range(3)]
    for other in others:
        await join(threads, other, reader, create=True)
        await Peer(bus).post(other)
    await Peer(bus).post_all(thread, "1", "2")
    await Peer(bus).post(others[0])
    await report_read(bus, reader, thread, 1)
    assert reader.caller
    found = (await beat(bus, reader.caller)).unread
    assert [each.thread for each in found] == [others[0], thread, others[2], others[1]]
