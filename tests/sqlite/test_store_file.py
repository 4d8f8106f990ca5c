"""The database file: a store's is opened, any other is refused and not changed."""

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.callers import operator
from tests.conftest import StartServer
from tests.connections import connected
from tests.disks import make_read_only, small_disk
from tests.ledger import Ledger, history
from tests.refusals import refused
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest
from threadbus.v1.thread_service_pb2 import GetThreadRequest

PAGE = 4096
NOISE = random.Random(7).randbytes(300_000)  # noqa: S311


@pytest.fixture(scope="module")
async def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few messages, shut down cleanly. Copy it."""
    db = tmp_path_factory.mktemp("ours") / "bus.db"
    with ServerProcess(db) as server:
        async with connected(server.address, "t") as client:
            ledger = Ledger()
            for n in range(100):
                await ledger.post(client.bus, "t", f"{n} {'x' * 500}")
        assert server.stop() == 0
    assert db.stat().st_size > 10 * PAGE
    return db


def sql(*statements: str) -> Callable[[Path], None]:
    """Returns a function that runs statements on a file."""

    def run(db: Path) -> None:
        with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()

    return run


def another_database(*statements: str) -> Callable[[Path], None]:
    """Returns a function that puts another SQLite database in its place."""

    def run(db: Path) -> None:
        db.unlink()
        sql(*statements)(db)

    return run


def with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Returns a function that changes the bytes of a file."""

    def run(db: Path) -> None:
        db.write_bytes(change(db.read_bytes()))

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(with_bytes(lambda _: NOISE), "not a SQLite", id="garbage"),
        pytest.param(with_bytes(lambda _: b"# notes\n"), "not a SQLite", id="a_text"),
        pytest.param(with_bytes(lambda b: b[:50]), "not a SQLite", id="half_a_header"),
        pytest.param(with_bytes(lambda b: b[:PAGE]), "damaged", id="one_page"),
        pytest.param(with_bytes(lambda b: b[: len(b) // 2]), "damaged", id="half_of_it"),
        pytest.param(with_bytes(lambda b: b[:-PAGE]), "damaged", id="all_but_a_page"),
        pytest.param(
            with_bytes(lambda b: b[:100] + NOISE[100:PAGE] + b[PAGE:]), "damaged", id="no_schema"
        ),
        pytest.param(
            with_bytes(lambda b: b[:PAGE] + NOISE[PAGE : len(b)]), "damaged", id="a_sound_header"
        ),
        pytest.param(sql("DROP TABLE request"), "damaged", id="a_table_less"),
        pytest.param(sql("PRAGMA user_version = 99"), "upgrade", id="a_newer_version"),
        pytest.param(another_database("CREATE TABLE x (y)"), "another program", id="foreign"),
        pytest.param(
            another_database("PRAGMA journal_mode = WAL", "CREATE TABLE x (y)"),
            "another program",
            id="wal",
        ),
        pytest.param(
            another_database("PRAGMA application_id = 42", "CREATE TABLE message (id)"),
            "another program",
            id="foreign_with_an_application_id",
        ),
    ],
)
def test_a_file_that_is_no_sound_database_of_ours_is_refused_and_left_unchanged(
    database: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    db = tmp_path / "bus.db"
    shutil.copy(database, db)
    spoil(db)
    before = contents(tmp_path)
    line = refused_start(db)
    assert str(db) in line
    assert said in line
    assert contents(tmp_path) == before


def test_a_folder_is_refused_as_a_database(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    db.mkdir()
    assert str(db) in refused_start(db)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("parent", ["nowhere", "a_file"])
def test_a_database_in_a_missing_folder_is_refused(tmp_path: Path, parent: str) -> None:
    (tmp_path / "a_file").touch()
    assert parent in refused_start(tmp_path / parent / "bus.db")
    assert contents(tmp_path) == {tmp_path / "a_file": b""}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o000, 0o500], ids=["closed", "read_only"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
def test_a_folder_without_permission_is_refused(
    database: Path, tmp_path: Path, mode: int, there: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if there:
        shutil.copy(database, folder / "bus.db")
    before = contents(tmp_path)
    folder.chmod(mode)
    try:
        assert str(folder) in refused_start(folder / "bus.db", prefix=without_privileges())
    finally:
        folder.chmod(0o700)
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["closed", "read_only"])
def test_a_file_without_permission_is_refused(database: Path, tmp_path: Path, mode: int) -> None:
    db = tmp_path / "bus.db"
    shutil.copy(database, db)
    before = contents(tmp_path)
    db.chmod(mode)
    assert str(db) in refused_start(db, prefix=without_privileges())
    assert contents(tmp_path) == before


def without_privileges() -> list[str]:
    """Returns a command that runs another one without root's right to ignore file modes."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("for root file modes do not count, and there is no `setpriv` here")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
def test_a_read_only_disk_is_refused(database: Path, tmp_path: Path, there: bool) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        db = disk / "bus.db"
        if there:
            shutil.copy(database, db)
        before = contents(disk)
        make_read_only(disk)
        assert str(disk) in refused_start(db)
        assert contents(disk) == before


def test_a_full_disk_is_refused_and_no_file_is_left_on_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        (disk / "ballast").write_bytes(bytes(1020 * 1024))
        before = contents(disk)
        assert str(disk) in refused_start(disk / "bus.db")
        assert contents(disk) == before


async def test_an_empty_file_becomes_a_database(start_server: StartServer, tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    db.touch()
    async with connected(start_server(db=db).address, "t") as client:
        assert await history(client.bus, "t") == []
    assert db.stat().st_size > 0


async def test_a_closed_database_is_one_file_that_can_be_moved(
    start_server: StartServer, database: Path, tmp_path: Path
) -> None:
    shutil.copy(database, tmp_path / "elsewhere.db")
    server = start_server(db=tmp_path / "elsewhere.db")
    async with connected(server.address) as client:
        assert len(await history(client.bus, "t")) == 100


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True], ids=["no_file", "an_empty_file"])
async def test_servers_that_start_at_the_same_instant_share_one_new_database(
    tmp_path: Path, there: bool
) -> None:
    for n in range(5):
        db = tmp_path / f"{n}.db"
        if there:
            db.touch()
        servers = [ServerProcess(db) for _ in range(3)]
        try:
            await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
            epochs = set()
            for server in servers:
                async with connected(server.address, f"by-{server.pid}") as client:
                    for other in servers[: servers.index(server)]:
                        await client.threads.GetThread(GetThreadRequest(thread=f"by-{other.pid}"))
                    info = await client.bus.GetServerInfo(
                        GetServerInfoRequest(), metadata=operator(server).metadata
                    )
                    assert info.agent == "operator"
                    epochs.add(info.epoch)
            assert len(epochs) == 1
        finally:
            for server in servers:
                server.kill()
    assert [path for path in tmp_path.iterdir() if "draft" in path.name] == []


@pytest.mark.slow
@pytest.mark.parametrize("emptied", [False, True], ids=["removed", "emptied"])
async def test_a_log_left_by_a_removed_database_does_not_end_up_in_a_new_one(
    start_server: StartServer, tmp_path: Path, emptied: bool
) -> None:
    db = tmp_path / "bus.db"
    server = start_server(db=db)
    async with connected(server.address, "t") as client:
        ledger = Ledger()
        for n in range(100):
            await ledger.post(client.bus, "t", str(n))
    server.kill()  # its log stays beside the file
    db.unlink()
    if emptied:
        db.touch()

    # Either is right: a new database, or a refusal that says what is there.
    try:
        server.start()
    except AssertionError:
        assert "-wal" in refused_start(db)
        return
    async with connected(server.address, "u") as client:
        gone = await refused(client.threads.GetThread(GetThreadRequest(thread="t")))
        assert gone.reason == "THREAD_NOT_FOUND"
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
