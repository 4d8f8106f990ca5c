"""The files of a store: by which names they are found, and who may write to them."""

import asyncio
import fcntl
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bus_server.errors import StoreRefused
from bus_server.store.sqlite.file import check
from tests.callers import operator, operator_token_file
from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import has_open, until
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

#: A user that is neither the test's nor root.
SOMEBODY = 12345
#: Suffixes of the files beside a database.
BESIDE = ("-wal", "-shm", "-journal", "-writer")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Path:
    """A folder with a store that was shut down cleanly. Copy it."""
    folder = tmp_path_factory.mktemp("stopped")
    with ServerProcess(folder / "bus.db") as server:
        assert server.stop() == 0
    return folder


@pytest.fixture
def store(stopped: Path, tmp_path: Path) -> Path:
    """The database file of a store that was shut down cleanly."""
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bus.db"


def change_owner(path: Path) -> None:
    """Change the owner of a file. Skips the test where that is not permitted."""
    try:
        os.chown(path, SOMEBODY, -1, follow_symlinks=False)
    except PermissionError:
        pytest.skip("only root can give files away")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


async def agent_of(server: ServerProcess, caller: ServerProcess) -> str:
    """Returns who `server` takes the operator of `caller` for."""
    async with connected(server.address) as client:
        info = await client.bus.GetServerInfo(
            GetServerInfoRequest(), metadata=operator(caller).metadata
        )
        return info.agent


def warnings(server: ServerProcess) -> list[str]:
    return [line for line in server.log if " WARNING " in line]


@pytest.mark.parametrize(
    "db", ["", ".", "..", "/", ":memory:", "file:bus.db", "file:bus.db?mode=ro", "sqlite:///x.db"]
)
def test_a_path_that_names_no_file_is_refused_and_nothing_is_created(
    tmp_path: Path, db: str
) -> None:
    line = refused_start(db, cwd=tmp_path)
    assert "name a file" in line or "names no file" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(os.mkfifo, "a named pipe", id="pipe"),
        pytest.param(a_socket, "a socket", id="socket"),
        pytest.param(Path.mkdir, "a folder", id="folder"),
        pytest.param(lambda path: path.symlink_to("/dev/null"), "a device", id="device"),
        pytest.param(lambda path: path.symlink_to("/tmp"), "a folder", id="link_to_a_folder"),  # noqa: S108
        pytest.param(lambda path: path.symlink_to(path), "symbolic links", id="loop"),
    ],
)
def test_a_path_that_is_no_regular_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    db = tmp_path / "bus.db"
    make(db)
    before = db.lstat()
    line = refused_start(db)
    assert str(db) in line
    assert said in line
    assert list(tmp_path.iterdir()) == [db]
    assert db.lstat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "name", ["x" * 240, "x" * 300, b"\xff.db".decode("utf-8", "surrogateescape")]
)
def test_an_unusable_path_is_refused_and_nothing_is_created(tmp_path: Path, name: str) -> None:
    refused_start(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["file", "link"])
async def test_servers_given_one_file_by_two_names_share_all_of_it(
    start_server: StartServer, tmp_path: Path, first: str
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    names = {"file": tmp_path / "real/bus.db", "link": tmp_path / "links/other.db"}
    names["link"].symlink_to("../real/bus.db")
    one = start_server(db=names.pop(first))
    (other_name,) = names.values()
    other = start_server(db=other_name)
    one.db = other.db = tmp_path / "real/bus.db"  # where its token is
    for server in (one, other):
        assert str(one.db) in server.announcement
        assert await agent_of(server, one) == "operator"
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["other.db"]


def test_a_link_owned_by_another_user_is_refused(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    db.symlink_to(tmp_path / "elsewhere.db")
    change_owner(db)
    assert "symbolic link" in refused_start(db)
    assert list(tmp_path.iterdir()) == [db]


def to_a_file_of_another_user(path: Path) -> None:
    real = path.rename(path.with_name("theirs"))
    change_owner(real)
    path.symlink_to(real)


def to_another_file(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("ours")))


def replaced_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(to_a_file_of_another_user, id="link_to_somebody_elses"),
        pytest.param(to_another_file, id="link"),
        pytest.param(change_owner, id="somebody_elses"),
        pytest.param(lambda token: token.chmod(0o640), id="group_reads"),
        pytest.param(lambda token: token.chmod(0o602), id="others_write"),
        pytest.param(lambda token: token.with_name("copy").hardlink_to(token), id="a_second_name"),
        pytest.param(replaced_by(os.mkfifo), id="pipe"),
        pytest.param(replaced_by(a_socket), id="socket"),
        pytest.param(replaced_by(lambda token: token.symlink_to("nowhere")), id="dangling"),
        pytest.param(lambda token: token.write_text(""), id="empty"),
        pytest.param(lambda token: token.write_text("x" * 43 + "\n" + "y" * 43), id="two_tokens"),
    ],
)
async def test_an_operators_token_that_others_may_know_is_refused(
    start_server: StartServer, store: Path, spoil: Callable[[Path], None]
) -> None:
    token = operator_token_file(store)
    spoil(token)
    before = contents(store.parent)
    line = await asyncio.to_thread(refused_start, store)
    assert str(token) in line
    assert "new token" in line or "new one" in line
    assert contents(store.parent) == {**before, store.with_name("bus.db-writer"): b""}
    token.unlink()  # as the refusal says
    server = start_server(db=store)
    assert await agent_of(server, server) == "operator"
    assert operator_token_file(store).lstat().st_mode == 0o100600


def let_others_write(path: Path) -> None:
    path.chmod(0o602)


@pytest.mark.parametrize(
    ("ending", "spoil", "said"),
    [
        *((ending, let_others_write, "chmod 600") for ending in ("", *BESIDE)),
        *((ending, change_owner, "belongs to") for ending in BESIDE),
    ],
)
def test_files_that_others_can_write_to_are_refused(
    store: Path, ending: str, spoil: Callable[[Path], None], said: str
) -> None:
    file = store.with_name(f"{store.name}{ending}")
    file.touch(0o600)
    spoil(file)
    before = contents(store.parent)
    line = refused_start(store)
    assert str(file) in line
    assert said in line
    assert contents(store.parent) == before


async def test_a_store_of_another_user_is_served_by_root_only(
    start_server: StartServer, store: Path
) -> None:
    for file in (store, *(store.with_name(f"{store.name}{ending}") for ending in BESIDE)):
        if file.exists():
            change_owner(file)
    server = start_server(db=store)
    await until(lambda: any(f"{store} belongs to" in line for line in server.log))
    server.stop()
    with pytest.raises(StoreRefused, match="belongs to"):
        check(store, SOMEBODY + 1)


@pytest.mark.parametrize("ending", BESIDE)
def test_links_beside_a_database_are_refused(store: Path, ending: str) -> None:
    file = store.with_name(f"{store.name}{ending}")
    file.unlink(missing_ok=True)
    file.symlink_to(store.with_name("elsewhere"))
    assert str(file) in refused_start(store)
    assert not store.with_name("elsewhere").exists()


@pytest.mark.parametrize("ending", BESIDE)
def test_pipes_beside_a_database_are_refused(store: Path, ending: str) -> None:
    file = store.with_name(f"{store.name}{ending}")
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    assert str(file) in refused_start(store)


async def test_a_log_record_written_by_another_user_moves_nothing(
    start_server: StartServer, store: Path
) -> None:
    server = start_server(db=store)
    lock = store.with_name(f"{store.name}-writer")
    kind, log, _ = lock.read_text().splitlines()
    server.kill()
    lock.write_text(f"{kind}\n{log}\nanother database\n")
    change_owner(lock)
    before = contents(store.parent)
    assert "belongs to" in await asyncio.to_thread(refused_start, store)
    assert contents(store.parent) == before


async def test_a_database_with_a_second_hard_link_is_refused(
    start_server: StartServer, store: Path
) -> None:
    other = store.with_name("other.db")
    other.hardlink_to(store)
    assert "second name" in await asyncio.to_thread(refused_start, store)
    other.unlink()  # as the refusal says
    start_server(db=store)


@pytest.mark.parametrize("umask", [0o000, 0o777])
async def test_a_new_store_is_accessible_to_its_user_only_whatever_the_umask(
    start_server: StartServer, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        server = start_server(fresh=True)
    finally:
        os.umask(before)
    made = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(made) == {
        "bus.db",
        *("bus.db-wal", "bus.db-shm", "bus.db-writer"),
        "bus.db.operator-token",
        "bus.db-hints",
    }
    assert made.pop("bus.db-hints") == 0o700
    assert set(made.values()) == {0o600}
    assert server.stop() == 0
    assert warnings(server) == []


async def test_files_that_others_can_read_are_served_with_a_warning(
    start_server: StartServer, store: Path
) -> None:
    store.chmod(0o640)
    server = start_server(db=store)
    assert server.stop() == 0
    (line,) = warnings(server)
    assert f"chmod 600 {store} " in line


async def test_a_world_writable_folder_is_served_with_a_warning(
    start_server: StartServer, store: Path
) -> None:
    for mode, warned in [(0o777, 1), (0o1777, 0)]:
        store.parent.chmod(mode)
        server = start_server(db=store)
        assert server.stop() == 0
        assert [str(store.parent) in line for line in warnings(server)] == [True] * warned


async def test_leftovers_of_killed_starts_are_removed_and_nothing_else(
    start_server: StartServer, store: Path
) -> None:
    left = ["-draft-0123abcd", "-draft-0123abcd-journal", ".operator-token-draft-456789ef"]
    ours = ["-draft-notes", "-draft-0123abcd.txt", ".operator-token-draft-", "2-draft-0123abcd"]
    for ending in left + ours:
        store.with_name(f"{store.name}{ending}").touch()
    # Killed after the draft was linked to its name, and before its old name was removed.
    store.with_name(f"{store.name}-draft-ffffffff").hardlink_to(store)
    start_server(db=store)
    names = {path.name for path in store.parent.iterdir() if "draft" in path.name}
    assert names == {f"{store.name}{ending}" for ending in ours}


@pytest.mark.usefixtures("chosen_store")
async def test_drafts_of_another_start_in_progress_stay(store: Path) -> None:
    draft = store.with_name(f"{store.name}-draft-0123abcd")
    server = ServerProcess(store)
    handle = os.open(store.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as a server that creates one does
        draft.touch()
        server.process = server.spawn()
        await until(lambda: has_open(server.pid, store.parent))
        assert draft.exists()
        os.close(handle)
        await until(lambda: not draft.exists())
    finally:
        server.kill()
