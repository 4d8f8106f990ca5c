"""A database that lost acknowledged commits: the threads get new epochs, and waits a resync."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus_client import CursorLost
from bus_server.store import Head
from bus_server.store.epochs import shared_seq
from bus_server.store.postgres.store import PostgresStore
from tests import polling, serving
from tests.members import member, take
from tests.postgres.cluster import Cluster, standby
from tests.postgres.skipping import running
from tests.postgres.stores import Posters, opened
from tests.serving import ServerProcess
from tests.store.commits import commit, create, log, post

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary, and its standby, which confirms nothing."""
    with running() as primary, standby(primary) as other:
        yield primary, other


def url(*clusters: Cluster) -> str:
    """Returns the URL of whichever of these is the primary."""
    hosts = ",".join(cluster.host for cluster in clusters)
    return f"postgresql://postgres@/postgres?host={hosts}"


async def confirm(primary: Cluster) -> None:
    """Let the standby confirm each commit from now on."""
    primary.configure("synchronous_standby_names", "standby")

    def synchronous() -> bool:
        return primary.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)]

    await polling.until(synchronous)


@contextlib.asynccontextmanager
async def two_stores(where: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """Two stores with thread t."""
    async with opened(where) as store, opened(where) as other:
        await commit(store, create())
        yield store, other


async def fail_over(primary: Cluster, other: Cluster) -> None:
    """End the primary as if its machine had failed, and promote the standby."""
    await asyncio.to_thread(primary.kill)
    await asyncio.to_thread(other.promote)


async def head(store: PostgresStore) -> Head:
    """Returns the head of thread t."""
    return (await store.heads(["t"]))["t"]


async def test_what_a_standby_confirmed_is_there_after_it_took_over(
    pair: tuple[Cluster, Cluster],
) -> None:
    primary, other = pair
    await confirm(primary)
    async with two_stores(url(*pair)) as stores:
        before, posters = await head(stores[0]), Posters([*stores])
        async with posters.running():
            await posters.wait_for(20)
            await fail_over(primary, other)
            await posters.wait_for(20)
        await posters.check()
        assert (await head(stores[0])).epoch == before.epoch


async def test_lost_commits_are_noticed_and_the_threads_get_new_epochs(
    pair: tuple[Cluster, Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    primary, other = pair
    async with two_stores(url(*pair)) as (store, idle):
        for number in range(3):
            await commit(store, post(content=f"kept {number}"))
        before, version = await head(store), await idle.foreign_version()
        await replicated(primary, other)
        primary.freeze("walsender")
        await commit(store, post(content="lost"))
        await fail_over(primary, other)
        await commit(store, post(content="new"))
        after = await head(store)
        assert [entry.content for entry in await log(store)][-2:] == ["kept 2", "new"]
        assert shared_seq(after.epoch, before.epoch) == before.seq
        assert await idle.foreign_version() != version
        levels = {record.levelno for record in caplog.records}
        assert logging.CRITICAL in levels
        # The other store finds that this was done.
        await commit(idle, post(content="more"))
        assert (await head(idle)).epoch == after.epoch


async def test_a_store_that_commits_nothing_notices_that_the_database_has_moved(
    pair: tuple[Cluster, Cluster],
) -> None:
    primary, other = pair
    async with two_stores(url(*pair)) as (store, _):
        before = await head(store)
        await replicated(primary, other)
        await fail_over(primary, other)

        async def renewed() -> bool:
            return (await head(store)).epoch != before.epoch

        await polling.until_known(renewed)
        assert shared_seq((await head(store)).epoch, before.epoch) == before.seq


async def test_a_store_that_is_opened_notices_that_the_database_has_moved(
    pair: tuple[Cluster, Cluster],
) -> None:
    primary, other = pair
    async with two_stores(url(*pair)) as (store, _):
        before = await head(store)
        await replicated(primary, other)
    await fail_over(primary, other)
    async with opened(url(*pair)) as store:
        after = await head(store)
        assert shared_seq(after.epoch, before.epoch) == before.seq
    async with opened(url(*pair)) as store:
        assert (await head(store)).epoch == after.epoch


async def test_a_crash_without_fsync_that_loses_commits_is_noticed() -> None:
    with running(wal_writer_delay="10s") as cluster:
        async with opened(cluster.url(), durability="fast") as store:
            await commit(store, create())
            cluster.execute("CHECKPOINT")
            before = await head(store)
            for number in range(3):
                await commit(store, post(content=f"lost {number}"))
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.start)
            await commit(store, post(content="new"))
            after = await head(store)
            # At least one was lost: PostgreSQL may have written what filled a page of its log.
            assert before.seq < after.seq <= before.seq + 3
            assert shared_seq(after.epoch, before.epoch) == 0


async def test_followers_of_a_server_are_told_what_they_may_have_missed(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, other = pair
    monkeypatch.setattr(serving, "database_of", lambda _: url(*pair))
    with ServerProcess(tmp_path / "bus.db") as server:
        async with (
            member(server.address, "t", tmp_path) as ahead,
            member(server.address, "t", tmp_path, role="behind") as behind,
        ):
            messages = ahead.follow(include_own=True)
            for number in range(3):
                await ahead.post(f"kept {number}")
            async with contextlib.aclosing(behind.follow()) as kept:
                assert await take(kept, 3) == await take(messages, 3)
            await behind.acknowledge(3)
            await replicated(primary, other)
            primary.freeze("walsender")
            await ahead.post("lost")
            assert await take(messages, 1) == ["lost"]
            await fail_over(primary, other)
            with pytest.raises(CursorLost) as lost:
                await anext(messages)
            assert lost.value.reason == "EPOCH_CHANGED"
            assert lost.value.position.after_seq == lost.value.requested.after_seq - 1
            await ahead.post("new")
            assert await take(ahead.follow(include_own=True), 1) == ["new"]
            assert await take(behind.follow(), 1) == ["new"]


async def replicated(primary: Cluster, other: Cluster) -> None:
    """Wait until the standby has what the primary has."""
    ((position,),) = primary.execute("SELECT pg_current_wal_lsn()")

    def there() -> bool:
        return other.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)]

    await polling.until(there)
