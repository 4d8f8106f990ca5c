"""Two stores between whose round trips another one commits, or tries to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bus_server.store import (
    Checkpoint,
    Command,
    DeleteThread,
    Position,
    RemoveServers,
    RotateToken,
    SaveServer,
)
from bus_server.store.postgres.connection import Connection, Statement
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.postgres.stores import opened
from tests.store.commits import commit, create, join, post, read_seqs, register
from threadbus.v1.admin_service_pb2 import Wait


class Held:
    """A commit that has gathered its facts, and does not write before `release`."""

    def __init__(self, store: PostgresStore, *commands: Command[Any]) -> None:
        self._gathered, self._released = asyncio.Event(), asyncio.Event()
        connection = store._committer._connection
        assert connection is not None
        self._run, connection.run = connection.run, self._hold  # type: ignore[method-assign]
        self._connection = connection
        self._task = asyncio.create_task(store.commit(commands))

    async def _hold(self, *steps: Statement, **options: Any) -> list[list[tuple[Any, ...]]]:
        if steps[-1][0] == "COMMIT":
            self._gathered.set()
            await self._released.wait()
        return await self._run(*steps, **options)

    async def gathered(self) -> "Held":
        """Wait until it is held."""
        await self._gathered.wait()
        return self

    async def release(self) -> list[Any]:
        """Let it write. Returns the outcomes."""
        self._released.set()
        done = await self._task
        self._connection.run = self._run  # type: ignore[method-assign]
        return done.outcomes


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url, durability="fast") as store:
        yield store


@pytest.fixture
async def other(postgres_url: str, store: PostgresStore) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url, durability="fast") as other:
        yield other


async def until_blocked(store: PostgresStore, *tasks: asyncio.Task[Any]) -> None:
    """Wait until a session of the database waits for a lock, or the tasks are done."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )

    async def count(db: Connection) -> int:
        (rows,) = await db.run((waiting, {}))
        return int(rows[0][0])

    async def blocked() -> bool:
        return all(task.done() for task in tasks) or bool(await store._readers.read(count))

    await polling.until_known(blocked)


async def test_a_newer_thread_has_a_greater_id(store: PostgresStore, other: PostgresStore) -> None:
    async def create_and_delete() -> int:
        await other.commit([create()])
        thread_id = (await other.heads(["t"]))["t"].thread_id
        await commit(other, DeleteThread("t"))
        return thread_id

    held = await Held(store, create()).gathered()
    task = asyncio.create_task(create_and_delete())
    await until_blocked(other, task)
    await held.release()
    heads, deleted_id = await store.heads(["t"]), await task
    assert all(head.thread_id >= deleted_id for head in heads.values())


async def test_a_rotation_ends_the_token_of_one_at_the_same_time(
    store: PostgresStore, other: PostgresStore
) -> None:
    await commit(store, register("ann", b"one"))
    end = store.clock.now() + 60_000_000
    held = await Held(store, RotateToken(b"one", b"two", end)).gathered()
    task = asyncio.create_task(commit(other, RotateToken(b"one", b"three", end)))
    await until_blocked(other, task)
    await held.release()
    assert await task == [{b"one": end, b"two": end}]
    ends = await store.expire_times([b"one", b"two", b"three"])
    assert ends == {b"one": end, b"two": end, b"three": 0}


async def test_a_post_lowers_no_position_that_another_server_raises(
    store: PostgresStore, other: PostgresStore
) -> None:
    (thread, *_) = await commit(store, create(), join(), *(post(sender="ben") for _ in range(5)))
    held = await Held(store, post(based_on_seq=2)).gathered()
    await commit(other, Checkpoint([], {("ann", "t"): Position(thread.epoch, 5, 5)}))
    await held.release()
    assert await read_seqs(store) == {"ann": 5, "ben": 5}


async def test_a_server_that_saves_while_it_is_removed_is_stored_with_all_its_waits_or_none(
    store: PostgresStore, other: PostgresStore
) -> None:
    wait = Wait(agent="ann").SerializeToString()
    await commit(store, SaveServer("a", 1, {1: wait}))
    held = await Held(store, SaveServer("a", 1, {2: wait})).gathered()
    task = asyncio.create_task(commit(other, RemoveServers(dict.fromkeys(["a"]))))
    await until_blocked(other, task)
    assert await held.release() == [True]
    await task
    assert await store.servers() == {}
    assert await store.server_waits("a", set()) == (set(), {})


async def test_posts_to_a_thread_wait_for_its_deletion(
    store: PostgresStore, other: PostgresStore
) -> None:
    await commit(store, create())
    held = await Held(store, DeleteThread("t")).gathered()
    task = asyncio.create_task(other.commit([post(), post("u")]))
    await until_blocked(other, task)
    await held.release()
    assert [type(outcome).__name__ for outcome in (await task).outcomes] == ["ThreadNotFound"] * 2
