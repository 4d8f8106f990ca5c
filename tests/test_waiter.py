"""Waiter.until: ends when it is notified, at its deadline, or when its task is cancelled."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

import pytest

from bus_server.alarms import MAX_CANCELLED, Alarm
from bus_server.tail import Tails, Waiter
from tests.polling import until

#: Seconds; longer than any test.
LONG = 60.0


@contextlib.contextmanager
def watching() -> Iterator[Waiter]:
    """A wait on one thread, of the current task."""
    with watching_in(Tails()) as waiter:
        yield waiter


@contextlib.contextmanager
def watching_in(tails: Tails) -> Iterator[Waiter]:
    waiter = tails.watch(["t"])
    try:
        yield waiter
    finally:
        tails.unwatch(waiter)


def never() -> bool:
    return False


def after(seconds: float) -> float:
    """Returns the time in `seconds` from now, on the event loop's clock."""
    return asyncio.get_running_loop().time() + seconds


async def test_it_ends_at_the_deadline_whatever_the_one_before_was() -> None:
    with watching() as waiter:
        await waiter.until(lambda: True, after(LONG))  # leaves its alarm set
        # A deadline that is earlier than the alarm, later ones, and one that is over.
        for seconds in (0.01, 0.03, 0.02, -1.0, 0.01):
            deadline = after(seconds)
            await waiter.until(never, deadline)
            assert asyncio.get_running_loop().time() >= deadline
            await waiter.until(lambda: True, after(0.01))  # its alarm rings in the next call


async def test_an_alarm_of_an_earlier_call_ends_no_later_one() -> None:
    with watching() as waiter:
        await waiter.until(lambda: True, after(0.01))  # leaves its alarm set
        alarm = waiter._alarm
        assert alarm is not None
        waking = asyncio.create_task(wake_after(waiter, alarm))
        await waiter.until(waking.done, after(LONG))
        assert waking.done()


async def wake_after(waiter: Waiter, alarm: Alarm) -> None:
    """Notify the waiter once its alarm has been replaced, and this task is done."""
    await until(lambda: waiter._alarm is not alarm)
    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(waiter.notify()))


async def test_it_waits_while_it_is_notified_of_something_else() -> None:
    with watching() as waiter:
        checks = itertools.count(1)

        async def notify() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                await waiter.notify()

        async with asyncio.timeout(LONG / 2):
            notifying = asyncio.create_task(notify())
            await waiter.until(lambda: next(checks) == 3, after(LONG))
        await notifying
        assert next(checks) == 4


@pytest.mark.parametrize("first", ["cancel", "alarm"])
async def test_a_task_that_is_cancelled_while_the_alarm_rings_stays_cancelled(first: str) -> None:
    held: list[Waiter] = []

    async def wait() -> None:
        with watching() as waiter:
            held.append(waiter)
            await waiter.until(never, after(LONG))

    waiting = asyncio.create_task(wait())
    await until(lambda: bool(held) and held[0]._deadline is not None)
    held[0]._deadline = after(-1.0)
    if first == "cancel":
        waiting.cancel()
    held[0].ring()
    if first == "alarm":
        waiting.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_the_alarm_ends_with_the_wait() -> None:
    with watching() as waiter:
        await waiter.until(lambda: True, after(LONG))
        alarm = waiter._alarm
        assert alarm is not None
    assert alarm.sleeper is None


async def test_ended_waits_leave_no_alarms() -> None:
    tails = Tails()
    with watching_in(tails) as waiter:
        await waiter.until(lambda: True, after(LONG))
        for _ in range(1_000):
            with watching_in(tails) as ended:
                await ended.until(lambda: True, after(LONG))
        assert len(tails._alarms._alarms) <= MAX_CANCELLED + 2
        # The one that is left still rings.
        await waiter.until(never, after(0.01))
