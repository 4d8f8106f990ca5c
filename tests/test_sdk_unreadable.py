"""Waits on a thread that the server cannot read: which error is raised, and when."""

import asyncio
import math
from pathlib import Path

import grpc
import pytest

from bus_client import (
    BusClient,
    BusError,
    Draining,
    InternalError,
    StorageFull,
    StoreBusy,
    StoreFailed,
    Unavailable,
    Unreachable,
)
from bus_client.retry import WaitRetry
from tests.members import contents
from tests.script import (
    THREAD,
    Failure,
    Script,
    Step,
    batch,
    caught_up,
    ending,
    keepalive,
    scripted,
    started,
)
from tests.shell import Shell
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesResponse, WaitStarted
from threadbus.v1.message_pb2 import WAKE_NOBODY
from threadbus.v1.thread_pb2 import ThreadPosition

INTERNAL = Failure(grpc.StatusCode.INTERNAL, "INTERNAL", {"incident": "c0ffee"})
BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
DRAINING = ending(WaitEnding.REASON_DRAINING, upto=0)
NEWER = Failure(grpc.StatusCode.UNAVAILABLE, "NEWER_REASON")
BUSY = Failure(grpc.StatusCode.UNAVAILABLE, "STORE_BUSY")
FAILED = Failure(grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")


def always(script: Script, *steps: Step) -> None:
    """Make every wait of a test end like this."""
    for _ in range(200):
        script.answer("WaitMessages", *steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([started(), INTERNAL], InternalError),
        ([INTERNAL], InternalError),
        ([started(), BROKEN], Unreachable),
        ([started(), NEWER], Unavailable),
        ([started()], Unreachable),
        ([started(), DRAINING], Draining),
        ([started(), keepalive(0), INTERNAL], InternalError),
    ],
    ids=["internal", "at-once", "broken", "newer", "end", "draining", "keepalive"],
)
async def test_a_wait_that_could_not_read_raises_an_error(
    steps: list[Step], expected: type[BusError]
) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        always(script, *steps)
        with pytest.raises(expected) as raised:
            await bus.thread(THREAD).wait(timeout=0.1)
        assert type(raised.value) is expected


@pytest.mark.slow
@pytest.mark.parametrize("last", [BROKEN, INTERNAL], ids=["broken", "internal"])
async def test_a_wait_known_to_have_missed_nothing_returns_empty(last: Failure) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), caught_up(0), last)
        always(script, last)
        assert await bus.thread(THREAD).wait(timeout=0.2) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "expected"), [(BUSY, StoreBusy), (FAILED, StoreFailed)], ids=["busy", "failed"]
)
async def test_a_wait_raises_that_the_server_no_longer_knows(
    last: Failure, expected: type[BusError]
) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), caught_up(0), last)
        always(script, last)
        with pytest.raises(expected):
            await bus.thread(THREAD).wait(timeout=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("last", [[BROKEN], [caught_up(1), BUSY]], ids=["broken", "busy"])
async def test_messages_that_wake_nobody_do_not_hide_that_a_wait_could_not_read(
    last: list[Step],
) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), batch(1, wakes=WAKE_NOBODY), *last)
        always(script, last[-1])
        with pytest.raises(Unavailable):
            await bus.thread(THREAD).wait(timeout=0.2)


@pytest.mark.slow
async def test_a_wait_that_learns_of_more_messages_raises_an_error() -> None:
    newer = WaitMessagesResponse(started=WaitStarted(threads=[ThreadPosition(head_seq=1)]))
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), caught_up(0), INTERNAL)
        always(script, newer, INTERNAL)
        with pytest.raises(InternalError):
            await bus.thread(THREAD).wait(timeout=0.3)


@pytest.mark.slow
async def test_messages_received_before_are_returned() -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), batch(1), INTERNAL)
        always(script, started(), INTERNAL)
        assert contents(await bus.thread(THREAD).wait(timeout=0.2, min_messages=2)) == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([started(), INTERNAL], 1),
        ([started(), BROKEN], 4),
        ([started(), caught_up(0), BROKEN], 3),
    ],
    ids=["internal", "broken", "caught-up"],
)
async def test_the_command_line_reports_the_error(
    steps: list[Step], code: int, tmp_path: Path
) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        always(script, *steps)
        run = ("wait", THREAD, "--after", "0", "--timeout", "0")
        done = await asyncio.to_thread(Shell(script.address, tmp_path).run, *run)
        assert done.code == code, done
        assert ("Nothing new" in done.err) == (code == 3)


class Clock:
    """A clock that stands until `now` is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(retry: WaitRetry, error: BusError, *frames: WaitMessagesResponse) -> None:
    """One stream that ends early."""
    retry.stream_opened()
    for frame in frames:
        retry.frame_received(frame, moved=frame.HasField("messages"), delivered=False)
    retry.stream_failed(error)


@pytest.mark.parametrize(
    "error", [InternalError("x"), Unavailable("x"), StorageFull("x")], ids=lambda e: str(type(e))
)
def test_a_follower_that_fails_for_a_minute_raises_an_error(error: BusError) -> None:
    clock = Clock()
    retry = WaitRetry(clock, math.inf)
    fail(retry, Unreachable("x"))
    clock.now += 3_600  # a lost connection does not count
    fail(retry, error, started(), keepalive(0))
    clock.now += 59
    fail(retry, error, started(), keepalive(0))
    clock.now += 2
    with pytest.raises(type(error)):
        fail(retry, error, started(), keepalive(0))


@pytest.mark.parametrize("frame", [batch(1), caught_up(0)], ids=["messages", "caught_up"])
def test_progress_restarts_that_minute(frame: WaitMessagesResponse) -> None:
    clock = Clock()
    retry = WaitRetry(clock, math.inf)
    for _ in range(10):
        fail(retry, InternalError("x"), started(), frame)
        clock.now += 59


@pytest.mark.parametrize(
    "error", [Unreachable("x"), Draining("x"), StoreBusy("x")], ids=lambda e: str(type(e))
)
def test_an_unreachable_or_busy_server_is_waited_for(error: BusError) -> None:
    clock = Clock()
    retry = WaitRetry(clock, math.inf)
    for _ in range(100):
        fail(retry, error, started())
        clock.now += 60


def test_a_history_that_ends_again_and_again_is_not_retried_without_pauses() -> None:
    clock = Clock()
    retry = WaitRetry(clock, math.inf)
    for _ in range(8):
        fail(retry, Unreachable("x"), started(), caught_up(0))
        pause = retry.next_pause(0.0)
    assert pause >= 1.0
    # After a stream that lasted for a while the pauses are short again.
    retry.stream_opened()
    retry.frame_received(caught_up(0), moved=False, delivered=False)
    clock.now += 15
    retry.stream_failed(Unreachable("x"))
    assert retry.next_pause(0.0) <= 0.05


@pytest.mark.soak
@pytest.mark.timeout(100)
async def test_a_follower_gets_the_error_after_a_minute() -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(90):
        always(script, started(), INTERNAL)
        with pytest.raises(InternalError) as failed:
            await anext(bus.thread(THREAD).follow())
        assert failed.value.incident == "c0ffee"
