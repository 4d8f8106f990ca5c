"""The connections that read: how many there are, and what happens if one breaks or hangs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from bus_server.errors import StoreBug
from bus_server.store.postgres import connection, readers
from bus_server.store.postgres.connection import Connection
from bus_server.store.postgres.store import PostgresStore
from tests.postgres.cluster import Cluster
from tests.postgres.stores import opened
from tests.store.commits import commit, create


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store with thread t, and as many connections that read as it can have."""
    async with opened(postgres_url) as store:
        await commit(store, create())
        await asyncio.gather(*(store.heads(["t"]) for _ in range(20)))
        assert len(store._readers._idle) == readers.READERS
        yield store


async def processes(store: PostgresStore) -> list[int]:
    """Returns the ids of the database's processes that serve the connections that read."""

    async def pid(db: Connection) -> int:
        (rows,) = await db.run(("SELECT pg_backend_pid(), pg_sleep(0.02)", {}))
        return int(rows[0][0])

    return list(await asyncio.gather(*(store._readers.read(pid) for _ in range(readers.READERS))))


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10])
async def test_reads_whose_callers_are_gone_cost_no_connection(
    store: PostgresStore, turns: int
) -> None:
    before = sorted(await processes(store))
    reads = [asyncio.create_task(store.heads(["t"])) for _ in range(30)]
    for _ in range(turns):
        await asyncio.sleep(0)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert list(await store.heads(["t"])) == ["t"]
    assert sorted(await processes(store)) == before


async def test_a_read_that_fails_costs_no_other(store: PostgresStore) -> None:
    async def wrong(db: Connection) -> None:
        await db.run(("BEGIN", {}), ("SELECT 1 FROM missing", {}))

    for _ in range(2 * readers.READERS):
        with pytest.raises(StoreBug, match="missing"):
            await store._readers.read(wrong)
    assert list(await store.heads(["t"])) == ["t"]


async def test_reads_go_on_if_all_connections_are_ended(
    store: PostgresStore, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "RETRY_DELAY", 0.01)
    for pid in await processes(store):
        await asyncio.to_thread(postgres.execute, f"SELECT pg_terminate_backend({pid})")
    found = await asyncio.gather(*(store.heads(["t"]) for _ in range(20)))
    assert [list(heads) for heads in found] == [["t"]] * 20


@pytest.mark.slow
async def test_a_read_whose_session_hangs_is_tried_again_on_another_one(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(readers, "RETRY_DELAY", 0.01)
    pids = await processes(store)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            assert list(await store.heads(["t"])) == ["t"]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
