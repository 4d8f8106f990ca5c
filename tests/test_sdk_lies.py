"""follow() and wait() with frames that break the contract, from a scripted server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bus_client import (
    BusClient,
    Cursor,
    CursorLost,
    Message,
    ProtocolError,
    ThreadHandle,
    Unreachable,
)
from tests.members import contents, take
from tests.polling import until
from tests.script import (
    EPOCH,
    THREAD,
    Failure,
    Script,
    Step,
    asked_from,
    batch,
    caught_up,
    cursor,
    ending,
    keepalive,
    last_batch,
    lost,
    scripted,
    started,
)
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    ParticipantUpdate,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.thread_pb2 import ThreadPosition

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
CLOSED = ending(WaitEnding.REASON_THREADS_CLOSED, upto=0)
ELSEWHERE = Cursor(thread="elsewhere", after_seq=2, epoch=EPOCH)


@contextlib.asynccontextmanager
async def handle_of(script: Script) -> AsyncIterator[ThreadHandle]:
    """A handle of the scripted thread, with a time limit."""
    async with BusClient(script.address) as bus, asyncio.timeout(BOUND):
        yield bus.thread(THREAD)


def messages(*seqs: int, at: Cursor, thread: str = THREAD) -> WaitMessagesResponse:
    """A frame of messages with any cursor."""
    frame = batch(*seqs)
    frame.messages.cursor.CopyFrom(at)
    for message in frame.messages.messages:
        message.thread = thread
    return frame


def told(at: Cursor) -> WaitMessagesResponse:
    """A `caught_up` frame with any cursor."""
    return WaitMessagesResponse(caught_up=ThreadPosition(cursor=at))


def with_first_seq(frame: WaitMessagesResponse, seq: int) -> WaitMessagesResponse:
    """The frame, changed to say that entries before `seq` are no longer kept."""
    frame.caught_up.first_seq = seq
    return frame


REPEATS: dict[str, tuple[Sequence[Sequence[Step]], list[str]]] = {
    "the same frame twice": ([[started(), batch(1, 2), batch(1, 2), CLOSED]], ["1", "2"]),
    "overlapping frames": ([[started(), batch(1, 2), batch(2, 3), CLOSED]], ["1", "2", "3"]),
    "older ones after newer ones": ([[started(), batch(3), batch(1, 2), CLOSED]], ["3"]),
    "all of it after a reconnect": (
        [[started(), batch(1, 2), BROKEN], [started(), batch(1, 2, 3), CLOSED]],
        ["1", "2", "3"],
    ),
}

BREACHES: dict[str, WaitMessagesResponse] = {
    "disorder": messages(5, 3, 4, at=cursor(5)),
    "one seq twice": messages(3, 3, at=cursor(3)),
    "no seq": messages(0, at=cursor(3)),
    "a negative seq": messages(-4, at=cursor(3)),
    "past the cursor": messages(3, 4, at=cursor(3)),
    "a message of another thread": messages(3, at=cursor(3), thread="elsewhere"),
    "messages at a cursor of another thread": messages(3, at=ELSEWHERE),
    "another epoch": messages(3, at=cursor(3, epoch="epoch-2")),
    "no epoch": messages(3, at=cursor(3, epoch="")),
    "a cursor of another thread": told(ELSEWHERE),
    "a negative cursor": told(cursor(-1)),
    "a huge cursor": told(cursor(2**53)),
    "another epoch at the end of history": told(cursor(3, epoch="epoch-2")),
    "a negative cursor in a keepalive": keepalive(-1),
    "a negative cursor in an ending": ending(WaitEnding.REASON_DRAINING, upto=-1),
    "a resync to another thread": lost(cursor(2), ELSEWHERE),
    "a resync to a negative cursor": lost(cursor(2), cursor(-1, epoch="epoch-2")),
    "participants of another thread": WaitMessagesResponse(
        participants=ParticipantUpdate(thread="elsewhere")
    ),
}


@pytest.mark.parametrize("what", REPEATS)
async def test_repeated_messages_are_dropped(what: str) -> None:
    streams, expected = REPEATS[what]
    async with scripted() as script, handle_of(script) as handle:
        for steps in streams:
            script.answer("WaitMessages", *steps)
        assert [message.content async for message in handle.follow()] == expected
        assert handle.position.after_seq == int(expected[-1])
        handle.position = cursor(0)
        for steps in streams:
            script.answer("WaitMessages", *steps)
        found = await handle.wait(timeout=60, min_messages=9)
        assert contents(found) == expected


@pytest.mark.parametrize("what", BREACHES)
async def test_frames_that_break_the_contract_are_an_error(what: str) -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1, 2), BREACHES[what], asyncio.Event())
        following = handle.follow(on_resync="continue")
        assert await take(following, 2) == ["1", "2"]
        with pytest.raises(ProtocolError):
            await take(following, 1)
        assert handle.position == cursor(2)
        script.answer("WaitMessages", started(), BREACHES[what], asyncio.Event())
        with pytest.raises(ProtocolError):
            await handle.wait(timeout=60)
        # It continued from its own position; no other cursor was ever requested.
        script.answer("WaitMessages", *last_batch(3))
        assert contents(await handle.wait(timeout=60)) == ["3"]
        requests = script.asked(WaitMessagesRequest)
        assert [request.threads[0] for request in requests] == [cursor(0), cursor(2), cursor(2)]


async def test_bytes_that_are_no_frame_are_an_error() -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1), b"\xff\xff", asyncio.Event())
        following = handle.follow()
        assert await take(following, 1) == ["1"]
        with pytest.raises(ProtocolError):
            await take(following, 1)


@pytest.mark.parametrize(
    "frame",
    [batch(5000), batch(2, 3, 5), batch(2, upto=9), caught_up(9), keepalive(9)],
    ids=["before", "within", "after", "caught_up", "keepalive"],
)
async def test_a_gap_without_a_filter_is_an_error(frame: WaitMessagesResponse) -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1), frame, asyncio.Event())
        following = handle.follow(include_own=True)
        assert await take(following, 1) == ["1"]
        with pytest.raises(ProtocolError, match="left out"):
            await take(following, 1)
        assert handle.position == cursor(1)
        # With a filter, the messages between may not match.
        script.answer("WaitMessages", started(), frame, CLOSED)
        async for _ in handle.follow():
            pass
        assert handle.position.after_seq == max(
            frame.messages.cursor.after_seq,
            frame.caught_up.cursor.after_seq,
            *(at.cursor.after_seq for at in frame.keepalive.threads),
        )


async def test_seqs_that_are_not_kept_any_more_are_a_gap_without_a_resync() -> None:
    begun = WaitMessagesResponse(
        started=WaitStarted(threads=[ThreadPosition(cursor=cursor(0), first_seq=7)])
    )
    async with scripted() as script, handle_of(script) as handle:
        for frame in (batch(7, 8), with_first_seq(caught_up(6), 7)):
            script.answer("WaitMessages", begun, frame, asyncio.Event())
            with pytest.raises(ProtocolError, match="left out"):
                await take(handle.follow(include_own=True), 1)
            assert handle.position.after_seq == 0


async def test_a_cursor_that_goes_back_is_ignored() -> None:
    async with scripted() as script, handle_of(script) as handle:
        back = ending(WaitEnding.REASON_DRAINING, upto=1)
        script.answer("WaitMessages", started(), batch(1, 2, 3), keepalive(2), caught_up(0), back)
        script.answer("WaitMessages", *last_batch(4))
        assert [message.content async for message in handle.follow()] == ["1", "2", "3", "4"]
        assert asked_from(script) == [0, 3]


async def test_after_a_resync_seqs_start_again() -> None:
    async with scripted() as script, handle_of(script) as handle:
        again = cursor(0, epoch="epoch-2")
        anew = [messages(seq, at=cursor(seq, epoch="epoch-2")) for seq in (1, 2)]
        script.answer("WaitMessages", started(), batch(1, 2, 3), BROKEN)
        script.answer("WaitMessages", started(), lost(cursor(3), again), *anew, BROKEN)
        script.answer("WaitMessages", started(), *anew, asyncio.Event())
        following = handle.follow(on_resync="continue")
        assert await take(following, 5) == ["1", "2", "3", "1", "2"]
        coming = asyncio.create_task(take(following, 1))
        await until(lambda: len(asked_from(script)) == 3)
        assert asked_from(script) == [0, 3, 2]
        coming.cancel()
        await asyncio.wait([coming])
        await following.aclose()
        handle.position = cursor(3)
        script.answer("WaitMessages", started(), lost(cursor(3), again), asyncio.Event())
        with pytest.raises(CursorLost):
            await handle.wait(timeout=60)


@pytest.mark.parametrize(
    "reason",
    [
        WaitEnding.REASON_MAX_WAIT,
        WaitEnding.REASON_MAX_MESSAGES,
        WaitEnding.REASON_MIN_MESSAGES,
    ],
)
async def test_a_follow_that_ends_without_reason_reconnects(
    reason: WaitEnding.Reason.ValueType,
) -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1), ending(reason, upto=1))
        script.answer("WaitMessages", *last_batch(2))
        assert [message.content async for message in handle.follow()] == ["1", "2"]


async def test_more_messages_than_requested_are_kept_for_the_next_wait() -> None:
    async with scripted() as script, handle_of(script) as handle:
        script.answer("WaitMessages", started(), batch(1, 2, 3), asyncio.Event())
        assert contents(await handle.wait(timeout=60, max_messages=2)) == ["1", "2"]
        script.answer("WaitMessages", *last_batch(3))
        assert contents(await handle.wait(timeout=60)) == ["3"]
        assert asked_from(script) == [0, 2]


@pytest.mark.slow
async def test_an_invalid_keepalive_interval_is_not_taken_for_silence() -> None:
    odd = [Duration(), Duration(seconds=-5), Duration(seconds=2**62), Duration(nanos=-1)]
    hold = asyncio.Event()

    async def followed(handle: ThreadHandle) -> list[Message]:
        return [message async for message in handle.follow()]

    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        begun = [WaitMessagesResponse(started=WaitStarted(keepalive_interval=d)) for d in odd]
        for first in (*begun, WaitMessagesResponse(started=WaitStarted())):
            script.answer("WaitMessages", first, hold, *last_batch(1)[1:])
        coming = [asyncio.create_task(followed(bus.thread(THREAD))) for _ in range(len(odd) + 1)]
        await until(lambda: len(asked_from(script)) == len(coming))
        # Another wait gets no frame for 2.5 s, and reconnects.
        script.answer("WaitMessages", started(keepalive=0.001), asyncio.Event())
        script.answer("WaitMessages", *last_batch(9))
        assert contents(await followed(bus.thread(THREAD))) == ["9"]
        hold.set()
        assert [contents(await one) for one in coming] == [["1"]] * len(coming)
        assert len(asked_from(script)) == len(coming) + 2


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False], ids=["caught-up", "not-caught-up"])
async def test_keepalives_do_not_extend_a_wait(known: bool) -> None:
    async with scripted() as script, handle_of(script) as handle:
        before = [caught_up(0)] if known else []
        flood = [keepalive(0)] * 20_000
        script.answer("WaitMessages", started(), *before, *flood, asyncio.Event())
        async with asyncio.timeout(4.5):  # less than the grace after max_wait
            if known:
                assert await handle.wait(timeout=0.5) == []
            else:
                with pytest.raises(Unreachable):
                    await handle.wait(timeout=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last",
    [[], [BROKEN], [ending(WaitEnding.Reason.ValueType(99), upto=0)], [keepalive(0), BROKEN]],
    ids=["end", "break", "unknown-ending", "keepalive"],
)
async def test_pauses_grow_until_there_is_progress(last: Sequence[Step]) -> None:
    async with scripted() as script, handle_of(script) as handle:
        for _ in range(6):
            script.answer("WaitMessages", started(), *last)
        script.answer("WaitMessages", *last_batch(1))
        assert await take(handle.follow(), 1) == ["1"]
        times = [at for at, request in script.requests if isinstance(request, WaitMessagesRequest)]
        assert times[-1] - times[0] >= 0.5 * (0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.6)
