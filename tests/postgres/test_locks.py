"""What happens while others hold locks, and what one bad row does."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from bus_server.errors import BusError, StoreBug, StoreBusy
from bus_server.store import (
    AppendMany,
    Checkpoint,
    Command,
    DeleteThread,
    Position,
    UnregisterAgent,
)
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.postgres.stores import opened
from tests.store.commits import (
    commit,
    create,
    join,
    log,
    participants,
    post,
    register,
    sighting,
)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store with the threads t and u that waits for locks only for a short time."""
    async with opened(postgres_url, busy_timeout=0.1) as store:
        await commit(store, create("t"), create("u"))
        yield store


@pytest.fixture
async def session(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A session of another program on the store's schema, in a transaction."""
    async with await psycopg.AsyncConnection.connect(postgres_url) as session:
        yield session
        await session.rollback()


LOCKS: dict[str, str] = {
    "a thread": "SELECT 1 FROM thread WHERE name = 't' FOR UPDATE",
    "a table": "LOCK TABLE message IN SHARE MODE",
    "the own row": "SELECT 1 FROM writer FOR UPDATE",
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
async def test_a_post_that_waits_for_too_long_is_not_stored(
    store: PostgresStore,
    session: psycopg.AsyncConnection,
    lock: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await session.execute(lock.encode())
    batches: list[list[Command[Any]]] = [[post()], [post(), join("u")]]
    for batch in batches:
        with pytest.raises(StoreBusy):
            await store.commit(batch)
    await session.rollback()
    await commit(store, post())
    assert len(await log(store)) == 1
    held, over = [record.message for record in caplog.records if "holds locks" in record.message]
    assert "pg_blocking_pids() names it" in held
    assert ": over, after" in over


async def test_posts_to_other_threads_do_not_wait(
    store: PostgresStore, session: psycopg.AsyncConnection
) -> None:
    await session.execute(LOCKS["a thread"].encode())
    await commit(store, post("u"), create("new"), register())
    assert len(await log(store, "t")) == 0


@pytest.mark.slow
async def test_a_deadlock_only_delays_a_batch(
    postgres_url: str, session: psycopg.AsyncConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "bus_server.store.postgres.store")
    # A session looks for deadlocks once, when it has waited for so long: only the store's does.
    await session.execute("SET deadlock_timeout = '60s'")
    async with opened(f"{postgres_url}%20-cdeadlock_timeout%3D2s", busy_timeout=20) as store:
        await commit(store, create("t"), create("u"))
        await session.execute("SELECT 1 FROM thread WHERE name = 'u' FOR UPDATE")
        posting = asyncio.create_task(commit(store, post("t"), post("u")))

        async def waits() -> bool:
            found = await session.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
            return bool(await found.fetchall())

        await polling.until_known(waits)
        await session.execute("SELECT 1 FROM thread WHERE name = 't' FOR UPDATE")
        await session.commit()
        assert [each.seq for each in await posting] == [1, 1]
    assert "one by one" not in caplog.text


async def test_a_post_that_the_database_refuses_fails_alone(
    store: PostgresStore, session: psycopg.AsyncConnection
) -> None:
    await session.execute("ALTER TABLE message ADD CHECK (sender <> 'bad')")
    await session.commit()
    bad, posts = post(sender="bad"), [post(), post(sender="bad"), post()]
    with pytest.raises(StoreBug):
        await store.commit([bad])
    done: list[Any] = (await store.commit([post(), bad, AppendMany(posts), post("u")])).outcomes
    assert [type(done[1]), type(done[2][1])] == [StoreBug, StoreBug]
    assert [each.seq for each in (done[0], done[2][0], done[2][2], done[3])] == [1, 2, 3, 1]
    assert len(await log(store)) == 3


@pytest.mark.parametrize("first", ["unregister", "mention"])
async def test_an_agent_that_is_unregistered_is_no_participant(
    postgres_url: str, first: str
) -> None:
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        await commit(store, create(), register())
        for number in range(10):
            name = f"agent{number}"
            await commit(store, register(name))
            racers = [
                store.commit([UnregisterAgent(name)]),
                other.commit([post(mentions=[name]), post(sender=name)]),
            ]
            await asyncio.gather(*(racers if first == "unregister" else reversed(racers)))
            assert list(await participants(store)) in ([], ["ann"])


@pytest.mark.slow
async def test_threads_made_anew_have_ids_in_the_order_of_their_commits(postgres_url: str) -> None:
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        ids: list[int] = []

        async def churn(through: PostgresStore) -> None:
            for _ in range(20):
                await through.commit([DeleteThread("t"), create("t"), DeleteThread("t")])
                await through.commit([create("t")])
                ids.extend(head.thread_id for head in (await through.heads(["t"])).values())

        async def watch() -> None:
            newest = 0
            while True:
                for head in (await store.heads(["t"])).values():
                    assert head.thread_id >= newest
                    newest = head.thread_id

        watching = asyncio.create_task(watch())
        await asyncio.gather(churn(store), churn(other))
        assert not watching.done()
        watching.cancel()
        assert len(set(ids)) > 10


@pytest.mark.slow
async def test_random_batches_through_three_stores_end_without_errors(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "bus_server.store.postgres.store")
    chance = random.Random(1)  # noqa: S311 - not a secret
    threads, agents = [f"t{n}" for n in range(6)], [f"agent{n}" for n in range(6)]

    async def run(store: PostgresStore, epochs: dict[str, str]) -> None:
        for number in range(60):
            commands: list[Command[Any]] = [
                post(thread, sender, mentions=chance.sample(agents, 2), request_id=f"{number}")
                for thread in chance.sample(threads, 5)
                for sender in chance.sample(agents, 1)
            ]
            if number % 3 == 0:
                positions = {
                    (agent, thread): Position(epochs[thread], number, number)
                    for agent in chance.sample(agents, 3)
                    for thread in chance.sample(threads, 3)
                }
                rows = [sighting(agent, number) for agent in chance.sample(agents, 3)]
                commands.append(Checkpoint(rows, positions))
            if number % 10 == 0:
                commands += [create(f"{number}"), DeleteThread(f"{number - 10}")]
            for outcome in (await store.commit(commands)).outcomes:
                assert isinstance(outcome, BusError) or not isinstance(outcome, Exception)

    async with (
        opened(postgres_url) as first,
        opened(postgres_url) as second,
        opened(postgres_url) as third,
    ):
        await commit(first, *map(create, threads), *map(register, agents))
        epochs = {name: head.epoch for name, head in (await first.heads(threads)).items()}
        await asyncio.gather(*(run(store, epochs) for store in (first, second, third)))
        for thread in threads:
            entries = await log(second, thread)
            keys = {(entry.sender, entry.request_id) for entry in entries}
            assert len(keys) == len(entries)
    assert "one by one" not in caplog.text
