"""Agents that keep two servers busy: they post, wait, ask and fall silent."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

from bus_client import BusClient, BusError, Wake

#: Agents that converse, threads, and posts a second at the busiest.
AGENTS, THREADS, MOST = 24, 6, 120.0
#: Seconds of a wave of the traffic.
WAVE = 60.0
_CHANCE = random.Random(7)  # noqa: S311 - the same scene each time


async def play(addresses: Sequence[str], folder: Path, seconds: float) -> None:
    """Play the scene for so long. The same one each time, but for the machine's own time."""
    credentials = folder / "credentials.json"
    async with contextlib.AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
        readers = [
            await opened.enter_async_context(
                BusClient(addresses[at % len(addresses)], agent=f"a{at}", credentials=credentials)
            )
            for at in range(AGENTS)
        ]
        following = [
            tasks.create_task(_follow(bus, f"thread-{at % THREADS}"))
            for at, bus in enumerate(readers)
        ]
        silent = BusClient(addresses[0], agent="silent", credentials=credentials, heartbeats=False)
        async with silent:
            await silent.join("thread-0")
        await _post(readers, seconds)
        for task in following:
            task.cancel()


async def _follow(bus: BusClient, thread: str) -> None:
    handle = await bus.join(thread)
    async for message in handle.follow():
        if bus.agent in message.expect_reply.agents and _CHANCE.random() < 0.7:
            await handle.post("Yes.", reply_to=message.seq)


async def _post(readers: Sequence[BusClient], seconds: float) -> None:
    """Post in waves, now and then with a question or a mistake."""
    begin = time.monotonic()
    async with asyncio.TaskGroup() as posts:
        while (now := time.monotonic() - begin) < seconds:
            rate = MOST * (0.55 - 0.45 * math.cos(now / WAVE * 2 * math.pi))
            posts.create_task(_one(readers))
            await asyncio.sleep(_CHANCE.expovariate(rate))


async def _one(readers: Sequence[BusClient]) -> None:
    at = _CHANCE.randrange(len(readers))
    thread = readers[at].thread(f"thread-{at % THREADS}")
    chance = _CHANCE.random()
    with contextlib.suppress(BusError):
        if chance < 0.02:
            other = f"a{(at + THREADS) % len(readers)}"
            await thread.post("Is it done?", mentions=[other], ask=True, within=20)
        elif chance < 0.03:
            await thread.post("Late.", expected_last_seq=1)
        elif chance < 0.04:
            await readers[at].get_thread("no-such-thread")
        elif chance < 0.05:
            await thread.post("ok", wakes=Wake.WAKE_NOBODY)
        else:
            await thread.post("x" * _CHANCE.randrange(40, 2_000))
