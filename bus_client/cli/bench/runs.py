"""The benchmarks of `threadbus bench`, each on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.bench.results import Result, Tally, content, number_of, times
from bus_client.cli.session import side_by_side

if TYPE_CHECKING:
    from bus_client import BusClient, Message, ThreadHandle

#: Seconds within which what was posted must have come, else it counts as lost.
_PATIENCE = 10.0
#: Posted first: when it arrives, the wait is open.
_WARM_UP = "Warm-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much each benchmark does."""

    seconds: float
    """How long it posts."""
    size: int
    """Bytes of each message's content."""
    concurrency: int
    """Posts under way at once, in `post`."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark under way."""

    poster: BusClient
    reader: BusClient
    """Another client. What it follows has a connection of its own."""
    thread: str
    """A thread that is there only for this."""
    load: Load
    step: Callable[[int], object]
    """To be told how many milliseconds of `load.seconds` went by since it was last told."""


async def post(bench: Bench) -> Result:
    """Posts/s with many posts under way, and how long each took."""
    thread, load = bench.poster.thread(bench.thread), bench.load
    numbers, taken, posted = count(), list[float](), set[int]()
    clock = _Clock(bench)

    async def work() -> None:
        while clock.running():
            number, began = next(numbers), time.perf_counter()
            await thread.post(content(number, load.size))
            taken.append(time.perf_counter() - began)
            posted.add(number)

    await side_by_side([work() for _ in range(load.concurrency)])
    elapsed = clock.elapsed()
    kept = await _kept(bench)
    return Result(
        name="post",
        what=f"{load.concurrency:,} in flight, {load.size:,} bytes, {elapsed:.1f} s",
        figures={"posts_per_s": len(taken) / elapsed, **times(taken)},
        count=len(posted),
        lost=kept.lost(posted),
        duplicated=kept.duplicated() + len(kept.got.keys() - posted),
    )


async def wake(bench: Bench) -> Result:
    """Time from calling post() until the follow() of another connection yields the message."""
    thread, size = bench.poster.thread(bench.thread), bench.load.size
    taken, posted, lost = list[float](), 0, 0
    follow = _from_start(bench).follow(include_own=True, acknowledge=False)
    async with aclosing(follow) as messages:
        reader = _Reader(messages)
        try:
            await _time_to_wake(thread, reader, _WARM_UP)
            clock = _Clock(bench)
            while clock.running():
                posted += 1
                taken.append(await _time_to_wake(thread, reader, content(posted, size)))
        except TimeoutError:
            lost = 1
    return Result(
        name="wake",
        what=f"one post after the other to one wait, {size:,} bytes",
        figures=times(taken),
        count=posted,
        lost=lost,
        duplicated=reader.duplicated,
    )


class _Reader:
    """Reads what is posted, expecting one message at a time.

    Attributes:
        duplicated: How many messages came that were not expected.
    """

    def __init__(self, messages: AsyncGenerator[Message]) -> None:
        self.duplicated = 0
        self._messages = messages

    async def arrival(self, number: int) -> float:
        """Reads until message `number`; returns when it came, on the clock of perf_counter().

        Raises:
            TimeoutError: It did not come within 10 s. The reader cannot be used any more.
            BusError: The wait failed, or ended.
        """
        async with asyncio.timeout(_PATIENCE):
            async for message in self._messages:
                if number_of(message.content) == number:
                    return time.perf_counter()
                self.duplicated += 1
        raise bus_client.BusError("The server ended the wait early.")


async def _time_to_wake(thread: ThreadHandle, reader: _Reader, text: str) -> float:
    """Posts `text`; returns the seconds until `reader` has it. Raises as _Reader.arrival()."""
    arrival = asyncio.create_task(reader.arrival(number_of(text)))
    began = time.perf_counter()
    try:
        await thread.post(text)
        return await arrival - began
    finally:
        arrival.cancel()
        await asyncio.gather(arrival, return_exceptions=True)


class _Clock:
    """How long a benchmark runs, and tells of it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._began = time.perf_counter()
        self._told = 0

    def running(self) -> bool:
        """Whether there is time left."""
        elapsed = self.elapsed()
        now = round(min(elapsed, self._bench.load.seconds) * 1_000)
        if now > self._told:
            self._bench.step(now - self._told)
            self._told = now
        return elapsed < self._bench.load.seconds

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began


def _from_start(bench: Bench) -> ThreadHandle:
    """The thread, to be read from its first message on."""
    thread = bench.reader.thread(bench.thread)
    thread.position = bus_client.Cursor(thread=bench.thread, after_seq=0)
    return thread


async def _kept(bench: Bench) -> Tally:
    """What the thread holds."""
    tally, thread = Tally(), _from_start(bench)
    head = (await thread.refresh()).head_seq
    if not head:
        return tally
    async with aclosing(thread.follow(include_own=True, acknowledge=False)) as messages:
        async for message in messages:
            tally.got[number_of(message.content)] += 1
            if message.seq >= head:
                break
    return tally
