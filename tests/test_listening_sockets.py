"""Unix sockets: who may connect, and what may exist at their path."""

import asyncio
import fcntl
import os
import runpy
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bus_server import listening
from bus_server.settings import Settings
from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import has_open, until
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

pytestmark = pytest.mark.slow


async def answers(server: ServerProcess) -> bool:
    async with connected(server.address) as client:
        return bool(await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("flags", "expected"),
    [((), 0o600), (("--socket-mode", "0660"), 0o660), (("--socket-mode", "666"), 0o666)],
    ids=["default", "group", "anybody"],
)
@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_a_socket_is_accessible_to_its_owner_only_by_default(
    start_server: StartServer, tmp_path: Path, flags: tuple[str, ...], expected: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        server = start_server(*flags, listen=f"unix:{tmp_path}/bus.sock", fresh=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "bus.sock") == expected
    assert mode(tmp_path / "bus.db") == 0o600
    assert await answers(server)
    assert server.stop() == 0
    assert not (tmp_path / "bus.sock").exists()


def test_a_socket_is_private_from_its_first_moment_on(tmp_path: Path) -> None:
    path, seen = tmp_path / "bus.sock", list[int]()

    def add_port(listen: str) -> int:
        """Listen there, as gRPC does, and check at once who may connect."""
        bound.bind(listen.removeprefix("unix:"))
        seen.append(mode(path))
        return 1

    before = os.umask(0)
    try:
        with (
            socket.socket(socket.AF_UNIX) as bound,
            listening.listen(Settings(listen=f"unix:{path}"), add_port),
        ):
            assert os.umask(0) == 0  # it is unchanged
    finally:
        os.umask(before)
    assert seen == [0o600]


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.parametrize("value", ["", "rw", "8", "0400", "060", "1777", "0o"])
async def test_a_mode_without_access_for_the_owner_is_wrong_usage(
    tmp_path: Path, value: str
) -> None:
    server = ServerProcess(tmp_path / "bus.db", "--socket-mode", value)
    server.process = server.spawn()
    assert await asyncio.to_thread(server.process.wait, 10) == 2
    server.kill()
    assert "--socket-mode" in "".join(server.log)
    assert contents(tmp_path) == {}


def a_stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda path: path.write_text("notes"), "a file, not a socket", id="file"),
        pytest.param(Path.mkdir, "a folder, not a socket", id="folder"),
        pytest.param(os.mkfifo, "a named pipe, not a socket", id="pipe"),
        pytest.param(lambda path: path.symlink_to("gone"), "a symbolic link", id="dangling"),
    ],
)
def test_a_path_that_is_no_socket_is_not_removed(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "bus.sock"
    make(path)
    before = path.lstat()
    line = refused_start(tmp_path / "bus.db", listen=f"unix:{path}")
    assert str(path) in line
    assert said in line
    assert list(tmp_path.iterdir()) == [path]
    assert path.lstat() == before


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("unix:{}/" + "x" * 108, f"at most {listening.MAX_SOCKET_PATH} bytes"),
        ("unix:{}/" + "ö" * 54, f"at most {listening.MAX_SOCKET_PATH} bytes"),
        ("unix:{}/nowhere/bus.sock", "nowhere is not a folder"),
        ("unix:", "names no file"),
        ("unix:{}", "a folder, not a socket"),
    ],
    ids=["long", "long_in_bytes", "no_folder", "empty", "folder"],
)
def test_an_impossible_socket_path_is_refused(tmp_path: Path, listen: str, said: str) -> None:
    assert said in refused_start(tmp_path / "bus.db", listen=listen.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("system", "limit"), [("linux", 107), ("darwin", 103)])
def test_the_length_of_a_socket_path_is_limited_as_by_the_system(
    monkeypatch: pytest.MonkeyPatch, system: str, limit: int
) -> None:
    with socket.socket(socket.AF_UNIX) as probe:  # this system
        with pytest.raises(OSError, match="too long"):
            probe.connect("x" * (listening.MAX_SOCKET_PATH + 1))
        with pytest.raises(FileNotFoundError):
            probe.connect("x" * listening.MAX_SOCKET_PATH)
    monkeypatch.setattr(sys, "platform", system)
    assert runpy.run_path(listening.__file__)["MAX_SOCKET_PATH"] == limit


async def test_the_longest_possible_socket_path_is_accepted(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / ("x" * (listening.MAX_SOCKET_PATH - 1 - len(str(tmp_path))))
    if len(path.name) < 2:
        pytest.skip("the folder's own path is too long")
    assert await answers(start_server(listen=f"unix:{path}"))


async def test_a_socket_without_a_listener_is_replaced_and_that_is_logged(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "bus.sock"
    a_stale_socket(path)
    server = start_server(listen=f"unix:{path}")
    assert await answers(server)
    assert server.stop() == 0
    assert [line for line in server.log if str(path) in line and "no process listened" in line]


async def test_a_start_that_is_refused_leaves_no_socket(tmp_path: Path) -> None:
    db = tmp_path / "bus.db"
    db.write_text("notes")
    refused_start(db, listen=f"unix:{tmp_path}/bus.sock")
    assert list(tmp_path.iterdir()) == [db]


@pytest.mark.usefixtures("chosen_store")
async def test_a_start_waits_for_another_one_in_the_sockets_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    path = folder / "bus.sock"
    a_stale_socket(path)  # or one that is bound, and not listened on yet
    before = path.lstat()
    server = ServerProcess(tmp_path / "bus.db", listen=f"unix:{path}")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as a starting server does
        server.process = server.spawn()
        await until(lambda: has_open(server.pid, folder))
        assert path.lstat() == before
        os.close(handle)
        assert server.process.stdout is not None
        assert str(path) in await asyncio.to_thread(server.process.stdout.readline)
        assert await answers(server)
    finally:
        server.kill()
