"""Starts that fail: each logs one clear line, and the next start succeeds."""

import asyncio
import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.disks import fill, small_disk
from tests.ledger import Ledger, history
from tests.locks import commit_lock_held, locked
from tests.polling import until
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess

Lock = Callable[[Path], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
async def database(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Path:
    """A copy of a cleanly closed database with a few messages."""
    db = tmp_path_factory.mktemp("closed") / "bus.db"
    with ServerProcess(db) as server:
        async with connected(server.address, "t") as client:
            for n in range(10):
                await Ledger().post(client.bus, "t", str(n))
        assert server.stop() == 0
    return db


def listens(path: Path) -> bool:
    """Returns whether a server listens on this Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def stored(server: ServerProcess) -> list[str]:
    """Returns the contents of the messages of thread t."""
    async with connected(server.address) as client:
        return [message.content for message in await history(client.bus, "t")]


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize(("table", "column"), [("token", "create_time"), ("presence", "reported")])
async def test_a_store_that_cannot_be_set_up_is_refused_in_one_line(
    database: Path, tmp_path: Path, table: str, column: str
) -> None:
    db = tmp_path / "bus.db"
    shutil.copy(database, db)
    with contextlib.closing(sqlite3.connect(db)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    line = await asyncio.to_thread(refused_start, db)
    assert str(db) in line
    assert column in line


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("lock", [locked, commit_lock_held], ids=["by_a_program", "by_a_server"])
async def test_a_database_locked_for_longer_than_the_busy_timeout_is_refused(
    start_server: StartServer, database: Path, tmp_path: Path, lock: Lock
) -> None:
    db = tmp_path / "bus.db"
    shutil.copy(database, db)
    db.with_name("bus.db-writer").touch()
    with lock(db):
        line = await asyncio.to_thread(refused_start, db, "--busy-timeout", "0.3")
        assert "lock" in line or "busy" in line
    assert await stored(start_server(db=db)) == [str(n) for n in range(10)]


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_database_on_a_full_disk_is_refused_and_unharmed(
    start_server: StartServer, database: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        db = disk / "bus.db"
        shutil.copy(database, db)
        ballast = fill(disk)
        before = contents(disk)
        line = await asyncio.to_thread(refused_start, db)
        assert str(db) in line or str(disk) in line or "full" in line
        assert contents(disk)[db] == before[db]
        ballast.unlink()
        assert await stored(start_server(db=db)) == [str(n) for n in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "redirections", ["<&-", ">&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-", ">/dev/full"]
)
async def test_a_server_runs_and_stops_with_any_standard_stream_closed_or_full(
    tmp_path: Path, redirections: str
) -> None:
    path = tmp_path / "bus.sock"
    process = subprocess.Popen(
        [
            *("sh", "-c", f'exec "$@" {redirections}', "sh"),
            *(sys.executable, "-m", "bus_server"),
            *("--listen", f"unix:{path}", "--db", str(tmp_path / "bus.db")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: listens(path) or process.poll() is not None)
        async with connected(f"unix:{path}", "t") as client:
            await Ledger().post(client.bus, "t", "hello")
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_first_start_that_was_killed_leaves_a_whole_database_or_none(
    start_server: StartServer, tmp_path: Path
) -> None:
    db = tmp_path / "bus.db"
    for n in range(6):
        killed = ServerProcess(db)
        killed.process = killed.spawn()
        # At different points: its first file appears, its database, the operator's token.
        appears = [f"{db.name}*", db.name, f"{db.name}*token"][n % 3]
        await until(lambda appears=appears: any(tmp_path.glob(appears)))  # type: ignore[misc]
        killed.kill()
        server = start_server(db=db)
        async with connected(server.address, "t") as client:
            assert await history(client.bus, "t") == []
        assert server.stop() == 0
        assert [path.name for path in tmp_path.iterdir() if "draft" in path.name] == []
        for path in tmp_path.iterdir():
            path.unlink()


@pytest.mark.slow
async def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, why in (("folder", "Is a directory"), ("missing/token", "No such file or directory")):
        flags = ("--operator-token-file", str(tmp_path / path))
        line = await asyncio.to_thread(refused_start, tmp_path / "bus.db", *flags)
        assert str(tmp_path / path) in line
        assert why in line
        assert "bus.db" not in line
