"""Promises that only show when something outside goes wrong: disks, other programs, callers."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from bus_server.bus import Bus
from bus_server.errors import StoreFailed
from bus_server.filter import Filter
from bus_server.follow import Wait
from bus_server.settings import Settings
from bus_server.store import Append, CreateThread, Head
from bus_server.store.sqlite import SqliteStore
from tests.conftest import StartServer
from tests.peers import Peer
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess
from tests.tracing import traced
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message, MessageFilter
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that looks at nothing unless it is woken."""
    db = tmp_path_factory.mktemp("promises") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


@contextlib.contextmanager
def writing_held_up(db: Path) -> Iterator[None]:
    """Within this nobody can commit, as if another server did so for long."""
    lock = os.open(f"{db}-writer", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


async def taken(bus: BusStub) -> None:
    """Return when the server has dealt with all that was sent to it over this connection before."""
    for _ in range(3):
        await bus.GetServerInfo(GetServerInfoRequest(), timeout=10)


def post(bus: BusStub, thread: str, content: str) -> "asyncio.Future[PostMessageResponse]":
    """A call under way."""
    request = PostMessageRequest(thread=thread, content=content)
    return asyncio.ensure_future(bus.PostMessage(request, timeout=20))


async def test_a_post_that_was_taken_is_stored_and_told_although_its_caller_went_away(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    async with Peer(bus).wait(thread) as frames:
        await frames.until("caught_up")
        with writing_held_up(server.db):
            first = post(bus, thread, "being committed")
            await taken(bus)
            second = post(bus, thread, "in the queue")
            await taken(bus)
            second.cancel()
            await taken(bus)
        await first
        told = [message.content for message in await frames.messages(2)]
    assert told == ["being committed", "in the queue"]


async def test_a_row_that_cannot_be_stored_fails_alone(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    with contextlib.closing(sqlite3.connect(server.db)) as db:
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON message"
            " WHEN instr(NEW.body, CAST('poison' AS BLOB))"
            " BEGIN SELECT RAISE(ABORT, 'poison'); END"
        )
    try:
        with writing_held_up(server.db):
            calls = [post(bus, thread, "being committed")]
            await taken(bus)
            calls += [post(bus, thread, content) for content in ("a", "poison", "b")]
            await taken(bus)
        assert (await refused(calls.pop(2))).reason == "INTERNAL"
        assert [answer.seq for answer in await asyncio.gather(*calls)] == [1, 2, 3]
    finally:
        with contextlib.closing(sqlite3.connect(server.db)) as db:
            db.execute("DROP TRIGGER refuse")
    stored = [message.content for message in await Peer(bus).read(thread)]
    assert stored == ["being committed", "a", "b"]


@contextlib.asynccontextmanager
async def on(server: ServerProcess, thread: str) -> AsyncIterator[BusStub]:
    """A server of the test's own, with a thread."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        await ThreadServiceStub(channel).CreateThread(CreateThreadRequest(thread=thread))
        yield BusServiceStub(channel)


@pytest.mark.slow
async def test_each_answered_post_was_synced_to_the_disk(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    async with on(server, "t") as bus:
        with traced(server.pid, tmp_path / "trace", "trace=fsync,fdatasync") as trace:
            await Peer(bus).post("t")
            before = trace.count("fsync", "fdatasync")
            for _ in range(10):
                await Peer(bus).post("t")
            assert trace.count("fsync", "fdatasync") >= before + 10


@pytest.mark.slow
async def test_a_post_is_not_answered_before_it_would_outlive_kill_9(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    async with on(server, "t") as bus:
        await Peer(bus).post("t")
        slow_disk = ("trace=pwrite64", "inject=pwrite64:delay_enter=100000")
        with traced(server.pid, tmp_path / "trace", *slow_disk):
            await Peer(bus).post("t", "answered")
            server.kill()
    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stored = await Peer(BusServiceStub(channel)).read("t")
    assert [message.content for message in stored] == ["hello", "answered"]


class HiccupStore(SqliteStore):
    """A store that fails to read heads once, when it is told to."""

    failing = False

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        if self.failing:
            self.failing = False
            raise StoreFailed("the disk hiccups")
        return await super().heads(names)


async def test_what_others_wrote_is_found_although_the_look_for_it_failed_once(
    tmp_path: Path,
) -> None:
    db = tmp_path / "bus.db"
    ours = await HiccupStore.open(db, full_durability=True, busy_timeout=5)
    theirs = await SqliteStore.open(db, full_durability=True, busy_timeout=5)
    assert isinstance(ours, HiccupStore)
    bus = Bus(ours, Settings(db=db, fallback_interval=0.05))
    tasks = bus.tasks()
    frames: asyncio.Queue[WaitMessagesResponse] = asyncio.Queue()
    wait = Wait(
        cursors=[Cursor(thread="t")],
        filter=Filter(MessageFilter(), ""),
        max_messages=1,
        min_messages=0,
        max_wait=None,
        time_remaining=None,
        keepalive_interval=300,
    )
    try:
        await theirs.commit([CreateThread(Thread(name="t"))])
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(bus.follow(wait, None, frames.put))
            while not (await frames.get()).HasField("caught_up"):
                pass
            ours.failing = True
            message = Message(thread="t", sender="them", kind=MESSAGE_KIND_CHAT, content="hello")
            await theirs.commit([Append(message)])
            assert (await frames.get()).messages.messages[0].content == "hello"
        assert not ours.failing
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await theirs.close()
        await ours.close()
