"""Faults while a server runs: posts fail with the right error, none is half done, it recovers."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from bus_server.errors import StorageFull, StoreFailed, StoreLost
from bus_server.store import Append, Appended, CreateThread
from bus_server.store.sqlite.monitor import FileMonitor
from bus_server.store.sqlite.write_lock import WriteLock
from tests.conftest import StartServer
from tests.connections import connected
from tests.disks import fill, small_disk
from tests.ledger import Ledger, history
from tests.locks import commit_lock_held, locked
from tests.open_wait import open_wait
from tests.own_bus import append, opened
from tests.polling import until
from tests.post_stream import post_stream, reason, seqs
from tests.refusals import Refusal
from tests.serving import BusStub
from tests.statements import commits_tried
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread

FULL, FULL_DISK = "STORAGE_FULL", "the disk is full"

# ── A full disk ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_a_full_disk_refuses_posts_until_there_is_space_again(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=6) as disk:
        server, ledger = start_server(db=disk / "bus.db"), Ledger()

        async def attempt(bus: BusStub, label: str) -> Refusal | None:
            return await ledger.attempt(bus, name, f"{label} {'x' * 20_000}")

        async with connected(server.address, name) as client:
            bus = client.bus
            async with open_wait(bus, name) as wait:
                for n in range(20):
                    assert await attempt(bus, f"before {n}") is None
                ballast = fill(disk)
                refusals = [await attempt(bus, f"full {n}") for n in range(20)]
                refusals += await asyncio.gather(
                    *(attempt(bus, f"full, many {n}") for n in range(20))
                )
                told = {(r.code, r.reason) for r in refusals if r is not None}
                assert told == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")}
                ledger.check(name, await history(bus, name))

                ballast.unlink()
                for n in range(20):
                    assert await attempt(bus, f"after {n}") is None
                ledger.check(name, await history(bus, name))
                await wait.until(lambda: len(wait.messages) >= len(ledger))
                assert wait.seqs(name) == list(range(1, len(ledger) + 1))
        assert server.stop() == 0
        with contextlib.closing(sqlite3.connect(server.db)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
async def test_on_a_full_disk_repeated_posts_succeed_and_what_fits_is_stored(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    def post(label: str, size: int) -> PostMessageRequest:
        return PostMessageRequest(thread=name, content=label.ljust(size), request_id=label)

    stored, small, large = post("stored", 10), post("small", 10), post("large", 200_000)
    with small_disk(tmp_path / "disk", megabytes=6) as disk:
        server = start_server(db=disk / "bus.db")
        async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
            assert (await client.bus.PostMessage(stored)).seq == 1
            ballast = fill(disk)
            async with post_stream(client.bus) as stream:
                results = await stream.post(large, stored, small)
                assert [reason(result) for result in results] == [FULL, "", FULL]
                assert seqs(results) == [0, 1, 0]
                again = await client.bus.PostMessage(stored)  # alone
                assert (again.seq, again.deduplicated) == (1, True)

                os.truncate(ballast, ballast.stat().st_size - 100_000)
                results = await stream.post(large, stored, small)
                assert [reason(result) for result in results] == [FULL, "", ""]
                assert seqs(results) == [0, 1, 2]
                await wait.until(lambda: wait.seqs(name) == [1, 2])

                ballast.unlink()
                assert seqs(await stream.post(large, stored, small)) == [3, 1, 2]
            await until(lambda: any("over, after" in line for line in server.log))
        assert server.stop() == 0
        assert [FULL_DISK in line for line in server.problems] == [True, True]  # begin and end


@pytest.mark.slow
async def test_posts_of_several_callers_in_a_batch_on_a_full_disk_have_their_own_outcomes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def post(label: str) -> Append:
        return Append.of(Message(thread="t", sender="a", content=label, request_id=label))

    def repeated(outcome: object) -> int:
        assert isinstance(outcome, Appended)
        assert outcome.deduplicated
        return outcome.seq

    with small_disk(tmp_path / "disk", megabytes=6) as disk:
        async with opened(disk / "bus.db") as store:
            await store.commit([CreateThread(Thread(name="t"))])
            await store.commit([post("first"), post("second")])
            ballast = fill(disk)

            commit = await store.commit([post("first"), post("new"), post("second")])
            first, new, second = commit.outcomes
            assert (repeated(first), repeated(second)) == (1, 2)
            assert isinstance(new, StorageFull)
            assert not commit.heads
            assert store.failing
            (first,) = (await store.commit([post("first")])).outcomes
            assert repeated(first) == 1
            with pytest.raises(StorageFull):
                await store.commit([post("new")])
            await store.inspect()
            assert store.failing

            ballast.unlink()
            await store.inspect()
            assert not store.failing
            (new,) = (await store.commit([post("new")])).outcomes
            assert isinstance(new, Appended)
            assert (new.seq, new.deduplicated) == (3, False)
    told = [record.getMessage() for record in caplog.records if FULL_DISK in record.getMessage()]
    assert ["over, after" in line for line in told] == [False, True]


# ── A folder that cannot be read ────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_posts_are_refused_while_the_files_cannot_be_examined(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    server, ledger = start_server(db=folder / "bus.db"), Ledger()
    async with connected(server.address, name) as client:
        assert await ledger.attempt(client.bus, name, "before") is None
        folder.rename(elsewhere)
        folder.symlink_to(folder)  # stat fails, but not with ENOENT
        await until(lambda: any("cannot be written" in line for line in server.log))
        refusal = await ledger.attempt(client.bus, name, "meanwhile")
        assert refusal is not None
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_FAILED")
        folder.unlink()
        elsewhere.rename(folder)
        await until(lambda: any("over, after" in line for line in server.log))
        assert await ledger.attempt(client.bus, name, "after") is None
        ledger.check(name, await history(client.bus, name))
    assert server.stop() == 0
    assert not any("Traceback" in line for line in server.log)


def test_a_lock_file_that_cannot_be_reopened_stays_open(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / "bus.db", timeout=1.0)
    lock.path.unlink()
    lock.path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        lock.reopen()
    with lock.held():
        lock.path.rmdir()
    assert lock.reopen()
    assert lock.path.is_file()
    lock.close()


# ── A locked file ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("lock", [locked, commit_lock_held], ids=["by_a_program", "by_a_server"])
async def test_a_file_locked_for_longer_than_the_busy_timeout_refuses_posts_for_a_while(
    start_server: StartServer,
    name: str,
    lock: Callable[[Path], contextlib.AbstractContextManager[None]],
) -> None:
    server, ledger = start_server("--busy-timeout", "0.3"), Ledger()
    async with connected(server.address, name) as client:
        bus = client.bus
        await ledger.post(bus, name, "before")
        with lock(server.db):
            async with asyncio.timeout(20):
                refusals = await asyncio.gather(
                    *(ledger.attempt(bus, name, f"meanwhile {n}") for n in range(20))
                )
            for refusal in refusals:
                assert refusal is not None
                assert refusal.code == grpc.StatusCode.UNAVAILABLE
                assert refusal.reason == "STORE_BUSY"
                assert refusal.retry_delay
            # Reads and waits continue.
            ledger.check(name, await history(bus, name))
            async with open_wait(bus, name) as wait:
                await wait.until(lambda: wait.seqs(name) == [1])
        await ledger.post(bus, name, "after")
        ledger.check(name, await history(bus, name))


@pytest.mark.slow
async def test_a_file_locked_for_a_moment_only_delays_posts(
    start_server: StartServer, name: str
) -> None:
    server, ledger = start_server("--log-level", "debug"), Ledger()
    async with connected(server.address, name) as client, asyncio.TaskGroup() as group:
        bus = client.bus
        tried = commits_tried(server)
        with locked(server.db):
            post = group.create_task(ledger.post(bus, name, "patient"))
            await until(lambda: commits_tried(server) > tried)
        await post
        ledger.check(name, await history(bus, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "bound", [("--max-queued-posts", "10"), ("--max-queued-bytes", "20000")], ids=["posts", "bytes"]
)
async def test_posts_beyond_the_queues_capacity_are_refused_at_once(
    start_server: StartServer, name: str, bound: tuple[str, str]
) -> None:
    server, ledger = start_server("--log-level", "debug", *bound), Ledger()
    async with connected(server.address, name) as client:
        bus = client.bus
        tried = commits_tried(server)
        with locked(server.db):
            first = asyncio.create_task(ledger.attempt(bus, name, "being committed"))
            await until(lambda: commits_tried(server) > tried)
            others = [
                asyncio.create_task(ledger.attempt(bus, name, f"{n} {'x' * 1_500}"))
                for n in range(100)
            ]
            # Some eighty are refused, though nothing was committed and no call timed out.
            await until(lambda: sum(other.done() for other in others) >= 80)
            assert len(ledger) == 0
            assert not first.done()
        refusals = [refusal for refusal in await asyncio.gather(first, *others) if refusal]
        assert {refusal.reason for refusal in refusals} == {"STORE_BUSY"}
        assert all(refusal.retry_delay for refusal in refusals)
        assert 5 <= len(ledger) <= 20
        await ledger.post(bus, name, "there is room again")
        ledger.check(name, await history(bus, name))


@pytest.mark.slow
@pytest.mark.parametrize("chore", ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM"])
async def test_maintenance_by_another_program_does_no_harm(
    start_server: StartServer, name: str, chore: str
) -> None:
    server, ledger = start_server(), Ledger()

    async def poster(bus: BusStub, label: int) -> None:
        for n in range(50):
            await ledger.post(bus, name, f"{label}-{n}")

    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        async with asyncio.TaskGroup() as group:
            posters = [group.create_task(poster(client.bus, label)) for label in range(20)]
            while not all(poster.done() for poster in posters):
                await asyncio.to_thread(do, server.db, chore)
        ledger.check(name, await history(client.bus, name))
        await wait.until(lambda: len(wait.messages) >= 1_000)
        assert wait.seqs(name) == list(range(1, 1_001))


def do(db: Path, statement: str) -> None:
    """Run a statement as another program would."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as other:
        other.execute(statement).fetchall()


def test_a_file_shrunk_by_vacuum_is_not_taken_for_a_truncated_one(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    with contextlib.ExitStack() as last, contextlib.closing(sqlite3.connect(db)) as program:
        program.isolation_level = None
        program.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x)")

        def grow(kilobytes: int) -> None:
            program.execute("INSERT INTO t VALUES (zeroblob(?))", (kilobytes * 1024,))

        def checkpoint() -> None:
            program.execute("PRAGMA wal_checkpoint").fetchall()

        grow(4_096)
        checkpoint()
        monitor = FileMonitor(db)
        last.callback(monitor.close)  # after the connection, as its docstring says
        monitor.check()
        for _ in range(2):
            program.execute("DELETE FROM t")
            program.execute("VACUUM")
            checkpoint()
            grow(64)
            monitor.check()
        checkpoint()
        monitor.check()
        grow(64)
        monitor.check()
        os.truncate(db, db.stat().st_size // 2)
        with pytest.raises(StoreLost, match="was truncated"):
            monitor.check()


async def test_a_transaction_that_fails_after_its_writes_leaves_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FileMonitor) -> None:
        raise OSError(5, "Input/output error")

    async with opened(tmp_path / "bus.db") as store:
        await store.commit([CreateThread(Thread(name="t"))])
        with monkeypatch.context() as patch:
            patch.setattr(FileMonitor, "check_log", fail)
            with pytest.raises(StoreFailed):
                await store.commit([append("t", "lost")])
        (done,) = (await store.commit([append("t", "kept")])).outcomes
        assert isinstance(done, Appended)
        assert done.seq == 1
        assert len(await store.read(1, 0, 10, 1_000)) == 1
