"""ThreadHandle.wait when streams break, with a scripted server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from bus_client import BusClient, CursorLost, QuotaExceeded, ThreadClosed, ThreadHandle, Unreachable
from tests.members import contents
from tests.script import (
    THREAD,
    Failure,
    Script,
    asked_from,
    batch,
    cursor,
    ending,
    lost,
    scripted,
    started,
)
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
MIN, MAX, TIME, CLOSED, DRAINING = (
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_MESSAGES,
    WaitEnding.REASON_MAX_WAIT,
    WaitEnding.REASON_THREADS_CLOSED,
    WaitEnding.REASON_DRAINING,
)


@contextlib.asynccontextmanager
async def waiting_on(script: Script) -> AsyncIterator[ThreadHandle]:
    """A handle of the scripted thread, with a time limit."""
    async with BusClient(script.address) as bus, asyncio.timeout(BOUND):
        yield bus.thread(THREAD)


def asked(script: Script) -> list[tuple[int, int, int]]:
    """Returns after_seq, min_messages and max_messages of each wait."""
    return [
        (request.threads[0].after_seq, request.min_messages, request.max_messages)
        for request in script.asked(WaitMessagesRequest)
    ]


async def test_after_a_disconnect_a_wait_asks_for_what_is_still_missing() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", BROKEN)
        script.answer("WaitMessages", started(), batch(1, 2), BROKEN)
        script.answer("WaitMessages", started(), batch(3), ending(DRAINING, upto=4))
        script.answer("WaitMessages", started(), batch(5), ending(MIN, upto=5))
        messages = await handle.wait(timeout=60, min_messages=4, max_messages=9)
        assert contents(messages) == ["1", "2", "3", "5"]
        assert asked(script) == [(0, 4, 9), (0, 4, 9), (2, 2, 7), (4, 1, 6)]


@pytest.mark.parametrize(("least", "most"), [(2, 0), (9, 2)])
async def test_a_disconnect_after_everything_came_returns_it(least: int, most: int) -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1, 2), BROKEN)
        script.answer("WaitMessages", started(), batch(3), asyncio.Event())
        messages = await handle.wait(timeout=60, min_messages=least, max_messages=most)
        assert contents(messages) == ["1", "2"]
        # What follows is not lost.
        script.answer("WaitMessages", started(), batch(3), ending(MIN, upto=3))
        assert contents(await handle.wait(timeout=60)) == ["3"]
        assert asked_from(script)[-1] == 2


async def test_after_a_disconnect_a_wait_asks_for_the_rest_of_its_timeout() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), BROKEN)
        script.answer("WaitMessages", started(), ending(TIME, upto=7))
        assert await handle.wait(timeout=30) == []
        first, second = script.asked(WaitMessagesRequest)
        assert 0 < second.max_wait.ToMicroseconds() < first.max_wait.ToMicroseconds() <= 30_000_000
        # Skipped messages count as read with the next wait.
        await handle.acknowledge()
        assert handle.position == cursor(7)


@pytest.mark.slow
async def test_at_the_timeout_messages_received_are_returned() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1), BROKEN)
        for _ in range(50):
            script.answer("WaitMessages", BROKEN)
        assert contents(await handle.wait(timeout=0.3, min_messages=2)) == ["1"]
        assert len(asked(script)) < 50


@pytest.mark.slow
async def test_if_the_server_never_responded_that_is_raised() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        for _ in range(50):
            script.answer("WaitMessages", BROKEN)
        with pytest.raises(Unreachable):
            await handle.wait(timeout=0)
        assert 1 < len(asked(script)) < 50


async def test_a_refusal_is_final() -> None:
    refusal = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", {"limit": "1"})
    async with scripted() as script, waiting_on(script) as handle:
        for _ in range(2):
            script.answer("WaitMessages", refusal)
            with pytest.raises(QuotaExceeded):
                await handle.wait(timeout=60)
        assert len(asked(script)) == 2


async def test_a_closed_thread_with_messages_left_is_no_error_yet() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1), BROKEN)
        script.answer("WaitMessages", started(), ending(CLOSED, upto=1))
        assert contents(await handle.wait(timeout=60, min_messages=2)) == ["1"]
        script.answer("WaitMessages", started(), ending(CLOSED, upto=1))
        with pytest.raises(ThreadClosed):
            await handle.wait(timeout=60)


async def test_messages_received_before_a_resync_are_returned_first() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1, 2), BROKEN)
        script.answer("WaitMessages", started(), lost(cursor(2), cursor(0, epoch="epoch-2")))
        assert contents(await handle.wait(timeout=60, min_messages=3)) == ["1", "2"]
        script.answer("WaitMessages", started(), lost(cursor(2), cursor(0, epoch="epoch-2")))
        with pytest.raises(CursorLost) as error:
            await handle.wait(timeout=60)
        assert (error.value.requested, error.value.position.epoch) == (cursor(2), "epoch-2")
        assert asked_from(script) == [0, 2, 2]
