"""A change to a thread during a wait's first read of its head is never missed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from bus_server.bus import Bus
from bus_server.errors import ThreadNotFound
from bus_server.settings import Settings
from bus_server.store import CreateThread, DeleteThread, Head
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from tests.own_bus import append, following, opened, running, wait_on
from tests.polling import until
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.thread_pb2 import Thread


class SlowHeads:
    """A store whose first result of `heads` is held back."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.looks = 0
        self.on_its_way = asyncio.Event()
        self.arrives = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        """Returns the heads of threads; the first result is held back until it is released."""
        heads = await self._store.heads(names)
        if not self.on_its_way.is_set():
            self.on_its_way.set()
            await self.arrives.wait()
        return heads

    async def foreign_version(self) -> int:
        """Returns the version of the file, and counts the calls."""
        version = await self._store.foreign_version()
        self.looks += 1
        return version

    async def check_completed(self) -> None:
        """Return when a check for other processes' commits has run from start to end."""
        looks = (
            self.looks
        )  # a check may be running: the next one sees the commit, and the third starts after it
        await until(lambda: self.looks >= looks + 3)


@dataclass(frozen=True, slots=True)
class Race:
    """A wait on thread t whose first read of heads is done, but not returned."""

    slow: SlowHeads
    bus: Bus
    theirs: SqliteStore
    frames: "asyncio.Queue[WaitMessagesResponse]"
    waiting: "asyncio.Task[None]"


@contextlib.asynccontextmanager
async def race(db: Path, fallback_interval: float) -> AsyncIterator[Race]:
    """A race, decided by what happens before `slow.arrives` is set."""
    frames: asyncio.Queue[WaitMessagesResponse] = asyncio.Queue()
    async with opened(db) as ours, opened(db) as theirs, asyncio.timeout(20):
        slow = SlowHeads(ours)
        await theirs.commit([CreateThread(Thread(name="t"))])
        settings = Settings(db=db, fallback_interval=fallback_interval)
        async with (
            running(cast("Store", slow), settings) as bus,
            following(bus, wait_on("t"), frames.put) as waiting,
        ):
            await slow.on_its_way.wait()
            yield Race(slow, bus, theirs, frames, waiting)


async def test_a_message_committed_by_another_process_is_delivered(
    tmp_path: Path,
) -> None:
    async with race(tmp_path / "bus.db", fallback_interval=0.01) as this:
        await this.theirs.commit([append("t", "hello")])
        await this.slow.check_completed()
        this.slow.arrives.set()
        while not (frame := await this.frames.get()).HasField("messages"):
            pass
        assert [message.content for message in frame.messages.messages] == ["hello"]


async def test_a_deletion_by_another_process_ends_the_wait(tmp_path: Path) -> None:
    async with race(tmp_path / "bus.db", fallback_interval=0.01) as this:
        await this.theirs.commit([DeleteThread("t")])
        await this.slow.check_completed()
        this.slow.arrives.set()
        with pytest.raises(ThreadNotFound):
            await this.waiting


async def test_a_deletion_by_our_own_process_ends_the_wait(tmp_path: Path) -> None:
    async with race(tmp_path / "bus.db", fallback_interval=0) as this:
        await this.bus.delete_thread(DeleteThread("t"))
        this.slow.arrives.set()
        with pytest.raises(ThreadNotFound):
            await this.waiting


async def test_a_thread_recreated_during_the_read_is_followed_from_its_first_message(
    tmp_path: Path,
) -> None:
    async with race(tmp_path / "bus.db", fallback_interval=0) as this:
        await this.bus.post(append("t", "old"))
        await this.bus.delete_thread(DeleteThread("t"))
        await this.bus.create_thread(Thread(name="t"))
        await this.bus.post(append("t", "new"))
        this.slow.arrives.set()
        while not (frame := await this.frames.get()).HasField("messages"):
            pass
        assert [message.content for message in frame.messages.messages] == ["new"]
