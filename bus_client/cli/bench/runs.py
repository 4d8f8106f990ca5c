"""The benchmarks. Each posts to a ThreadBus thread that nothing else uses."""

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
from bus_client.cli.session import run_concurrently

if TYPE_CHECKING:
    from bus_client import BusClient, Message, ThreadHandle

#: Seconds within which `wake` must have posted and received a message; otherwise it is lost.
_PATIENCE = 10.0
#: Content of the first post: when it arrives, the wait is open.
_WARM_UP = "Warm-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of each benchmark."""

    seconds: float
    """How long each benchmark posts."""
    size: int
    """Bytes of each message's content."""
    concurrency: int
    """How many posts `post` keeps in flight."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The environment of a benchmark."""

    poster: BusClient
    reader: BusClient
    """Another client, which reads the messages."""
    thread: str
    """The name of a thread that only this benchmark uses."""
    load: Load
    step: Callable[[int], object]
    """Called with the milliseconds of `load.seconds` that have passed since the last call."""


async def post(bench: Bench) -> Result:
    """Measure posts/s with `concurrency` posts in flight, and the time of each. Returns the result.

    Raises:
        BusError: A call failed.
    """
    thread, load = bench.poster.thread(bench.thread), bench.load
    numbers, taken, posted = count(), list[float](), set[int]()
    clock = _Clock(bench)

    async def work() -> None:
        while clock.running():
            number, began = next(numbers), time.perf_counter()
            await thread.post(content(number, load.size))
            taken.append(time.perf_counter() - began)
            posted.add(number)

    await run_concurrently([work() for _ in range(load.concurrency)])
    elapsed = clock.elapsed()
    stored = await _stored(bench)
    return Result(
        name="post",
        what=f"{load.concurrency:,} in flight, {load.size:,} bytes, {elapsed:.1f} s",
        figures={"posts_per_s": len(taken) / elapsed, **times(taken)},
        count=len(posted),
        lost=stored.lost(posted),
        duplicated=stored.duplicated() + len(stored.got.keys() - posted),
    )


async def wake(bench: Bench) -> Result:
    """Measure the time from a post() until another client's follow() has it. Returns the result.

    Raises:
        BusError: A call failed.
    """
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
    """A reader that expects one particular message at a time.

    Attributes:
        duplicated: The number of messages received that were not expected.
    """

    def __init__(self, messages: AsyncGenerator[Message]) -> None:
        self.duplicated = 0
        self._messages = messages

    async def arrival(self, number: int) -> float:
        """Read until message `number`. Returns its arrival time, in seconds of perf_counter().

        Raises:
            TimeoutError: It did not arrive within 10 s. Do not call this again.
            BusError: The wait failed or ended.
        """
        async with asyncio.timeout(_PATIENCE):
            async for message in self._messages:
                if number_of(message.content) == number:
                    return time.perf_counter()
                self.duplicated += 1
        raise bus_client.BusError("The server ended the wait early.")


async def _time_to_wake(thread: ThreadHandle, reader: _Reader, text: str) -> float:
    """Post `text`. Returns the seconds until `reader` has it. Raises as _Reader.arrival()."""
    arrival = asyncio.create_task(reader.arrival(number_of(text)))
    began = time.perf_counter()
    try:
        await thread.post(text)
        return await arrival - began
    finally:
        arrival.cancel()
        await asyncio.gather(arrival, return_exceptions=True)


class _Clock:
    """The time that a benchmark has run, on perf_counter(); reports its progress."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._began = time.perf_counter()
        self._reported = 0

    def running(self) -> bool:
        """Report the progress. Returns whether there is time left."""
        elapsed = self.elapsed()
        now = round(min(elapsed, self._bench.load.seconds) * 1_000)
        if now > self._reported:
            self._bench.step(now - self._reported)
            self._reported = now
        return elapsed < self._bench.load.seconds

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.perf_counter() - self._began


def _from_start(bench: Bench) -> ThreadHandle:
    """Returns the reader's handle of the thread, positioned before the first message."""
    thread = bench.reader.thread(bench.thread)
    thread.position = bus_client.Cursor(thread=bench.thread, after_seq=0)
    return thread


async def _stored(bench: Bench) -> Tally:
    """Returns how often each message is in the thread. Raises BusError if it cannot be read."""
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
