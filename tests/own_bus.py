"""A bus in the test's own process, over a real file: for states that no client can time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from bus_server.bus import Bus
from bus_server.filter import Filter
from bus_server.parts import Parts, build
from bus_server.settings import Settings
from bus_server.store import Append
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from bus_server.waits import WaitRequest
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message, MessageFilter

Take = Callable[[WaitMessagesResponse], Awaitable[None]]


@contextlib.asynccontextmanager
async def opened(db: Path, *, busy_timeout: float = 5) -> AsyncIterator[SqliteStore]:
    """A store over a file. Several over one file behave like several processes."""
    store = await SqliteStore.open(db, full_durability=False, busy_timeout=busy_timeout)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def running(store: Store, settings: Settings) -> AsyncIterator[Bus]:
    """A bus over a store, with its background loops."""
    async with started(store, settings) as parts:
        yield parts.bus


@contextlib.asynccontextmanager
async def started(store: Store, settings: Settings) -> AsyncIterator[Parts]:
    """As `running`: the bus and the parts beside it."""
    parts = build(store, settings)
    tasks = parts.start(settings)
    try:
        yield parts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Frames:
    """The outlet of a wait: takes every frame at once, however large."""

    def __init__(self, take: Callable[[bytes], Awaitable[None]]) -> None:
        self.send = take

    timeout = 1.0

    async def reserve(self, size: int, timeout: float | None = None) -> None:
        """There is always room."""

    def release(self) -> None:
        """Nothing is reserved."""


@contextlib.asynccontextmanager
async def following(bus: Bus, wait: WaitRequest, take: Take) -> AsyncIterator["asyncio.Task[None]"]:
    """A wait in progress, cancelled at the end."""

    async def send(frame: bytes) -> None:
        await take(WaitMessagesResponse.FromString(frame))

    task = asyncio.create_task(bus.follow(wait, Frames(send)))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def wait_on(thread: str, wanted: MessageFilter | None = None) -> WaitRequest:
    """Returns a wait from a thread's first message that only the thread ends."""
    return WaitRequest(
        starts=[(thread, 0, "", 0)],
        filter=Filter(wanted or MessageFilter(), ""),
        max_messages=0,
        min_messages=0,
        count_all=False,
        max_wait=None,
        time_remaining=None,
        keepalive_interval=300,
    )


def append(thread: str, content: str) -> Append:
    """Returns the command of a post."""
    message = Message(thread=thread, sender="someone", kind=MESSAGE_KIND_CHAT, content=content)
    return Append.of(message)
