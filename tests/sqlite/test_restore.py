"""`threadbus restore` to a file: what clients see, what is refused, and faults."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bus_server.store.epochs import shared_seq
from tests import own_bus, restored
from tests.callers import operator
from tests.conftest import StartServer
from tests.connections import connected
from tests.disks import fill, small_disk
from tests.peers import Peer
from tests.polling import has_open, until
from tests.refused_start import refused_start
from tests.shell import Shell
from tests.sqlite.stores import filled, locked, logs, rows
from tests.sqlite.test_store_upgrade import make_old
from tests.store.commits import commit, compact, create, post
from tests.wait_frames import waiting
from threadbus.v1.bus_service_pb2 import WaitResync
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import ListThreadsRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of 8 MB."""
    folder = tmp_path_factory.mktemp("stores")
    db = filled(folder / "bus.db", messages=7_000)
    Shell("127.0.0.1:1", folder).ok("backup", str(folder / "backup"), "--db", str(db))
    return folder / "backup"


@pytest.mark.parametrize("flags", [(), ("--keep-history",)])
async def test_agents_go_on_at_an_empty_machine_where_the_backup_was_made(
    start_server: StartServer, shell: Shell, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    first = start_server()
    past = await restored.hold(first)
    file, db = tmp_path / "backup", tmp_path / "elsewhere/new.db"
    backup = ("backup", str(file), "--db", str(first.db))
    assert (await asyncio.to_thread(shell.run_process, *backup)).code == 0
    if not flags:
        await restored.go_on(first, past)
    first.stop()
    db.parent.mkdir()
    restore = ("restore", str(file), "--db", str(db), *flags, "--json")
    done = await asyncio.to_thread(shell.run_process, *restore)
    assert (done.code, done.err) == (0, ""), done
    assert (done.json["restored"], done.json["db"]) == (True, str(db))
    assert (done.json["threads"], done.json["messages"], done.json["agents"]) == (1, 4, 2)
    assert [path.name for path in db.parent.iterdir()] == ["new.db"]
    second = start_server(db=db)
    await restored.check(second, past, new_history=not flags)
    assert operator(second).token != operator(first).token
    assert not second.problems


def test_a_store_is_replaced_only_with_force_and_never_while_it_is_served(
    backup: Path, start_server: StartServer, shell: Shell
) -> None:
    server = start_server()
    Shell(server.address, shell.home).ok("post", "old", "hello")
    run = ("restore", str(backup), "--db", str(server.db))
    assert "--force" in shell.run(*run).err
    done = shell.run(*run, "--force")
    assert (done.code, "is being served" in done.err) == (1, True)
    assert "hello" in Shell(server.address, shell.home).ok("read", "old").out
    server.kill()  # leaves a log, which is not replayed into the new store
    shell.ok(*run, "--force")
    assert logs(server.db) == logs(backup)
    server.start()
    names = Shell(server.address, shell.home).ok("thread", "list", "--json").json["threads"]
    assert [thread["name"] for thread in names] == ["t"]
    assert not server.problems


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:40_960], "damaged"),
        (lambda data: data[:-1], "its end is missing"),
        (lambda data: data[:5_000_000] + b"?" + data[5_000_001:], "checksum differs"),
        (lambda data: data[:60] + b"\0\0\0\x63" + data[64:], "schema version 99"),
        (lambda data: b"text" + data, "not a backup"),
        (lambda data: data[:68] + b"else" + data[72:], "not a backup"),
        (lambda data: b"", "not a backup"),
        (lambda data: data.replace(b"ThreadBus backup 1", b"ThreadBus backup 2"), "newer version"),
    ],
    ids=["cut", "cut-by-one", "byte", "newer", "text", "other", "empty", "newer-format"],
)
def test_what_is_no_whole_backup_is_refused(
    backup: Path, shell: Shell, tmp_path: Path, damage: object, said: str
) -> None:
    assert callable(damage)
    file = tmp_path / "damaged"
    file.write_bytes(damage(backup.read_bytes()))
    done = shell.run("restore", str(file), "--db", str(tmp_path / "new.db"))
    assert done.code == 1
    assert said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_what_cannot_be_a_target_is_refused(backup: Path, shell: Shell, tmp_path: Path) -> None:
    copy = Path(shutil.copy(backup, tmp_path / "backup"))
    (tmp_path / "notes.txt").write_text("of somebody", "utf-8")
    (tmp_path / "lost.db-wal").write_text("newest messages", "utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for target, force, said in (
        ("backup", True, "the backup itself"),
        ("notes.txt", True, "not a store"),
        (".", True, "is a folder"),
        ("none/new.db", False, "is not a folder"),
        ("lost.db", False, "the log of a database that is gone"),
    ):
        flags = ["--force"] if force else []
        done = shell.run("restore", str(copy), "--db", str(tmp_path / target), *flags)
        assert (done.code, said in done.err) == (1, True), done
    assert "--db FILE" in shell.run("restore", str(copy)).err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    shell.ok("restore", str(copy), "--db", str(tmp_path / "lost.db"), "--force")
    assert (tmp_path / "lost.db-wal.set-aside").read_text("utf-8") == "newest messages"


@pytest.mark.parametrize("version", [1, 6, 11])
def test_a_backup_of_an_older_version_is_upgraded_at_the_next_start(
    start_server: StartServer, shell: Shell, tmp_path: Path, version: int
) -> None:
    old = make_old(tmp_path / "old.db", version)
    shell.ok("backup", str(tmp_path / "backup"), "--db", str(old))
    shell.ok("restore", str(tmp_path / "backup"), "--db", str(tmp_path / "bus.db"))
    ((epoch,),) = rows(tmp_path / "bus.db", "SELECT epoch FROM thread")
    assert str(epoch).endswith(".2.e1")
    server = start_server()
    assert Shell(server.address, tmp_path).ok("read", "design").out.count("one") == 1


async def test_a_thread_goes_on_after_the_entries_that_it_lost_before_the_backup(
    start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    db, kept = tmp_path / "old.db", Retention(max_messages=2)
    async with own_bus.opened(db) as store:
        for name, retention in (("empty", None), ("short", kept), ("whole", None)):
            await commit(store, create(name, retention=retention))
            await commit(store, *(post(name) for _ in range(20)))
        await commit(store, compact(1, name="empty"), compact(name="short"))
        before = await store.heads(["empty", "short", "whole"])
    backup = ("backup", str(tmp_path / "backup"), "--db", str(db))
    restore = ("restore", str(tmp_path / "backup"), "--db", str(tmp_path / "bus.db"))
    for run in (backup, restore):
        assert (await asyncio.to_thread(shell.run, *run)).code == 0
    server = start_server()
    async with connected(server.address) as client:
        listed = await client.threads.ListThreads(ListThreadsRequest())
        found = {thread.name: thread for thread in listed.threads}
        assert {name: thread.first_seq for name, thread in found.items()} == {
            "empty": 21,
            "short": 19,
            "whole": 1,
        }
        assert found["short"].retention == kept
        for name, thread in found.items():
            # Who has read all of it goes on there, and nothing is reported twice.
            assert shared_seq(thread.epoch, before[name].epoch) == thread.head_seq == 20
            peer = Peer(client.bus)
            assert (await peer.post(name, "new", epoch=before[name].epoch)).seq == 21
            cursor = Cursor(thread=name, after_seq=20, epoch=before[name].epoch)
            async with waiting(client.bus, cursor, max_wait=0) as wait:
                resync = (await wait.until("resync")).resync
                assert resync.reason == WaitResync.REASON_EPOCH_CHANGED
                assert resync.position.cursor.after_seq == 20
                assert [message.content for message in await wait.messages(1)] == ["new"]


def test_a_store_with_a_log_is_no_backup_but_what_sqlite_copied_is(
    start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    server = start_server()
    Shell(server.address, tmp_path).ok("post", "talk", "hello")
    done = shell.run("restore", str(server.db), "--db", str(tmp_path / "new.db"))
    assert (done.code, "threadbus backup FILE --db" in done.err) == (1, True)
    with (
        contextlib.closing(sqlite3.connect(server.db)) as db,
        contextlib.closing(sqlite3.connect(tmp_path / "copy")) as copy,
    ):
        db.backup(copy)
    shell.ok("restore", str(tmp_path / "copy"), "--db", str(tmp_path / "new.db"))
    assert len(logs(tmp_path / "new.db")) == 1
    # The servers of the past are not there.
    assert not rows(tmp_path / "new.db", "SELECT * FROM server")


@pytest.mark.parametrize("delay", [0, 0.05, None])
def test_a_killed_restore_leaves_the_old_store_or_the_new_one(
    backup: Path, start_server: StartServer, shell: Shell, delay: float | None
) -> None:
    server = start_server()
    Shell(server.address, shell.home).ok("post", "old", "hello")
    server.kill()
    before = set(server.db.parent.iterdir())
    run = ("restore", str(backup), "--db", str(server.db), "--force")
    hold = contextlib.nullcontext() if delay is None else locked(server.db.parent)
    with shell.start(*run) as process, hold:
        asyncio.run(until(lambda: set(server.db.parent.iterdir()) != before))
        time.sleep(delay or 0)
        process.kill()
        process.wait(20)
    with contextlib.suppress(AssertionError):
        server.start()
    if server.process is None:
        assert "threadbus restore" in refused_start(server.db)
    else:
        found = Shell(server.address, shell.home).ok("thread", "list").out
        assert ("old" in found) != ("t " in found)
        server.kill()
    shell.ok(*run)
    assert logs(server.db) == logs(backup)
    assert not list(server.db.parent.glob("*-partial-*"))


def test_a_restore_that_was_killed_between_two_steps_is_refused_with_a_remedy(
    backup: Path, start_server: StartServer, shell: Shell
) -> None:
    server = start_server()
    Shell(server.address, shell.home).ok("post", "old", "hello")
    server.kill()
    script = f"""
import os, sys
from pathlib import Path
from bus_server.partial import Partial
from bus_server.store.sqlite.restore import restore
Partial.place = lambda *_, **__: os.kill(os.getpid(), 9)
restore(Path({str(backup)!r}), Path({str(server.db)!r}), force=True, keep_history=False,
        progress=lambda *_: None)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    said = refused_start(server.db)
    assert f"threadbus restore {backup} --db {server.db} --force" in said
    shell.ok("restore", str(backup), "--db", str(server.db), "--force")
    server.start()


def test_a_server_that_is_opening_the_store_keeps_it(
    backup: Path, shell: Shell, tmp_path: Path
) -> None:
    db = tmp_path / "bus.db"
    shell.ok("restore", str(backup), "--db", str(db))
    script = f"""
import aiosqlite, os, signal
from bus_server.__main__ import main
connect = aiosqlite.connect
def paused(*args, **options):
    aiosqlite.connect = connect
    os.kill(os.getpid(), signal.SIGSTOP)  # the file was checked, and is not open
    return connect(*args, **options)
aiosqlite.connect = paused
main(["--listen", "127.0.0.1:0", "--db", {str(db)!r}])
"""
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(subprocess.Popen([sys.executable, "-c", script]))
        ends.callback(server.kill)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED)
        process = ends.enter_context(
            shell.start("restore", str(backup), "--db", str(db), "--force")
        )
        asyncio.run(until(lambda: process.poll() is not None or has_open(process.pid, tmp_path)))
        server.send_signal(signal.SIGCONT)
        assert process.stderr is not None
        assert "is being served" in process.stderr.read()


def test_a_journal_of_a_former_store_is_not_rolled_back_into_the_new_one(
    backup: Path, start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    db, journal = tmp_path / "bus.db", tmp_path / "bus.db-journal"
    run = ("restore", str(backup), "--db", str(db))
    former = filled(tmp_path / "former", messages=500)
    with contextlib.closing(sqlite3.connect(former)) as opened:
        opened.execute("PRAGMA journal_mode = DELETE").fetchall()
        opened.execute("PRAGMA cache_size = 1")
        opened.execute("DELETE FROM message WHERE id % 2")
        hot = former.with_name("former-journal").read_bytes()
        torn = former.read_bytes()
        opened.rollback()
    journal.write_bytes(hot)
    shell.ok(*run)
    assert logs(db) == logs(backup)
    db.write_bytes(torn)
    journal.write_bytes(hot)
    shell.ok(*run, "--force")
    assert logs(db) == logs(backup)
    db.unlink()
    journal.write_bytes(hot)
    server = start_server()
    assert Shell(server.address, tmp_path).ok("post", "talk", "hello")
    assert not server.problems


def test_a_full_disk_leaves_the_old_store(backup: Path, shell: Shell, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=40) as disk:
        ballast = fill(disk)
        done = shell.run("restore", str(backup), "--db", str(disk / "new.db"))
        assert (done.code, "free some space" in done.err) == (1, True)
        assert list(disk.iterdir()) == [ballast]
        ballast.unlink()
        shell.ok("restore", str(backup), "--db", str(disk / "new.db"))
        assert logs(disk / "new.db") == logs(backup)


def test_a_disk_that_fills_while_a_store_is_restored_leaves_the_old_one(
    backup: Path, shell: Shell, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=60) as disk:
        old = filled(disk / "bus.db", messages=1)
        before = logs(old)
        run = ("restore", str(backup), "--db", str(old), "--force")
        with shell.start(*run) as process, locked(disk):  # it cannot end
            while not (found := list(disk.glob("*-partial-*"))):
                assert process.poll() is None
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            missing = backup.stat().st_size - found[0].stat().st_size
            ballast = fill(disk)
            process.send_signal(signal.SIGCONT)
            if missing > 0:
                said = process.communicate(timeout=30)[1]
                assert (process.returncode, "is full" in said) == (1, True), said
        assert set(disk.glob("*")) == {old, ballast, disk / "bus.db-writer"}
        ballast.unlink()  # SQLite needs room even to read it
        assert logs(old) == before


def test_root_restores_for_the_user_of_the_folder(backup: Path, shell: Shell) -> None:
    folder = shell.home / "data"
    folder.mkdir()
    try:
        os.chown(folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give files away")
    shell.ok("restore", str(backup), "--db", str(folder / "new.db"))
    status = (folder / "new.db").stat()
    assert (status.st_uid, status.st_mode & 0o777) == (12345, 0o600)
