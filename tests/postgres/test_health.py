"""What a store reports of its health."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus_server.errors import StorageFull
from bus_server.store.postgres.connection import Connection, Database, Statement
from bus_server.store.postgres.readers import READERS
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.postgres.cluster import Cluster
from tests.postgres.skipping import running
from tests.postgres.stores import opened
from tests.store.commits import commit, create, log, outcomes, post


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store with thread t."""
    async with opened(postgres_url) as store:
        await commit(store, create())
        yield store


async def test_a_store_says_where_it_is_and_what_a_commit_survives(
    store: PostgresStore, postgres_url: str
) -> None:
    assert store.name == str(Database(postgres_url, "full", 1))
    assert store.kind.startswith("PostgreSQL 1")
    assert store.kind.endswith(", fsync; no standby confirms")
    async with opened(postgres_url, durability="fast") as fast:
        assert fast.kind.endswith(", no fsync: --durability fast")


@pytest.mark.slow
async def test_a_store_fails_while_its_database_is_down(caplog: pytest.LogCaptureFixture) -> None:
    with running() as cluster:
        async with opened(cluster.url()) as store:
            await commit(store, create())
            await store.inspect()
            assert not store.failing
            await _restart(cluster, store)
            await commit(store, post())
            assert not store.failing
    assert "the database cannot be reached: postgresql:" in caplog.text
    assert "the database cannot be reached: over, after" in caplog.text


async def test_the_end_of_sessions_is_no_fault(
    store: PostgresStore, postgres: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(*(store.threads(["t"]) for _ in range(READERS)))
    assert store._readers.idle == READERS
    await asyncio.to_thread(
        postgres.execute,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'threadbus'",
    )
    await store.inspect()
    assert not store.failing
    assert "cannot be reached" not in caplog.text


async def _restart(cluster: Cluster, store: PostgresStore) -> None:
    cluster.stop()
    for _ in range(2):
        await store.inspect()
        assert store.failing
    cluster.start()
    await store.inspect()


async def test_a_full_disk_is_a_fault_until_there_is_room(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, full = Connection.run, [True]

    async def faulty(db: Connection, *steps: Statement, **options: Any) -> Any:
        if steps[-1][0] == "COMMIT" and full[0]:
            raise StorageFull
        return await run(db, *steps, **options)

    monkeypatch.setattr(Connection, "run", faulty)
    done = await outcomes(store, [post(), post()], together=True)
    assert [type(outcome) for outcome in done] == [StorageFull] * 2
    await store.inspect()
    assert store.failing
    full[0] = False
    await store.inspect()
    await polling.until(lambda: not store.failing)
    await commit(store, post())
    assert len(await log(store)) == 1
