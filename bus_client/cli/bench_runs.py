"""The benchmarks of `threadbus bench`, each on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.bench_results import Result, Tally, content, number_of, times
from bus_client.cli.session import side_by_side

if TYPE_CHECKING:
    from bus_client import BusClient, ThreadHandle

#: Seconds within which what was posted must have come, else it counts as lost.
_PATIENCE = 10.0
#: What is posted before message 0, to learn that all waits are open.
_ROLL_CALL = "Are you all there?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much each benchmark does."""

    seconds: float
    """How long it posts."""
    size: int
    """Bytes of each message's content."""
    concurrency: int
    """Posts under way at once, in `post`."""
    waits: int
    """Open waits, in `fan-out`."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark under way."""

    poster: BusClient
    reader: BusClient
    """Another client. What it follows has a connection of its own."""
    token: str | None
    """Theirs, if they have one."""
    thread: str
    """A thread that is there only for this."""
    load: Load
    step: Callable[[int], object]
    """To be told how many milliseconds of `load.seconds` went by since it was last told."""


async def post(bench: Bench) -> Result:
    """Posts/s with many posts under way, and how long each took."""
    thread, load = bench.poster.thread(bench.thread), bench.load
    numbers, taken, posted = count(), list[float](), set[int]()
    clock = Clock(bench)

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
    """From calling post() to having the message in another connection's follow()."""
    crowd = _Crowd(bench, 1)
    await crowd.run()
    return Result(
        name="wake",
        what=f"one post after the other to one wait, {bench.load.size:,} bytes",
        figures=times(crowd.woken),
        count=crowd.posted,
        lost=crowd.lost,
        duplicated=crowd.duplicated,
    )


async def fan_out(bench: Bench) -> Result:
    """One post to many waits: until the last one has it."""
    waits = bench.load.waits
    crowd = _Crowd(bench, waits)
    await crowd.run()
    deliveries = len(crowd.woken) * waits
    return Result(
        name="fan-out",
        what=f"one post to {waits:,} waits, {bench.load.size:,} bytes, until all have it",
        figures={
            "deliveries_per_s": deliveries / max(sum(crowd.woken), 1e-9),
            **times(crowd.woken),
        },
        count=crowd.posted * waits,
        lost=crowd.lost,
        duplicated=crowd.duplicated,
    )


class _Over(Exception):
    """Enough was posted: whoever reads may stop."""


class _Crowd:
    """Some waits on one thread, and a poster that waits for all of them after each post."""

    def __init__(self, bench: Bench, waits: int) -> None:
        #: How long after each post the last wait had it, in seconds.
        self.woken: list[float] = []
        self.posted = 0
        self.lost = 0
        self.duplicated = 0
        self._bench = bench
        self._waits = waits
        self._missing = 0
        self._all_here = asyncio.Event()
        self._arrived = 0.0

    async def run(self) -> None:
        """Posts until the time is up, or something was lost."""
        with suppress(_Over):
            await side_by_side([self._post(), *(self._read() for _ in range(self._waits))])

    async def _post(self) -> None:
        bench = self._bench
        thread, size = bench.poster.thread(bench.thread), bench.load.size
        if await self._post_one(thread, _ROLL_CALL):
            clock = Clock(bench)
            while clock.running() and not self.lost:
                began = time.perf_counter()
                if await self._post_one(thread, content(self.posted, size)):
                    self.woken.append(self._arrived - began)
                self.posted += 1
        raise _Over

    async def _post_one(self, thread: ThreadHandle, text: str) -> bool:
        """Whether all have it in time."""
        self._missing = self._waits
        self._all_here.clear()
        await thread.post(text)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._all_here.wait()
        self.lost += self._missing
        return not self._missing

    async def _read(self) -> None:
        next_number = number_of(_ROLL_CALL)
        follow = from_start(self._bench).follow(include_own=True, acknowledge=False)
        async with aclosing(follow) as messages:
            async for message in messages:
                # No message is posted before all have the one before it, or time out.
                if number_of(message.content) != next_number:
                    self.duplicated += 1
                    continue
                next_number += 1
                self._missing -= 1
                if not self._missing:
                    self._arrived = time.perf_counter()
                    self._all_here.set()


class Clock:
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


def from_start(bench: Bench) -> ThreadHandle:
    """The thread, to be read from its first message on."""
    thread = bench.reader.thread(bench.thread)
    thread.position = bus_client.Cursor(thread=bench.thread, after_seq=0)
    return thread


async def _kept(bench: Bench) -> Tally:
    """What the thread holds."""
    tally, thread = Tally(), from_start(bench)
    head = (await thread.refresh()).head_seq
    if not head:
        return tally
    async with aclosing(thread.follow(include_own=True, acknowledge=False)) as messages:
        async for message in messages:
            tally.got[number_of(message.content)] += 1
            if message.seq >= head:
                break
    return tally
