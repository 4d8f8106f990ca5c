"""Hints between stores, over NOTIFY."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bus_server.errors import StorageFull
from bus_server.store.postgres import notify
from bus_server.store.postgres.connection import Connection, Statement
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.postgres.cluster import Cluster
from tests.postgres.stores import opened


@contextlib.asynccontextmanager
async def hearing(store: PostgresStore) -> AsyncIterator[dict[str, int]]:
    """Runs a store's waker. Gives the newest hint about each thread."""
    heard: dict[str, int] = {}
    task = asyncio.create_task(store.waker.run(heard.update))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_heard(store: PostgresStore, heard: dict[str, int], changed: dict[str, int]) -> None:
    """Publish hints until they are heard: they may be lost while a server connects."""

    async def published() -> bool:
        store.waker.publish(changed)
        await asyncio.sleep(0.02)
        return changed.items() <= heard.items()

    await polling.until_known(published)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url) as store:
        yield store


@pytest.fixture
async def other(postgres_url: str, store: PostgresStore) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url) as other:
        yield other


async def test_others_hear_a_hint_and_the_sender_does_not(
    store: PostgresStore, other: PostgresStore
) -> None:
    async with hearing(store) as own, hearing(other) as heard:
        await until_heard(store, heard, {"t": 1})
        store.waker.publish({"t": 2, "u": 7})
        await polling.until(lambda: heard == {"t": 2, "u": 7})
        await until_heard(other, own, {"v": 1})
        assert own == {"v": 1}


async def test_hints_about_many_threads_are_all_heard(
    store: PostgresStore, other: PostgresStore
) -> None:
    async with hearing(store), hearing(other) as heard:
        await until_heard(store, heard, {"t": 1})
        heard.clear()
        many = {f"{number:x>128}": number for number in range(1, 1000)}
        store.waker.publish(many)
        await polling.until(lambda: heard == many)


async def test_hints_are_merged_and_a_deletion_stays(
    store: PostgresStore, other: PostgresStore
) -> None:
    async with hearing(store), hearing(other) as heard:
        await until_heard(store, heard, {"t": 1})
        for changed in ({"a": 3, "b": 1}, {"a": 2, "b": 0}, {"b": 5}):
            store.waker.publish(changed)
        await polling.until(lambda: heard == {"t": 1, "a": 3, "b": 0})


async def test_a_store_in_another_schema_hears_nothing(
    store: PostgresStore, other: PostgresStore, postgres: Cluster
) -> None:
    with postgres.schema() as url:
        async with (
            opened(url) as stranger,
            hearing(store),
            hearing(other) as heard,
            hearing(stranger) as none,
        ):
            await until_heard(store, heard, {"t": 1})
            await asyncio.sleep(0.05)
            assert none == {}


async def test_what_is_no_hint_is_ignored(
    store: PostgresStore, other: PostgresStore, postgres: Cluster
) -> None:
    async with hearing(store), hearing(other) as heard:
        await until_heard(store, heard, {"t": 1})
        for payload in ("", "x", "x {", "x []", 'x {"a": "b"}', "x " + "[" * 5000):
            await asyncio.to_thread(
                postgres.execute, f"SELECT pg_notify('threadbus_{store.epoch}', '{payload}')"
            )
        await until_heard(store, heard, {"t": 2})
        assert heard == {"t": 2}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns what was logged about hints that are lost, and that they are back."""
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if "hints between servers are lost" in message]


async def test_hints_are_heard_again_after_the_sessions_were_ended(
    store: PostgresStore,
    other: PostgresStore,
    postgres: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(notify, "RETRY_DELAY", 0.01)
    async with hearing(store), hearing(other) as heard:
        await until_heard(store, heard, {"t": 1})
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '{}'"
        await asyncio.to_thread(postgres.execute, ended.format("pg_noti[f]y|LISTE[N]"))
        await until_heard(store, heard, {"t": 2})
        await polling.until(lambda: len(told(caplog)) == 4)
    # Once for each of the two, though each has two sessions.
    assert sum(": over, after " in text for text in told(caplog)) == 2


async def test_a_server_that_does_not_hear_itself_connects_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "DEAF_AFTER", 0.05)
    async with hearing(store):
        await polling.until(lambda: "no notification for 0.05 s" in caplog.text)


async def test_a_notification_that_fails_is_not_the_last_one(
    store: PostgresStore,
    other: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, full = Connection.run, [True]

    async def faulty(db: Connection, *steps: Statement, **options: Any) -> Any:
        if "pg_notify" in steps[0][0] and full[0]:
            raise StorageFull
        return await run(db, *steps, **options)

    monkeypatch.setattr(notify, "RETRY_DELAY", 0.01)
    monkeypatch.setattr(Connection, "run", faulty)
    async with hearing(store), hearing(other) as heard:
        await polling.until(lambda: len(told(caplog)) == 2)
        full[0] = False
        await until_heard(store, heard, {"t": 1})


async def test_a_server_without_other_servers_hears_itself(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, echoes = Connection.receive, list[str]()

    async def recorded(db: Connection, on_payload: Callable[[str], None], timeout: float) -> None:
        def received(payload: str) -> None:
            echoes.append(payload)
            on_payload(payload)

        await receive(db, received, timeout)

    monkeypatch.setattr(Connection, "receive", recorded)
    monkeypatch.setattr(notify, "ECHO_INTERVAL", 0.02)
    async with hearing(store) as heard:
        await polling.until(lambda: len(echoes) > 3)
        assert heard == {}


async def test_without_run_nothing_is_kept(store: PostgresStore) -> None:
    store.waker.publish({"t": 1})
    async with hearing(store) as heard:
        await asyncio.sleep(0.05)
        assert heard == {}
