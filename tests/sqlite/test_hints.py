"""Servers on one file tell each other at once what has changed; the fallback looks only later."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from bus_server.bus import Bus
from bus_server.settings import Settings
from bus_server.store import Append, CreateThread, Row
from bus_server.store.interface import Store
from bus_server.store.sqlite import datagrams
from bus_server.store.sqlite.datagrams import DatagramWaker
from bus_server.store.sqlite.store import SqliteStore
from tests.open_wait import open_wait
from tests.own_bus import append, following, opened, running, wait_on
from tests.polling import until
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitMessagesResponse
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import MESSAGE_KIND_EDIT, Message
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, DeleteThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

Servers = tuple[ServerProcess, ServerProcess]

#: So rarely that no server polls in a test, nor has one a reason to by another one's checkpoint.
RARELY = ("--fallback-interval", "3600", "--checkpoint-interval", "3600")


@contextlib.asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[tuple[BusStub, ThreadStub]]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield BusServiceStub(channel), ThreadServiceStub(channel)


@contextlib.contextmanager
def pair(db: Path, *flags: str) -> Iterator[Servers]:
    """Two servers on one file."""
    with ServerProcess(db, *flags) as here, ServerProcess(db, *flags) as there:
        yield here, there


def sockets(db: Path) -> list[str]:
    """Returns the names of the sockets of the servers on a file."""
    folder = db.with_name(f"{db.name}-hints")
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Two servers on one file, for this module."""
    with pair(tmp_path_factory.mktemp("servers") / "bus.db", *RARELY) as both:
        yield both


async def test_a_post_through_one_server_wakes_a_wait_at_the_other(
    servers: Servers, name: str
) -> None:
    async with connected(servers[0]) as (bus, threads), connected(servers[1]) as (there, _):
        await threads.CreateThread(CreateThreadRequest(thread=name))
        async with open_wait(there, name) as wait:
            for seq in range(1, 6):
                await bus.PostMessage(PostMessageRequest(thread=name, content=str(seq)))
                await wait.until(lambda seq=seq: wait.seqs(name)[-1:] == [seq])  # type: ignore[misc]
        async with open_wait(bus, name) as wait:
            await there.PostMessage(PostMessageRequest(thread=name, content="6"))
            await wait.until(lambda: wait.seqs(name) == [1, 2, 3, 4, 5, 6])


async def test_a_wait_ends_at_once_when_another_server_deletes_its_thread(
    servers: Servers, name: str
) -> None:
    async with connected(servers[0]) as (_, threads), connected(servers[1]) as (there, _):
        await threads.CreateThread(CreateThreadRequest(thread=name))
        async with open_wait(there, name) as wait:
            await threads.DeleteThread(DeleteThreadRequest(thread=name))
            assert (await refused(wait.ended())).reason == "THREAD_NOT_FOUND"


async def test_posts_to_many_threads_at_once_wake_all_their_waits(
    servers: Servers, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(60)]
    async with connected(servers[0]) as (bus, threads), connected(servers[1]) as (there, _):
        for thread in names:
            await threads.CreateThread(CreateThreadRequest(thread=thread))
        async with open_wait(there, *names) as wait:
            posts = [PostMessageRequest(thread=thread, content="x") for thread in names * 5]
            await asyncio.gather(*(bus.PostMessage(post) for post in posts))
            await wait.until(lambda: len(wait.messages) == 300)
        assert all(wait.seqs(thread) == [1, 2, 3, 4, 5] for thread in names)


async def test_a_server_that_was_stopped_for_a_while_misses_nothing(tmp_path: Path) -> None:
    with pair(tmp_path / "bus.db", *RARELY) as (here, there):
        async with connected(here) as (bus, threads), connected(there) as (bus_there, _):
            names = [f"t{number}" for number in range(50)]
            for thread in names:
                await threads.CreateThread(CreateThreadRequest(thread=thread))
            async with open_wait(bus_there, *names) as wait:
                there.signal(signal.SIGSTOP)
                try:
                    for thread in names:  # more datagrams than its queue has room for
                        await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
                finally:
                    there.signal(signal.SIGCONT)
                await wait.until(lambda: len(wait.messages) == 50)


async def test_a_killed_servers_socket_is_removed_and_a_stopped_one_removes_its_own(
    tmp_path: Path,
) -> None:
    db = tmp_path / "bus.db"
    with ServerProcess(db, *RARELY) as here:
        await until(lambda: len(sockets(db)) == 1)
        (own,) = sockets(db)
        folder = tmp_path / "bus.db-hints"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        there = ServerProcess(db, *RARELY).start()
        await until(lambda: len(sockets(db)) == 2)
        there.kill()
        assert len(sockets(db)) == 2
        async with connected(here) as (bus, threads):
            await threads.CreateThread(CreateThreadRequest(thread="t"))
            await bus.PostMessage(PostMessageRequest(thread="t", content="x"))
        assert sockets(db) == [own]
        assert here.stop() == 0
    assert not folder.exists()


async def test_without_hints_the_fallback_still_sees_everything(tmp_path: Path) -> None:
    flags = ("--hints", "off", "--fallback-interval", "0.05")
    with pair(tmp_path / "bus.db", *flags) as (here, there):
        async with connected(here) as (bus, threads), connected(there) as (bus_there, _):
            await threads.CreateThread(CreateThreadRequest(thread="t"))
            async with open_wait(bus_there, "t") as wait:
                await bus.PostMessage(PostMessageRequest(thread="t", content="x"))
                await wait.until(lambda: wait.seqs("t") == [1])
    assert not (tmp_path / "bus.db-hints").exists()


@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (0o777, 0, "another user can write to it"),
        (0o700, 65_534, "another user can write to it"),
        (None, 0, "Not a directory"),
    ],
    ids=["writable for all", "of another user", "a file"],
)
async def test_a_folder_that_cannot_be_used_is_reported_and_the_fallback_works(
    tmp_path: Path, mode: int | None, owner: int, why: str
) -> None:
    if owner and os.geteuid() != 0:
        pytest.skip("only root can change a file's owner")
    folder = tmp_path / "bus.db-hints"
    if mode is None:
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, owner, -1)
    flags = ("--fallback-interval", "0.05")
    with pair(tmp_path / "bus.db", *flags) as (here, there):
        async with connected(here) as (bus, threads), connected(there) as (bus_there, _):
            await threads.CreateThread(CreateThreadRequest(thread="t"))
            async with open_wait(bus_there, "t") as wait:
                await bus.PostMessage(PostMessageRequest(thread="t", content="x"))
                await wait.until(lambda: wait.seqs("t") == [1])
        (problem,) = there.problems
        assert f"bus.db-hints cannot be used ({why})" in problem
    assert folder.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 5_000,
        b"[]",
        b"{",
        b'{"t": "x"}',
        b'{"t": 1e999}',
        b'{"other": 9}',
        b"1",
    ],
)
async def test_what_is_no_hint_is_ignored(servers: Servers, name: str, data: bytes) -> None:
    there = servers[1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for own in sockets(there.db):
            sender.sendto(data, str(there.db.with_name("bus.db-hints") / own))
    async with connected(servers[0]) as (bus, threads), connected(there) as (bus_there, _):
        await threads.CreateThread(CreateThreadRequest(thread=name))
        async with open_wait(bus_there, name) as wait:
            await bus.PostMessage(PostMessageRequest(thread=name, content="x"))
            await wait.until(lambda: wait.seqs(name) == [1])
    assert not there.problems


# ── In one process ──────────────────────────────────────────────────────────────────────────────


class CountedReads:
    """A store that counts its reads of messages, and can hold back the next one's result."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.reads = 0
        self.held_up = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[Row]:
        """Returns the rows, once `go_on` is set."""
        self.reads += 1
        rows = await self._store.read(thread_id, after, upto, max_bytes)
        self.held_up.set()
        await self.go_on.wait()
        return rows


@contextlib.asynccontextmanager
async def two(db: Path) -> AsyncIterator[tuple[Bus, Bus, CountedReads]]:
    """Two buses on one file, and the store of the second."""
    settings = Settings(db=db, fallback_interval=0)
    async with opened(db) as ours, opened(db) as theirs, asyncio.timeout(20):
        await ours.commit([CreateThread(Thread(name="t"))])
        counted = CountedReads(theirs)
        async with (
            running(ours, settings) as here,
            running(cast("Store", counted), settings) as there,
        ):
            await until(lambda: len(sockets(db)) == 2)
            yield here, there, counted


@contextlib.asynccontextmanager
async def waits(bus: Bus, count: int) -> AsyncIterator[list[list[Message]]]:
    """Waits on thread t that have caught up, and the messages that each got."""
    got: list[list[Message]] = [[] for _ in range(count)]
    caught_up = 0

    def take(messages: list[Message]) -> Callable[[WaitMessagesResponse], Any]:
        async def taken(frame: WaitMessagesResponse) -> None:
            nonlocal caught_up
            caught_up += frame.HasField("caught_up")
            messages.extend(frame.messages.messages)

        return taken

    async with contextlib.AsyncExitStack() as stack:
        for messages in got:
            await stack.enter_async_context(following(bus, wait_on("t"), take(messages)))
        await until(lambda: caught_up == count)
        yield got


async def test_a_thousand_waits_on_a_thread_cost_one_read(tmp_path: Path) -> None:
    async with two(tmp_path / "bus.db") as (here, there, store), waits(there, 1_000) as got:
        await here.post(append("t", "hello"))
        await until(lambda: all(map(len, got)))
        assert store.reads == 1
        assert {message.content for messages in got for message in messages} == {"hello"}


async def test_a_message_that_is_edited_while_it_is_read_is_not_kept_as_it_was(
    tmp_path: Path,
) -> None:
    db = tmp_path / "bus.db"
    async with two(db) as (here, there, store), waits(there, 2) as (messages, _):
        store.go_on.clear()
        await here.post(append("t", "hello"))
        await store.held_up.wait()
        edit = Message(thread="t", sender="someone", kind=MESSAGE_KIND_EDIT, edit_of=1)
        await there.post(Append.of(edit))
        store.go_on.set()
        await until(lambda: len(messages) == 2)
        async with waits(there, 1) as (later,):
            await until(lambda: len(later) == 2)
            assert [message.edit_seq for message in later] == [2, 0]


@pytest.mark.parametrize(
    "what",
    ["socket removed", "socket replaced", "folder in place of the socket", "folder removed"],
)
async def test_a_server_that_others_cannot_reach_makes_a_new_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(datagrams, "CHECK_INTERVAL", 0.02)
    db, folder = tmp_path / "bus.db", tmp_path / "bus.db-hints"
    async with contextlib.AsyncExitStack() as stack:
        here, there, _ = await stack.enter_async_context(two(db))
        (messages,) = await stack.enter_async_context(waits(there, 1))
        before = sockets(db)
        for name in before:
            (folder / name).unlink()
            if what == "socket replaced":
                other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                other.bind(str(folder / name))
            elif what == "folder in place of the socket":
                (folder / name).mkdir()
        if what == "folder removed":
            folder.rmdir()
        await until(lambda: len(set(sockets(db)) - set(before)) == 2)
        await here.post(append("t", "hello"))
        await until(lambda: len(messages) == 1)


async def test_a_server_that_cannot_reach_itself_reports_it_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(waker: DatagramWaker) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(DatagramWaker, "_send_to_itself", refuse)
    async with opened(tmp_path / "bus.db") as ours, asyncio.timeout(20):
        await ours.commit([CreateThread(Thread(name="t"))])
        async with running(ours, Settings(db=tmp_path / "bus.db")) as bus, waits(bus, 1) as (got,):
            await bus.post(append("t", "hello"))
            await until(lambda: len(got) == 1)
    assert "bus.db-hints cannot be used (Permission denied)" in caplog.text


async def test_a_peer_that_does_not_read_keeps_no_hint_from_the_others(tmp_path: Path) -> None:
    names = [f"{'x' * 100}{number}" for number in range(400)]
    async with two(tmp_path / "bus.db") as (here, there, _), waits(there, 1) as (messages,):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
            silent.bind(str(tmp_path / "bus.db-hints" / "silent"))
            for name in names:
                await here.create_thread(Thread(name=name))
            for _ in range(20):
                await asyncio.gather(*(here.post(append(name, "x")) for name in names))
            await here.post(append("t", "hello"))
            await until(lambda: len(messages) == 1)


async def test_only_sockets_are_removed_from_the_folder(tmp_path: Path) -> None:
    async with two(tmp_path / "bus.db") as (here, there, _), waits(there, 1) as (messages,):
        kept = tmp_path / "bus.db-hints" / "notes"
        kept.write_text("mine", "ascii")
        await here.post(append("t", "hello"))
        await until(lambda: len(messages) == 1)
        assert kept.read_text("ascii") == "mine"


async def test_a_deletion_is_not_hidden_by_a_post_to_the_next_thread_of_the_name(
    tmp_path: Path,
) -> None:
    names = [f"t{number}" for number in range(20)]
    with pair(tmp_path / "bus.db", *RARELY) as (here, there):
        async with connected(here) as (bus, threads), connected(there) as (bus_there, _):
            for thread in ["t", *names]:
                await threads.CreateThread(CreateThreadRequest(thread=thread))
            for _ in range(3):
                await bus.PostMessage(PostMessageRequest(thread="t", content="x"))
            async with open_wait(bus_there, "t") as wait:
                await wait.until(lambda: wait.seqs("t") == [1, 2, 3])
                there.signal(signal.SIGSTOP)
                try:
                    for thread in names:  # fills its queue
                        await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
                    await threads.DeleteThread(DeleteThreadRequest(thread="t"))
                    await threads.CreateThread(CreateThreadRequest(thread="t"))
                    await bus.PostMessage(PostMessageRequest(thread="t", content="x"))
                finally:
                    there.signal(signal.SIGCONT)
                assert (await refused(wait.ended())).reason == "THREAD_NOT_FOUND"


async def test_a_server_is_seen_although_the_folders_time_does_not_show_it(tmp_path: Path) -> None:
    db, folder = tmp_path / "bus.db", tmp_path / "bus.db-hints"
    heard: list[Mapping[str, int]] = []
    sender, receiver = DatagramWaker(db), DatagramWaker(db)
    sending = asyncio.create_task(sender.run(lambda _: None))
    await until(lambda: len(sockets(db)) == 1)
    sender.publish({"t": 1})
    shown = folder.stat().st_mtime_ns
    receiving = asyncio.create_task(receiver.run(heard.append))
    await until(lambda: len(sockets(db)) == 2)
    os.utime(folder, ns=(shown, shown))
    sender.publish({"t": 2})
    await until(lambda: bool(heard))
    assert heard == [{"t": 2}]
    for task in (sending, receiving):
        task.cancel()
    await asyncio.gather(sending, receiving, return_exceptions=True)


async def test_hints_that_find_no_room_are_merged_and_sent_again(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    db.touch()
    heard = 0
    newest: dict[str, int] = {}

    def hear(changed: Mapping[str, int]) -> None:
        nonlocal heard
        heard += 1
        newest.update(changed)

    sender, receiver = DatagramWaker(db), DatagramWaker(db)
    sending = asyncio.create_task(sender.run(lambda _: None))
    receiving = asyncio.create_task(receiver.run(hear))
    await until(lambda: len(sockets(db)) == 2)
    for seq in range(1, 101):  # the receiver gets no turn
        sender.publish({f"t{number}": seq for number in range(300)})
    await until(lambda: newest == {f"t{number}": 100 for number in range(300)})
    assert heard < 50
    for task in (sending, receiving):
        task.cancel()
    await asyncio.gather(sending, receiving, return_exceptions=True)
    assert not (tmp_path / "bus.db-hints").exists()


async def test_posts_are_answered_while_there_are_no_file_descriptors_left(tmp_path: Path) -> None:
    async with two(tmp_path / "bus.db") as (here, there, _), waits(there, 1) as (messages,):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            await here.post(append("t", "hello"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        await here.post(append("t", "again"))
        await until(lambda: len(messages) == 2)


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with two(folder / "bus.db") as (here, there, _), waits(there, 1) as (messages,):
        await here.post(append("t", "hello"))
        await until(lambda: len(messages) == 1)
