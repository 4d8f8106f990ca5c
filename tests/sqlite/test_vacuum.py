"""`threadbus vacuum` of a file."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from tests import own_bus
from tests.conftest import StartServer
from tests.disks import small_disk
from tests.polling import until
from tests.shell import Shell
from tests.sqlite.stores import filled, logs, rows
from tests.store.commits import commit, compact

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 8 MB that is not served."""
    return filled(tmp_path_factory.mktemp("stores") / "bus.db", messages=7_000)


@pytest.mark.parametrize("kept", [1, 0])
def test_the_space_of_removed_entries_is_returned(
    store: Path, shell: Shell, tmp_path: Path, kept: int
) -> None:
    db = Path(shutil.copy(store, tmp_path / "bus.db"))

    async def remove() -> None:
        async with own_bus.opened(db) as opened:
            more = True
            while more:
                (done,) = await commit(opened, compact(0, 1) if kept else compact(1))
                more = done.more

    asyncio.run(remove())
    assert len(logs(db)) == kept
    document = shell.ok("vacuum", "--db", str(db), "--json").json
    assert document["bytes_before"] > 7_000_000
    assert document["bytes_after"] < 300_000
    assert rows(db, "SELECT first_seq FROM thread") == [(7_001 - kept,)]


def test_the_space_of_deleted_threads_is_returned_while_no_server_runs(
    store: Path, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(db=Path(shutil.copy(store, tmp_path / "bus.db")))
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "kept", "hello")
    shell.ok("thread", "delete", "t", "--yes", "--token-file", f"{server.db}.operator-token")
    done = shell.run("vacuum", "--db", str(server.db))
    assert (done.code, "stop every server" in done.err) == (1, True)
    size = server.db.stat().st_size
    asyncio.run(until(lambda: len(logs(server.db)) == 1))  # the server deletes them in steps
    server.stop()
    document = shell.ok("vacuum", "--db", str(server.db), "--json").json
    assert document == {"bytes_before": size, "bytes_after": server.db.stat().st_size}
    assert document["bytes_after"] < 300_000
    again = shell.ok("vacuum", "--db", str(server.db)).out
    assert re.fullmatch(rf"{server.db}: (.+ KiB) before, \1 after\n", again)
    assert {path.name for path in tmp_path.glob("bus.db-*")} == {"bus.db-writer"}
    server.start()
    assert shell.ok("read", "kept").out.count("hello") == 1
    assert not server.problems


def test_a_killed_vacuum_changes_nothing(
    store: Path, start_server: StartServer, shell: Shell, tmp_path: Path
) -> None:
    db = Path(shutil.copy(store, tmp_path / "bus.db"))
    log = db.with_name("bus.db-wal")
    with shell.start("vacuum", "--db", str(db)) as process:
        asyncio.run(until(lambda: log.exists() or process.poll() is not None))
        process.kill()
    server = start_server(db=db)
    assert not server.problems
    server.stop()
    assert logs(db) == logs(store)
    shell.ok("vacuum", "--db", str(db))
    assert logs(db) == logs(store)


def test_a_full_disk_and_a_missing_file_are_errors(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=20) as disk:
        db = Path(shutil.copy(store, disk / "bus.db"))
        done = shell.run("vacuum", "--db", str(db))
        assert (done.code, "free some space" in done.err) == (1, True)
        assert logs(db) == logs(store)
    done = shell.run("vacuum", "--db", str(tmp_path / "none.db"))
    assert (done.code, "does not exist" in done.err) == (1, True)
