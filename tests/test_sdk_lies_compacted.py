"""Resyncs to the oldest message that is kept, true and false ones, from a scripted server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from bus_client import BusClient, Cursor, CursorLost, ProtocolError, ThreadHandle
from bus_client.responses import WaitPositions
from tests.members import contents, take
from tests.script import (
    EPOCH,
    THREAD,
    Failure,
    Script,
    asked_from,
    batch,
    caught_up,
    cursor,
    ending,
    last_batch,
    scripted,
    started,
)
from tests.wait_frames import BOUND
from threadbus.limits import MAX_WAIT_THREADS
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.thread_pb2 import ThreadPosition

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)


@contextlib.asynccontextmanager
async def handle_of(script: Script) -> AsyncIterator[ThreadHandle]:
    """A handle of the scripted thread, with a time limit."""
    async with BusClient(script.address) as bus, asyncio.timeout(BOUND):
        yield bus.thread(THREAD)


def compacted(
    requested: Cursor, position: Cursor, *, first_seq: int = 0, head_seq: int = 99
) -> WaitMessagesResponse:
    """A resync; by default to the oldest message that is kept."""
    first_seq = first_seq or position.after_seq + 1
    here = ThreadPosition(cursor=position, first_seq=first_seq, head_seq=head_seq)
    reason = WaitResync.REASON_COMPACTED
    return WaitMessagesResponse(
        resync=WaitResync(reason=reason, requested=requested, position=here)
    )


def hiding(seq: int, at: int) -> Cursor:
    """A cursor at a seq that has passed over another one."""
    return Cursor(thread=THREAD, after_seq=at, epoch=EPOCH, hidden_seq=seq)


#: After messages 1 and 2, to a reader of all messages.
LIES: dict[str, WaitMessagesResponse] = {
    "back": compacted(cursor(2), cursor(1)),
    "nowhere": compacted(cursor(2), cursor(2)),
    "past the oldest": compacted(cursor(2), cursor(6), first_seq=5),
    "before the oldest": compacted(cursor(2), cursor(6), first_seq=9),
    "without the oldest": compacted(cursor(2), cursor(6), first_seq=-1),
    "past the head": compacted(cursor(2), cursor(6), head_seq=5),
    "from before": compacted(cursor(1), cursor(6)),
    "from after": compacted(cursor(3), cursor(6)),
    "from another thread": compacted(Cursor(thread="elsewhere", after_seq=2), cursor(6)),
    "to another thread": compacted(cursor(2), Cursor(thread="elsewhere", after_seq=6)),
    "from another epoch": compacted(cursor(2, epoch="epoch-2"), cursor(6)),
    "to another epoch": compacted(cursor(2), cursor(6, epoch="epoch-2")),
    "to a negative seq": compacted(cursor(2), cursor(-1)),
    "to a huge seq": compacted(cursor(2), cursor(2**53), head_seq=2**53),
    "with something hidden": compacted(cursor(2), hiding(1, 6)),
}


@pytest.mark.parametrize("what", LIES)
async def test_a_false_resync_is_an_error(what: str) -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1, 2), LIES[what], asyncio.Event())
        following = handle.follow(on_resync="continue", include_own=True)
        assert await take(following, 2) == ["1", "2"]
        with pytest.raises(ProtocolError):
            await take(following, 1)
        assert handle.position == cursor(2)
        script.answer("WaitMessages", started(), LIES[what], asyncio.Event())
        with pytest.raises(ProtocolError):
            await handle.wait(timeout=60, on_resync="continue", include_own=True)
        script.answer("WaitMessages", *last_batch(3))
        assert contents(await handle.wait(timeout=60)) == ["3"]
        assert asked_from(script) == [0, 2, 2]


async def test_a_filter_may_have_moved_the_wait_further_but_not_back() -> None:
    async with scripted() as script, handle_of(script) as handle:
        further = compacted(hiding(3, 5), cursor(7))
        back = compacted(cursor(6), cursor(9))
        script.answer("WaitMessages", started(), batch(1, 2), further, batch(8), back)
        following = handle.follow(on_resync="continue")
        assert await take(following, 3) == ["1", "2", "8"]
        with pytest.raises(ProtocolError):
            await take(following, 1)
        assert handle.position == cursor(8)


@pytest.mark.parametrize("where", ["at the start", "in the middle"])
async def test_a_follow_goes_on_at_the_oldest_message(where: str) -> None:
    async with scripted() as script, handle_of(script) as handle:
        first = [] if where == "at the start" else [batch(1, 2)]
        here = 2 if first else 0
        skip = compacted(cursor(here), cursor(6))
        # What comes again, or is older than what was removed, is not delivered.
        frames = [*first, skip, batch(5, 6, 7), batch(8)]
        script.answer("WaitMessages", started(), *frames, BROKEN)
        end = ending(WaitEnding.REASON_THREADS_CLOSED, upto=9)
        script.answer("WaitMessages", started(), batch(8, 9), end)
        following = handle.follow(on_resync="continue", include_own=True)
        found = [message.seq async for message in following]
        assert found == [*range(1, here + 1), 7, 8, 9]
        assert asked_from(script) == [0, 8]


async def test_a_gap_after_the_oldest_message_is_an_error() -> None:
    async with scripted() as script, handle_of(script) as handle:
        skip = compacted(cursor(0), cursor(6))
        script.answer("WaitMessages", started(), skip, batch(8), asyncio.Event())
        with pytest.raises(ProtocolError, match="left out"):
            await take(handle.follow(on_resync="continue", include_own=True), 1)
        assert handle.position == cursor(6)


async def test_a_follow_that_falls_behind_raises_and_the_next_one_goes_on() -> None:
    async with scripted() as script, handle_of(script) as handle:
        skip = compacted(cursor(2), cursor(6))
        script.answer("WaitMessages", started(), batch(1, 2), skip, asyncio.Event())
        following = handle.follow()
        assert await take(following, 2) == ["1", "2"]
        with pytest.raises(CursorLost) as lost:
            await take(following, 1)
        assert (lost.value.reason, lost.value.code) == ("COMPACTED", "OUT_OF_RANGE")
        assert (lost.value.requested, lost.value.position) == (cursor(2), cursor(6))
        assert "Messages 3 to 6 of thread" in str(lost.value)
        script.answer("WaitMessages", *last_batch(7))
        assert await take(handle.follow(), 1) == ["7"]
        assert asked_from(script) == [0, 6]


async def test_one_message_is_told_as_one() -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), compacted(cursor(0), cursor(1)))
        with pytest.raises(CursorLost, match="Message 1 of thread 'scripted' is not kept any more"):
            await handle.wait(timeout=60)


async def test_a_wait_first_returns_what_it_has() -> None:
    async with scripted() as script, handle_of(script) as handle:
        skip = compacted(cursor(2), cursor(6))
        script.answer("WaitMessages", started(), batch(1, 2), skip, asyncio.Event())
        assert contents(await handle.wait(timeout=60, min_messages=9)) == ["1", "2"]
        script.answer("WaitMessages", started(), skip, asyncio.Event())
        with pytest.raises(CursorLost):
            await handle.wait(timeout=60)
        assert handle.position == cursor(6)
        script.answer("WaitMessages", *last_batch(7))
        assert contents(await handle.wait(timeout=60)) == ["7"]
        assert asked_from(script) == [0, 2, 6]


async def test_a_resync_does_not_move_an_acknowledged_position_back() -> None:
    async with scripted() as script, BusClient(script.address, agent="reader") as bus:
        handle = bus.thread(THREAD)
        hold = asyncio.Event()
        skip = compacted(cursor(2), cursor(6))
        script.answer("WaitMessages", started(), batch(1, 2), hold, skip, asyncio.Event())
        following = handle.follow()
        async with asyncio.timeout(BOUND):
            assert await take(following, 2) == ["1", "2"]
            await handle.acknowledge(20)
            hold.set()
            with pytest.raises(CursorLost):
                await take(following, 1)
        assert handle.position == cursor(20)
        reads = [at for each in script.asked(HeartbeatRequest) for at in each.read_cursors]
        assert max(at.after_seq for at in reads) == 20


# ── Several threads ─────────────────────────────────────────────────────────────────────────────


def at(thread: str, seq: int) -> Cursor:
    return Cursor(thread=thread, after_seq=seq, epoch=EPOCH)


def positions(count: int = 0) -> tuple[WaitPositions, WaitMessagesRequest]:
    """Of a wait in all threads of an agent, which has read `count` of them up to seq 20."""
    request = WaitMessagesRequest(all_my_threads=True)
    found = WaitPositions(request)
    for number in range(count):
        frame = WaitMessagesResponse()
        frame.thread_added.cursor.CopyFrom(at(f"t{number}", 20))
        found.advance(frame)
    return found, request


def test_where_only_the_server_knows_the_position_it_may_skip_from_there() -> None:
    found, request = positions()
    assert found.advance(compacted(at("t", 4), at("t", 8)))
    found.resume(request)
    assert list(request.threads) == [at("t", 8)]
    with pytest.raises(ProtocolError):
        found.advance(compacted(at("t", 4), at("t", 9)))
    with pytest.raises(ProtocolError):
        found.advance(compacted(at("u", 4), at("u", 4)))


#: To what a resync of seq 5 goes, and what is left of it for a reader that has got 20.
EARLIER: dict[str, tuple[int, Any]] = {
    "what was delivered": (9, None),
    "some of what was not": (29, (20, 29)),
}


@pytest.mark.parametrize("what", EARLIER)
def test_a_server_that_starts_at_the_read_position_again_skips_only_what_is_new(what: str) -> None:
    to, left = EARLIER[what]
    found, request = positions(MAX_WAIT_THREADS + 1)
    found.resume(request)
    assert at("t0", 20) not in request.threads
    frame = compacted(at("t0", 5), at("t0", to))
    found.advance(frame)
    if left is None:
        assert not frame.HasField("resync")
    else:
        resync = frame.resync
        assert (resync.requested.after_seq, resync.position.cursor.after_seq) == left


def test_threads_whose_cursors_were_sent_cannot_start_earlier() -> None:
    found, _ = positions(MAX_WAIT_THREADS)
    with pytest.raises(ProtocolError):
        found.advance(compacted(at("t0", 5), at("t0", 29)))


async def test_an_inbox_that_continues_reports_where_it_is() -> None:
    async with scripted() as script, BusClient(script.address, agent="reader") as bus:
        skip = compacted(cursor(2), cursor(6))
        script.answer("WaitMessages", started(), skip, batch(7), caught_up(7), asyncio.Event())
        async with asyncio.timeout(BOUND):
            assert await take(bus.inbox(on_resync="continue"), 1) == ["7"]
        await bus.acknowledge()
        reads = [at for each in script.asked(HeartbeatRequest) for at in each.read_cursors]
        assert reads[-1] == cursor(6)
