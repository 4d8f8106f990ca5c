"""WaitMessages: threads that are unknown, closed, archived or deleted."""

from collections.abc import Iterator

import pytest

from tests.peers import Peer, recreate, set_state
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.wait_frames import kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, MESSAGE_KIND_THREAD, Cursor, MessageFilter
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
)

CLOSED = WaitEnding.REASON_THREADS_CLOSED
shut = pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, without the fallback: here only the commit itself wakes a wait."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


@pytest.fixture
async def second(threads: ThreadStub, thread: str) -> str:
    """A second fresh thread."""
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.second"))
    return f"{thread}.second"


async def test_unknown_threads_are_named_in_an_immediate_error(
    bus: BusStub, threads: ThreadStub, thread: str, name: str
) -> None:
    unknown = [f"{name}.x", f"{name}.y"]
    cursors = [Cursor(thread=name) for name in (unknown[0], thread, unknown[1])]
    refusal = await refused(bus.WaitMessages(WaitMessagesRequest(threads=cursors)))
    assert refusal.reason == "THREAD_NOT_FOUND"
    assert sorted(refusal.resources) == [("thread", name) for name in unknown]
    for name in unknown:
        gone = await refused(threads.GetThread(GetThreadRequest(thread=name)))
        assert gone.reason == "THREAD_NOT_FOUND"


async def test_the_error_for_a_thousand_unknown_threads_still_fits_its_trailers(
    bus: BusStub, name: str
) -> None:
    cursors = [Cursor(thread=f"{name}.{n}".ljust(128, "x")) for n in range(1_000)]
    refusal = await refused(bus.WaitMessages(WaitMessagesRequest(threads=cursors)))
    assert refusal.reason == "THREAD_NOT_FOUND"
    assert {thread for _, thread in refusal.resources} <= {cursor.thread for cursor in cursors}
    assert refusal.resources


async def test_a_wait_ends_with_not_found_when_its_thread_is_deleted(
    bus: BusStub, threads: ThreadStub, thread: str, second: str
) -> None:
    async with Peer(bus).wait(thread, second) as frames:
        await frames.until("caught_up")
        await threads.DeleteThread(DeleteThreadRequest(thread=second))
        refusal = await refused(frames.failure())
    assert (refusal.reason, refusal.resources) == ("THREAD_NOT_FOUND", [("thread", second)])


async def test_a_wait_ends_with_not_found_when_its_thread_is_recreated(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread) as frames:
        await frames.until("caught_up")
        await recreate(threads, thread)
        await anyone.post(thread, "new")
        refusal = await refused(frames.failure())
    assert (refusal.reason, refusal.resources) == ("THREAD_NOT_FOUND", [("thread", thread)])
    assert messages_in(frames.received) == []
    assert [message.content for message in await anyone.read(thread)] == ["new"]


@pytest.mark.slow
async def test_a_wait_ends_with_not_found_when_its_thread_is_deleted_in_mid_history(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    for _ in range(40):
        await anyone.post(thread, "x" * 1_000_000)
    async with anyone.wait(thread) as frames:
        await frames.messages(1)  # the server can send no more than the connection buffers
        await threads.DeleteThread(DeleteThreadRequest(thread=thread))
        refusal = await refused(frames.failure())
    assert refusal.reason == "THREAD_NOT_FOUND"
    seqs = [message.seq for message in messages_in(frames.received)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) < 40


@shut
async def test_a_wait_receives_the_closing_of_its_thread_in_order_and_ends(
    bus: BusStub, threads: ThreadStub, thread: str, state: ThreadState.ValueType
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, "a")
    async with anyone.wait(thread) as frames:
        await frames.until("caught_up")
        await anyone.post(thread, "b")
        await set_state(threads, thread, state)
        ending = await frames.ending()
    a, b, entry = messages_in(frames.received)
    assert [(a.seq, a.content), (b.seq, b.content)] == [(1, "a"), (2, "b")]
    assert (entry.seq, entry.kind, entry.sender) == (3, MESSAGE_KIND_THREAD, "anonymous")
    assert entry.content
    assert ending.reason == CLOSED
    [position] = ending.threads
    assert (position.cursor.after_seq, position.head_seq, position.state) == (3, 3, state)


@shut
async def test_a_wait_on_a_closed_thread_replays_it_and_ends(
    bus: BusStub, threads: ThreadStub, thread: str, state: ThreadState.ValueType
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    await set_state(threads, thread, state)
    async with anyone.wait(thread) as frames:
        ending = await frames.ending()
    assert kinds(frames.received) == ["started", "messages", "caught_up", "ending"]
    assert [message.seq for message in messages_in(frames.received)] == [1, 2, 3]
    assert frames.received[0].started.threads[0].state == state
    assert ending.reason == CLOSED


async def test_a_wait_at_the_end_of_a_closed_thread_ends_at_once(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    for max_wait in (None, 0):
        at_head = Cursor(thread=thread, after_seq=1)
        async with Peer(bus).wait(at_head, max_wait=max_wait) as frames:
            assert (await frames.ending()).reason == CLOSED
        assert kinds(frames.received) == ["started", "caught_up", "ending"]


async def test_a_closed_thread_of_many_frames_is_delivered_whole_before_the_end(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *["x" * 700_000] * 4)
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    async with anyone.wait(thread) as frames:
        assert (await frames.ending()).reason == CLOSED
    assert [message.seq for message in messages_in(frames.received)] == [1, 2, 3, 4, 5]


async def test_a_wait_ends_only_when_all_its_threads_are_closed(
    bus: BusStub, threads: ThreadStub, thread: str, second: str
) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread, second) as frames:
        await frames.until("caught_up")
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        [entry] = await frames.messages(1)
        assert (entry.thread, entry.kind) == (thread, MESSAGE_KIND_THREAD)
        await anyone.post(second, "still open")
        assert [message.content for message in await frames.messages(1)] == ["still open"]
        await set_state(threads, second, THREAD_STATE_ARCHIVED)
        ending = await frames.ending()
    assert ending.reason == CLOSED
    states = {position.cursor.thread: position.state for position in ending.threads}
    assert states == {thread: THREAD_STATE_CLOSED, second: THREAD_STATE_ARCHIVED}


async def test_a_reopened_thread_is_followed_on(
    bus: BusStub, threads: ThreadStub, thread: str, second: str
) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread, second) as frames:
        await frames.until("caught_up")
        for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
            await set_state(threads, thread, state)
        await anyone.post(thread, "open again")
        entries = await frames.messages(3)
    assert [(entry.seq, entry.kind) for entry in entries] == [
        (1, MESSAGE_KIND_THREAD),
        (2, MESSAGE_KIND_THREAD),
        (3, MESSAGE_KIND_CHAT),
    ]


async def test_setting_the_current_state_writes_nothing(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    for state in (THREAD_STATE_OPEN, THREAD_STATE_CLOSED, THREAD_STATE_CLOSED):
        await set_state(threads, thread, state)
    assert len(await Peer(bus).read(thread)) == 1


async def test_a_wait_that_filters_thread_entries_out_still_ends(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    chat = MessageFilter(kinds=[MESSAGE_KIND_CHAT])
    async with Peer(bus).wait(thread, filter=chat) as frames:
        await frames.until("caught_up")
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        ending = await frames.ending()
    assert ending.reason == CLOSED
    assert messages_in(frames.received) == []
    assert ending.threads[0].cursor.after_seq == 1
