"""statistics() of the writer, waits, tails and recent messages: they grow, and fall to zero."""

import asyncio
from pathlib import Path

from bus_server.settings import Settings
from bus_server.tail import TailStatistics
from bus_server.waits import WaitStatistics
from bus_server.writer import WriterStatistics
from tests.own_bus import append, following, opened, started, wait_on
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.thread_pb2 import Thread


async def test_posts_are_counted_until_they_have_their_outcomes(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, started(store, settings) as parts:
        await parts.bus.create_thread(Thread(name="design"))
        await parts.writer.drain()  # of the purge that follows a start, too
        posts = [asyncio.create_task(parts.bus.post(append("design", "x"))) for _ in range(3)]
        await asyncio.sleep(0)
        pending = parts.writer.statistics()
        assert (pending.queued, pending.pending, pending.pending_posts) == (3, 3, 3)
        assert pending.pending_bytes == 3 * append("design", "x").size
        await asyncio.gather(*posts)
        assert parts.writer.statistics() == WriterStatistics(0, 0, 0, 0)
        recent = parts.resources.recent.statistics()
        assert (recent.threads, recent.messages) == (1, 3)
        assert recent.bytes > 3 * len("x")


async def test_waits_are_counted_until_they_end(tmp_path: Path) -> None:
    caught_up = asyncio.Event()

    async def take(frame: WaitMessagesResponse) -> None:
        if frame.HasField("caught_up"):
            caught_up.set()

    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, started(store, settings) as parts:
        await parts.bus.create_thread(Thread(name="design"))
        async with following(parts.bus, wait_on("design"), take):
            await caught_up.wait()
            assert parts.waits.statistics() == WaitStatistics(1, 1, agents=0, threads=1)
            assert parts.resources.tails.statistics() == TailStatistics(threads=1, holds=1)
        assert parts.waits.statistics() == WaitStatistics(0, 0, 0, 0)
        assert parts.resources.tails.statistics() == TailStatistics(0, 0)
