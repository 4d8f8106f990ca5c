"""`threadbus backup` of a file: whole and of one moment, or not there."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.conftest import StartServer
from tests.disks import fill, make_read_only, small_disk
from tests.polling import until
from tests.shell import Shell
from tests.sqlite.stores import empty_index, filled, locked, logs, rows
from threadbus.v1.message_pb2 import Message

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 8 MB that is not served."""
    return filled(tmp_path_factory.mktemp("stores") / "bus.db", messages=7_000)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _is_whole(path: Path) -> bool:
    """Returns whether a backup has its last line."""
    return b"ThreadBus backup 1 sha256 " in path.read_bytes()[-100:]


async def test_a_backup_has_all_that_was_acknowledged_before_it_and_a_beginning_of_the_rest(
    start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    servers = [start_server("--fallback-interval", "0.1") for _ in "ab"]
    target, db = tmp_path / "copy", servers[0].db
    acknowledged: dict[tuple[str, int], str] = {}
    stopping = False

    async def work(number: int) -> None:
        async with BusClient(servers[number % 2].address, agent=f"a{number}") as bus:
            thread = await bus.join(f"t{number % 3}")
            while not stopping:
                content = f"{number} {len(acknowledged)}"
                done = await thread.post(content)
                acknowledged[f"t{number % 3}", done.seq] = content

    workers = [asyncio.create_task(work(number)) for number in range(6)]
    for _ in range(3):
        count = len(acknowledged)
        await until(lambda count=count: len(acknowledged) > count + 100)  # type: ignore[misc]
        before = dict(acknowledged)
        done = await asyncio.to_thread(
            shell.run_process, "backup", str(target), "--db", str(db), "--force"
        )
        assert (done.code, done.err) == (0, "")
        found: dict[str, list[Message]] = {}
        for name, body in rows(
            target,
            "SELECT t.name, m.body FROM message AS m JOIN thread AS t ON t.id = m.id >> 32"
            " ORDER BY m.id",
        ):
            assert isinstance(body, bytes)
            found.setdefault(str(name), []).append(Message.FromString(body))
        for name, entries in found.items():
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), name
        kept = {(name, entry.seq): entry.content for name in found for entry in found[name]}
        assert before.items() <= kept.items()
    stopping = True
    await asyncio.gather(*workers)
    assert kept.items() <= {**kept, **acknowledged}.items()
    assert target.stat().st_mode & 0o777 == 0o600
    assert not [server.problems for server in servers if server.problems]


def test_the_log_of_a_server_that_was_killed_is_in_the_backup(
    start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    server = start_server()
    Shell(server.address, tmp_path).ok("post", "talk", "the newest")
    server.kill()
    assert server.db.with_name("bus.db-wal").stat().st_size
    document = shell.ok("backup", str(tmp_path / "copy"), "--db", str(server.db), "--json").json
    assert document["messages"] == len(logs(tmp_path / "copy")) == 1
    assert document["bytes"] == (tmp_path / "copy").stat().st_size
    server.start()
    assert Shell(server.address, tmp_path).ok("read", "talk").out.count("the newest") == 1


def test_a_backup_of_a_backup_is_the_same(store: Path, shell: Shell, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = shell.ok("backup", str(first), "--db", str(store))
    assert re.fullmatch(
        rf"{store} is in {first}: \d\.\d MiB, 1 thread, 7,000 messages, 0 agents\n", done.out
    )
    shell.ok("backup", str(second), "--db", str(first))
    assert logs(first) == logs(second) == logs(store)


def test_a_store_that_is_in_use_is_not_replaced_even_with_force(
    store: Path, start_server: StartServer, shell: Shell
) -> None:
    server = start_server()
    Shell(server.address, shell.home).ok("post", "talk", "hello")
    run = ("backup", str(server.db), "--db", str(store), "--force")
    for served in (True, False):
        if not served:
            server.kill()  # leaves a log
        done = shell.run(*run)
        assert (done.code, "is a store that is served or has a log" in done.err) == (1, True)
    server.start()
    assert "hello" in Shell(server.address, shell.home).ok("read", "talk").out
    done = shell.run("backup", f"{store}-hints", "--db", str(store), "--force")
    assert (done.code, "is a file of the store" in done.err) == (1, True)


async def test_an_interrupt_while_the_finished_copy_waits_for_its_name_leaves_nothing(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()

    def is_whole() -> bool:
        return any(b"ThreadBus backup 1" in file.read_bytes()[-200:] for file in folder.iterdir())

    with (
        locked(folder),
        shell.start("backup", str(folder / "copy"), "--db", str(store)) as process,
    ):
        await until(is_whole)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 30) == 130
    assert not list(folder.iterdir())


def test_a_file_that_is_there_is_replaced_only_with_force(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    target.write_text("yesterday's", "utf-8")
    done = shell.run("backup", str(target), "--db", str(store))
    assert (done.code, "--force" in done.err) == (1, True)
    assert target.read_text("utf-8") == "yesterday's"
    shell.ok("backup", str(target), "--db", str(store), "--force")
    assert logs(target) == logs(store)


@pytest.mark.parametrize(
    ("target", "db", "said"),
    [
        ("bus.db", "bus.db", "is a file of the store"),
        ("bus.db-wal", "bus.db", "is a file of the store"),
        ("bus.db.operator-token", "bus.db", "is a file of the store"),
        (".", "bus.db", "is a folder"),
        ("none/copy", "bus.db", "is not a folder"),
        ("copy", "none.db", "does not exist"),
        ("copy", "empty.db", "is empty"),
        ("copy", "other.db", "belongs to another program"),
    ],
)
def test_what_cannot_be_backed_up_is_refused_and_nothing_is_written(
    store: Path, shell: Shell, tmp_path: Path, target: str, db: str, said: str
) -> None:
    shutil.copy(store, tmp_path / "bus.db")
    (tmp_path / "empty.db").touch()
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE other (x)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = shell.run("backup", str(tmp_path / target), "--db", str(tmp_path / db), "--force")
    assert (done.code, said in done.err) == (1, True), done
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_store_makes_no_backup(store: Path, shell: Shell, tmp_path: Path) -> None:
    db = Path(shutil.copy(store, tmp_path / "bus.db"))
    empty_index(db, "thread_active")  # no query that reads messages notices it
    before = _names(tmp_path)
    done = shell.run("backup", str(tmp_path / "copy"), "--db", str(db))
    assert (done.code, f"{db} is damaged" in done.err) == (1, True), done
    with db.open("r+b") as opened:
        opened.seek(1000 * 4096)
        opened.write(b"\xff" * 4096)
    done = shell.run("backup", str(tmp_path / "copy"), "--db", str(db))
    assert (done.code, "damaged" in done.err) == (1, True), done
    assert _names(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_leaves_nothing(
    store: Path, shell: Shell, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    with shell.start("backup", str(folder / "copy"), "--db", str(store)) as process:
        with locked(folder):  # it cannot end
            asyncio.run(until(lambda: bool(_names(folder))))
            process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert not _names(folder)


def test_a_killed_backup_has_no_name_and_the_next_one_removes_what_it_left(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "copy").write_text("yesterday's", "utf-8")
    left: set[str] = set()
    for delay in (0, 0.02, 0.2):
        run = ("backup", str(folder / "copy"), "--db", str(store), "--force")
        with shell.start(*run) as process, locked(folder):
            asyncio.run(_until_another(folder, left | {"copy"}))
            time.sleep(delay)  # killed at different points
            process.kill()
            process.wait(20)
        left = _names(folder) - {"copy"}
        assert len(left) == 1
        assert (folder / "copy").read_text("utf-8") == "yesterday's"
    shell.ok("backup", str(folder / "copy"), "--db", str(store), "--force")
    assert _names(folder) == {"copy"}
    assert logs(folder / "copy") == logs(store)


def test_a_backup_that_runs_keeps_its_file(store: Path, shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    run = ("backup", str(folder / "copy"), "--db", str(store), "--force")
    with shell.start(*run) as first:
        with locked(folder):  # it cannot end
            asyncio.run(until(lambda: any(map(_is_whole, folder.iterdir()))))
            first.send_signal(signal.SIGSTOP)
        (partial,) = _names(folder)
        shell.ok(*run)
        assert _names(folder) == {"copy", partial}
        first.send_signal(signal.SIGCONT)
        assert first.wait(30) == 0
    assert _names(folder) == {"copy"}
    assert logs(folder / "copy") == logs(store)


def test_a_full_disk_is_found_before_and_during_the_copy(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=40) as disk:
        target = disk / "copy"
        with _full_in_the_middle(shell, store, target) as said:
            assert "the disk of" in said
            assert "is full" in said
        assert _names(disk) == {"ballast"}
        done = shell.run("backup", str(target), "--db", str(store))
        assert (done.code, "free some space" in done.err) == (1, True)
        assert _names(disk) == {"ballast"}
        (disk / "ballast").unlink()
        shell.ok("backup", str(target), "--db", str(store))
        (disk / "copy").unlink()
        make_read_only(disk)
        done = shell.run("backup", str(target), "--db", str(store))
        assert (done.code, "read-only" in done.err.lower()) == (1, True), done


async def _until_another(folder: Path, known: set[str]) -> None:
    await until(lambda: bool(_names(folder) - known))


@contextlib.contextmanager
def _full_in_the_middle(shell: Shell, store: Path, target: Path) -> Iterator[str]:
    """Fill the disk while a backup that has begun stands still. Yields what it then says."""
    while True:
        with shell.start("backup", str(target), "--db", str(store), "--force") as process:
            while not (found := list(target.parent.glob("copy-partial-*"))):
                if process.poll() is not None:
                    break
                # Who sleeps is woken at once, however busy the machine is.
                time.sleep(0.0005)
            process.send_signal(signal.SIGSTOP)
            if not found or not found[0].exists() or found[0].stat().st_size > 4_000_000:
                continue  # too late
            fill(target.parent)
            os.kill(process.pid, signal.SIGCONT)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 1
            yield said
            return
