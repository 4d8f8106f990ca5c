"""A disk that fails now and then: what it failed is not acknowledged, and nothing else suffers."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import grpc
import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import Ledger, history
from tests.open_wait import open_wait
from tests.refusals import Refusal
from tests.serving import BusStub
from tests.strace import traced


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "pwrite64,write:error=EIO:when=9+40",
        "pwrite64,write:error=ENOSPC:when=9+40",
        "fdatasync,fsync:error=EIO:when=3+7",
        "fdatasync,fsync:error=ENOSPC:when=3+7",
    ],
    ids=["write_error", "write_full", "sync_error", "sync_full"],
)
async def test_what_the_disk_failed_is_not_acknowledged_and_all_else_is_stored(
    start_server: StartServer, tmp_path: Path, name: str, fault: str
) -> None:
    server, ledger = start_server(), Ledger()
    refusals: list[Refusal] = []
    log = server.db.with_name(f"{server.db.name}-wal")

    async def poster(bus: BusStub, label: int) -> None:
        attempts = [await ledger.attempt(bus, name, f"{label}-{n}") for n in range(20)]
        refusals.extend(filter(None, attempts))

    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        options = ("-P", str(log), "-e", f"inject={fault}", "-o", str(tmp_path / "calls"))
        with traced(server, *options):
            async with asyncio.timeout(40), asyncio.TaskGroup() as group:
                for label in range(20):
                    group.create_task(poster(client.bus, label))
        assert "(INJECTED)" in (tmp_path / "calls").read_text()
        assert refusals
        assert {refusal.code for refusal in refusals} <= {
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }

        for n in range(20):  # it is a good disk again
            await ledger.post(client.bus, name, f"afterwards {n}")
        stored = await history(client.bus, name)
        ledger.check(name, stored, unknown=True)
        await wait.until(lambda: len(wait.messages) >= len(stored))
        assert wait.messages == stored
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    server.start()
    async with connected(server.address) as client:
        assert await history(client.bus, name) == stored
