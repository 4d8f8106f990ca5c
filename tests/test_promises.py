"""Guarantees under outside failures: of callers, disks and other programs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bus_server.errors import StoreFailed
from bus_server.settings import Settings
from bus_server.store import Append, CreateThread, DeleteThread, Head
from bus_server.store.sqlite.store import SqliteStore
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import commit_lock_held
from tests.own_bus import Frames, running, wait_on
from tests.peers import Peer
from tests.serving import BusStub, ServerProcess
from tests.strace import traced
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message
from threadbus.v1.thread_pb2 import Thread

# ── Callers that disconnect ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server whose waits look for messages only when woken."""
    db = tmp_path_factory.mktemp("promises") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


def post(bus: BusStub, thread: str, content: str) -> "asyncio.Future[PostMessageResponse]":
    """Start a post."""
    request = PostMessageRequest(thread=thread, content=content)
    return asyncio.ensure_future(bus.PostMessage(request, timeout=20))


async def taken(bus: BusStub) -> None:
    """Return when the server has handled all that was sent over this connection before."""
    for _ in range(3):
        await bus.GetServerInfo(GetServerInfoRequest(), timeout=10)


@pytest.mark.sqlite
async def test_a_received_post_is_stored_and_delivered_although_its_caller_disconnected(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    async with Peer(bus).wait(thread) as frames:
        await frames.until("caught_up")
        with commit_lock_held(server.db):
            first = post(bus, thread, "being committed")
            await taken(bus)
            second = post(bus, thread, "in the queue")
            await taken(bus)
            second.cancel()
            await taken(bus)
        await first
        told = [message.content for message in await frames.messages(2)]
    assert told == ["being committed", "in the queue"]


# ── Slow disks ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_a_post_is_not_acknowledged_before_it_would_survive_kill_9(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server()
    slow_writes = (
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:delay_enter=100000",
        "-o",
        str(tmp_path / "calls"),
    )
    async with connected(server.address, name) as client:
        await Peer(client.bus).post(name, "before")
        with traced(server, *slow_writes, "-o", str(tmp_path / "calls")):
            await Peer(client.bus).post(name, "answered")
            server.kill()
    server.start()
    async with connected(server.address) as client:
        stored = await Peer(client.bus).read(name)
    assert [message.content for message in stored] == ["before", "answered"]


# ── Stores ──────────────────────────────────────────────────────────────────────────────────────


class FailingStore(SqliteStore):
    """A store whose `heads` fails once, when `failing` is set."""

    failing = False

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        if self.failing:
            self.failing = False
            raise StoreFailed("the disk hiccups")
        return await super().heads(names)


@contextlib.asynccontextmanager
async def opened(store: type[SqliteStore], db: Path) -> AsyncIterator[SqliteStore]:
    """A store of this type over a file."""
    opened = await store.open(db, full_durability=True, busy_timeout=5)
    try:
        yield opened
    finally:
        await opened.close()


def append(content: str) -> Append:
    """Returns the command of a post to thread t."""
    return Append.of(Message(thread="t", sender="someone", kind=MESSAGE_KIND_CHAT, content=content))


async def test_messages_of_others_are_found_although_a_check_for_them_failed(
    tmp_path: Path,
) -> None:
    db = tmp_path / "bus.db"
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    wait = replace(wait_on("t"), max_messages=1)
    read = WaitMessagesResponse.FromString
    async with opened(FailingStore, db) as ours, opened(SqliteStore, db) as theirs:
        assert isinstance(ours, FailingStore)
        await theirs.commit([CreateThread(Thread(name="t"))])
        settings = Settings(db=db, fallback_interval=0.05)
        async with (
            running(ours, settings) as bus,
            asyncio.timeout(10),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(bus.follow(wait, Frames(frames.put)))
            while not read(await frames.get()).HasField("caught_up"):
                pass
            ours.failing = True
            await theirs.commit([append("hello")])
            assert read(await frames.get()).messages.messages[0].content == "hello"
        assert not ours.failing


async def test_a_batch_wakes_no_wait_on_a_thread_that_was_deleted_within_it(
    tmp_path: Path,
) -> None:
    thread = Thread(name="t")
    async with opened(SqliteStore, tmp_path / "bus.db") as store:
        await store.commit([CreateThread(thread), append("old")])
        commit = await store.commit(
            [append("old, too"), DeleteThread("t"), CreateThread(thread), append("new")]
        )
        ((_, body),) = commit.entries["t"].values()
        assert Message.FromString(body).content == "new"
        assert commit.heads == await store.heads(["t"])
