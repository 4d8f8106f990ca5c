"""Durability as documented and as observed: full syncs before it acknowledges, fast need not."""

import re
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import Ledger, history
from tests.strace import traced
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

SYNCS = ("-e", "trace=fsync,fdatasync", "-o")


def log_syncs(notes: Path) -> int:
    """Returns how often the database's log was synced successfully."""
    return len(re.findall(r"f(?:data)?sync\(\d+<[^>]*-wal>\) += 0$", notes.read_text(), re.M))


@pytest.mark.slow
async def test_full_durability_syncs_the_log_before_each_acknowledgement(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server, ledger, notes = start_server(), Ledger(), tmp_path / "syncs"
    async with connected(server.address, name) as client:
        with traced(server, *SYNCS, str(notes)):
            for n in range(1, 11):
                await ledger.post(client.bus, name, str(n))
                # The server cannot continue before strace has written its line, let alone reply.
                assert log_syncs(notes) >= n


@pytest.mark.slow
async def test_fast_durability_acknowledges_without_a_sync(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server, ledger, notes = start_server("--durability", "fast"), Ledger(), tmp_path / "syncs"
    async with connected(server.address, name) as client:
        with traced(server, *SYNCS, str(notes)):
            for n in range(10):
                await ledger.post(client.bus, name, str(n))
            assert log_syncs(notes) == 0


@pytest.mark.parametrize(
    ("durability", "said"), [("full", "(sqlite, fsync)"), ("fast", "--durability fast")]
)
async def test_a_server_reports_its_durability(
    start_server: StartServer, durability: str, said: str
) -> None:
    server = start_server("--durability", durability)
    assert said in server.announcement
    async with connected(server.address) as client:
        info = await client.bus.GetServerInfo(GetServerInfoRequest())
        assert info.durability == durability


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["full", "fast"])
async def test_with_either_durability_posts_survive_a_killed_server(
    start_server: StartServer, name: str, durability: str
) -> None:
    server, ledger = start_server("--durability", durability), Ledger()
    async with connected(server.address, name) as client:
        for n in range(50):
            await ledger.post(client.bus, name, str(n))
    server.kill()
    server.start()
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
