"""The time limit of a stream's reads applies only while a read is in progress."""

import asyncio
from typing import cast

import grpc.aio

from bus_client.read_limit import ReadLimit


class Call:
    """A stream that can only be cancelled."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    def cancel(self) -> bool:
        self.cancelled.set()
        return True


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
    limit.begin(0.06)  # longer
    await asyncio.sleep(0.03)
    assert not limit.exceeded
    limit.end()
    limit.begin(60.0)
    limit.end()
    limit.begin(0.01)  # shorter
    await call.cancelled.wait()
    assert limit.exceeded
