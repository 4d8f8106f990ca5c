"""What a filter hides stays unread; a wait with a filter continues after it."""

import contextlib
from pathlib import Path

import pytest

from bus_client import BusClient, MessageFilter
from tests.members import contents, member, take
from tests.participation import join, leave, participants
from tests.peers import Peer, recreate, registered, set_state
from tests.presence import beat, state
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED

MINE = MessageFilter(addressed_to_me=True)


@pytest.fixture
async def anna(agents: AgentStub, bus: BusStub, threads: ThreadStub, thread: str) -> Peer:
    """An agent that joined the thread while it was empty."""
    peer = await registered(agents, bus, "anna")
    await join(threads, thread, peer)
    return peer


async def receipt(threads: ThreadStub, thread: str, peer: Peer) -> tuple[int, int]:
    """Returns a participant's read_seq and passed_over."""
    found = (await participants(threads, thread))[peer.name]
    return found.read_seq, found.passed_over


async def report(peer: Peer, *cursors: Cursor) -> None:
    """Report cursors as read."""
    assert peer.caller
    await beat(peer.bus, peer.caller, read_cursors=cursors)


def last_cursor(frames: list[WaitMessagesResponse]) -> Cursor:
    """Returns the cursor of the `ending` frame."""
    return frames[-1].ending.threads[0].cursor


async def test_a_reported_cursor_does_not_cover_what_the_filter_hid(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for you", mentions=[anna.name])
    await Peer(bus).post(thread, "for others")
    await Peer(bus).post(thread, "for you, too", mentions=[anna.name])
    async with anna.wait(thread, max_wait=0, filter=MINE) as frames:
        found = await frames.rest()
    assert [message.seq for message in messages_in(found)] == [1, 3]
    assert (last_cursor(found).after_seq, last_cursor(found).hidden_seq) == (3, 2)
    await report(anna, last_cursor(found))
    assert await receipt(threads, thread, anna) == (1, 3)
    assert [message.seq for message in await anna.read(thread)] == [1, 2, 3]


async def test_every_frame_with_a_cursor_tells_what_was_hidden(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for others")
    async with anna.wait(thread, filter=MINE) as frames:
        assert (await frames.until("caught_up")).caught_up.cursor.hidden_seq == 1
        await Peer(bus).post(thread, "for you", mentions=[anna.name])
        batch = (await frames.until("messages")).messages
        assert (batch.cursor.after_seq, batch.cursor.hidden_seq) == (2, 1)
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        assert last_cursor(await frames.rest()).hidden_seq == 1


async def test_a_wait_from_a_cursor_remembers_what_was_hidden_before_it(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post_all(thread, "1", "2", "3")
    async with anna.wait(thread, max_wait=0, filter=MINE) as frames:
        cursor = last_cursor(await frames.rest())
    await Peer(bus).post(thread, "for you", mentions=[anna.name])
    async with anna.wait(cursor, max_wait=0, filter=MINE) as frames:
        cursor = last_cursor(await frames.rest())
    assert (cursor.after_seq, cursor.hidden_seq) == (4, 1)
    await report(anna, cursor)
    assert await receipt(threads, thread, anna) == (0, 4)


async def test_own_entries_are_not_hidden(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for you", mentions=[anna.name])
    await anna.post(thread, "mine")
    for wanted in (MINE, MessageFilter(exclude_own=True)):
        async with anna.wait(thread, max_wait=0, filter=wanted) as frames:
            cursor = last_cursor(await frames.rest())
        assert (cursor.after_seq, cursor.hidden_seq) == (2, 0)
    await report(anna, cursor)
    assert await receipt(threads, thread, anna) == (2, 0)


async def test_a_wait_that_is_full_has_hidden_nothing_after_its_last_message(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for you", mentions=[anna.name])
    await Peer(bus).post(thread, "for others")
    async with anna.wait(thread, max_messages=1, filter=MINE) as frames:
        cursor = last_cursor(await frames.rest())
    assert (cursor.after_seq, cursor.hidden_seq) == (1, 0)


async def test_reading_without_a_filter_covers_what_was_passed_over(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post_all(thread, "1", "2", "3")
    await report(anna, Cursor(thread=thread, after_seq=3, hidden_seq=1))
    await report(anna, Cursor(thread=thread, after_seq=2))
    assert await receipt(threads, thread, anna) == (2, 3)
    await report(anna, Cursor(thread=thread, after_seq=2, hidden_seq=1))  # lowers nothing
    assert await receipt(threads, thread, anna) == (2, 3)


async def test_what_was_delivered_is_done_once_a_cursor_past_it_is_reported(
    agents: AgentStub, bus: BusStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for others")
    await Peer(bus).post(thread, "for you", mentions=[anna.name])
    async with anna.wait(thread, max_wait=0, filter=MINE) as frames:
        cursor = last_cursor(await frames.rest())
    assert await state(agents, anna.name) == "WORKING"
    await report(anna, cursor)
    assert await state(agents, anna.name) == "IDLE"


async def test_leaving_drops_it(bus: BusStub, threads: ThreadStub, thread: str, anna: Peer) -> None:
    await Peer(bus).post(thread)
    await report(anna, Cursor(thread=thread, after_seq=1, hidden_seq=1))
    await leave(threads, thread, anna)
    await join(threads, thread, anna)
    assert await receipt(threads, thread, anna) == (1, 0)


async def test_a_resync_forgets_what_was_hidden_in_the_epoch_before(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post(thread, "for others")
    async with anna.wait(thread, filter=MINE) as frames:
        before = (await frames.until("caught_up")).caught_up.cursor
        assert before.hidden_seq == 1
        await recreate(threads, thread)
    async with anna.wait(before, max_wait=0, filter=MINE) as frames:
        resync = (await frames.until("resync")).resync
        assert resync.requested == before
        assert (resync.position.cursor.after_seq, resync.position.cursor.hidden_seq) == (0, 0)


async def test_a_wait_with_a_filter_continues_after_what_it_passed_over(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        await Peer(bus).post(thread, "for others")
        await Peer(bus).post(thread, "for you", mentions=[f"{thread}-reader"])
        assert contents(await reader.wait(timeout=0, filter=MINE)) == ["for you"]
        await reader.acknowledge()
        assert (reader.position.after_seq, reader.passed_over) == (0, 2)
    async with member(server.address, thread, tmp_path) as reader:
        assert (reader.position.after_seq, reader.passed_over) == (0, 2)
        assert await reader.wait(timeout=0, filter=MINE) == []
        assert contents(await reader.wait(timeout=0)) == ["for others", "for you"]
        await reader.acknowledge()
        found = (await participants(threads, thread))[f"{thread}-reader"]
        assert (found.read_seq, found.passed_over) == (2, 2)
        assert await reader.wait(timeout=0) == []


async def test_a_handle_that_never_joined_continues_there_too(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        await Peer(bus).post(thread, "for you", mentions=[f"{thread}-reader"])
        await Peer(bus).post(thread, "for others")
        async with contextlib.aclosing(reader.follow(filter=MINE)) as messages:
            assert await take(messages, 1) == ["for you"]
            await reader.acknowledge(1)
        assert await reader.wait(timeout=0, filter=MINE) == []
        await reader.acknowledge()
    agent, credentials = f"{thread}-reader", tmp_path / "credentials.json"
    async with BusClient(server.address, agent=agent, credentials=credentials) as client:
        handle = client.thread(thread)
        assert await handle.wait(timeout=0, filter=MINE) == []
        assert (handle.position.after_seq, handle.passed_over) == (1, 2)


async def test_acknowledging_a_message_does_not_cover_what_the_filter_hid_before_it(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        await Peer(bus).post(thread, "for others")
        for number in (2, 3):
            await Peer(bus).post(thread, f"for you {number}", mentions=[f"{thread}-reader"])
        async with contextlib.aclosing(reader.follow(filter=MINE)) as messages:
            assert await take(messages, 1) == ["for you 2"]
            await reader.acknowledge(2)
        found = (await participants(threads, thread))[f"{thread}-reader"]
        assert (found.read_seq, found.passed_over) == (0, 2)
        assert contents(await reader.wait(timeout=0, filter=MINE)) == ["for you 3"]
