"""Where a server listens: not where another does, and beyond loopback only if allowed."""

import asyncio
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.refused_start import contents, refused_start
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest


async def epoch_of(address: str) -> str:
    """Returns the epoch of the server at an address."""
    async with connected(address) as client:
        return (await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)).epoch


@pytest.mark.slow
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0", "unix:{}/bus.sock"])
async def test_a_server_responds_where_it_says_that_it_listens(
    start_server: StartServer, tmp_path: Path, listen: str
) -> None:
    try:
        server = start_server(listen=listen.format(tmp_path))
    except AssertionError:
        if "::1" in listen and not has_ipv6():
            pytest.skip("there is no IPv6 here")
        raise
    assert f"listening on {server.address} · " in server.announcement
    assert not server.address.endswith(":0")
    assert await epoch_of(server.address)


def has_ipv6() -> bool:
    """Returns whether this machine can listen on ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:{}/bus.sock"], ids=["tcp", "unix"])
async def test_a_second_server_in_the_same_place_is_refused_and_changes_nothing(
    start_server: StartServer, tmp_path: Path, listen: str
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    first = start_server(listen=listen.format(tmp_path))
    epoch = await epoch_of(first.address)
    line = await asyncio.to_thread(refused_start, folder / "bus.db", listen=first.address)
    assert first.address in line
    assert "taken" in line
    assert contents(folder) == {}
    assert await epoch_of(first.address) == epoch


@pytest.mark.slow
async def test_a_port_in_use_by_another_program_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = await asyncio.to_thread(
            refused_start, tmp_path / "bus.db", listen=f"127.0.0.1:{port}"
        )
        assert f"127.0.0.1:{port}" in line
    assert contents(tmp_path) == {}


@pytest.mark.slow
def test_a_port_without_permission_is_refused_with_that_reason(tmp_path: Path) -> None:
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may have any port, and there is no `setpriv` here")
        prefix = ["setpriv", "--bounding-set", "-net_bind_service"]
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if first.exists() and int(first.read_text("ascii")) <= 7:
        pytest.skip("anybody may have any port here")
    line = refused_start(tmp_path / "bus.db", listen="127.0.0.1:7", prefix=prefix)
    assert "may not listen on port 7" in line
    assert contents(tmp_path) == {}


@pytest.mark.slow
async def test_a_socket_left_by_a_killed_server_is_replaced(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(listen=f"unix:{tmp_path}/bus.sock")
    server.kill()
    server.start()
    assert await epoch_of(server.address)


@pytest.mark.slow
@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7420", "bus.example:7420"])
def test_listening_beyond_this_machine_is_refused(tmp_path: Path, listen: str) -> None:
    line = refused_start(tmp_path / "bus.db", listen=listen)
    assert "--insecure" in line
    assert contents(tmp_path) == {}


@pytest.mark.slow
def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    line = refused_start(tmp_path / "bus.db", "--insecure", listen="192.0.2.1:7420")
    assert "192.0.2.1:7420" in line
    assert contents(tmp_path) == {}


async def test_insecure_allows_listening_beyond_this_machine_with_a_warning(
    start_server: StartServer,
) -> None:
    server: ServerProcess = start_server("--insecure", listen="0.0.0.0:0")
    assert "insecure" in server.announcement
    port = re.fullmatch(r"0\.0\.0\.0:(\d+)", server.address)
    assert port is not None
    assert await epoch_of(f"127.0.0.1:{port[1]}")
