"""The time limit of a stream's reads applies only while a read is in progress."""

import asyncio
import contextlib
from typing import Any, cast

import grpc.aio
import pytest

from bus_client import Unreachable
from bus_client.read_limit import ReadLimit
from bus_client.stream import _read


class Call:
    """A stream without frames, which can only be cancelled."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    def cancel(self) -> bool:
        self.cancelled.set()
        return True

    async def read(self) -> None:
        await self.cancelled.wait()
        raise asyncio.CancelledError


def limited() -> tuple[Call, ReadLimit]:
    call = Call()
    return call, ReadLimit(cast(grpc.aio.Call, call))


async def test_a_read_that_takes_too_long_cancels_the_stream() -> None:
    call, limit = limited()
    limit.begin(0.01)
    await call.cancelled.wait()
    assert limit.exceeded


async def test_nothing_is_cancelled_between_reads_or_after_the_last() -> None:
    call, limit = limited()
    limit.begin(0.01)
    limit.end()  # the caller handles a message for longer than that
    await asyncio.sleep(0.03)
    limit.begin(0.01)
    limit.close()
    await asyncio.sleep(0.03)
    assert not (limit.exceeded or call.cancelled.is_set())


async def test_each_read_has_its_own_limit() -> None:
    call, limit = limited()
    limit.begin(0.02)
    limit.end()
    limit.begin(60.0)  # longer
    await asyncio.sleep(0.03)
    assert not limit.exceeded
    limit.end()
    limit.begin(0.01)  # shorter
    await call.cancelled.wait()
    assert limit.exceeded


async def test_a_silent_stream_can_be_replaced_in_a_task_that_ignored_a_cancellation() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    call, limit = limited()
    with pytest.raises(Unreachable, match="sent nothing"):
        await _read(cast(Any, call), limit, 0.01)
    task.uncancel()


async def test_a_task_that_is_cancelled_while_its_stream_is_stays_cancelled() -> None:
    call, limit = limited()
    reading = asyncio.create_task(_read(cast(Any, call), limit, 0.01))
    await call.cancelled.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
