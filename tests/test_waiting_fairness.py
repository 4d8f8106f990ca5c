"""Waits that skip many messages without delivering any let others have their turns."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from bus_server.follow.limits import FRAME_MESSAGES
from bus_server.settings import Settings
from bus_server.store import CreateThread
from tests.own_bus import append, following, opened, running, wait_on
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import MessageFilter
from threadbus.v1.thread_pb2 import Thread

FRAMES = 5


@pytest.mark.slow
async def test_a_wait_that_skips_a_long_run_of_cached_messages_lets_others_run_in_between(
    tmp_path: Path,
) -> None:
    db, turns = tmp_path / "bus.db", 0
    turns_at: dict[str, int] = {}
    caught_up = asyncio.Event()

    async def another_task() -> None:
        nonlocal turns
        while not caught_up.is_set():
            turns += 1
            await asyncio.sleep(0)

    async def send(frame: WaitMessagesResponse) -> None:
        turns_at[frame.WhichOneof("frame") or ""] = turns
        if frame.HasField("caught_up"):
            caught_up.set()

    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(30):
        store = await stack.enter_async_context(opened(db))
        await store.commit([CreateThread(Thread(name="t"))])
        bus = await stack.enter_async_context(running(store, Settings(db=db, fallback_interval=0)))
        posts = [bus.post(append("t", str(n))) for n in range(FRAMES * FRAME_MESSAGES)]
        await asyncio.gather(*posts)
        other = asyncio.create_task(another_task())
        wait = wait_on("t", MessageFilter(senders=["nobody"]))
        await stack.enter_async_context(following(bus, wait, send))
        await caught_up.wait()
        await other
    assert turns_at["caught_up"] - turns_at["started"] >= FRAMES - 1
