"""Connections that break: no answer is lost, and nothing is stored twice."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from bus_server.errors import OutcomeUnknown, StoreBusy
from bus_server.store import Checkpoint, Commit, Position
from bus_server.store.postgres import committer, connection, readers
from bus_server.store.postgres.connection import Connection, ConnectionLost, Statement
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.postgres.cluster import Cluster
from tests.postgres.skipping import running
from tests.postgres.stores import Posters, opened
from tests.store.commits import commit, create, join, log, post, read_seqs, refusal, register

_SESSIONS = "FROM pg_stat_activity WHERE application_name = 'threadbus' AND pid <> pg_backend_pid()"
TERMINATE = f"SELECT pg_terminate_backend(pid) {_SESSIONS}"
CANCEL = f"SELECT pg_cancel_backend(pid) {_SESSIONS} AND state = 'active'"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store with thread t."""
    async with opened(postgres_url) as store:
        await commit(store, create())
        yield store


@pytest.fixture
async def session(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A session of another program on the store's schema."""
    async with await psycopg.AsyncConnection.connect(postgres_url) as session:
        yield session
        await session.rollback()


# ── Under load ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("fault", [TERMINATE, CANCEL], ids=["terminated", "cancelled"])
async def test_posts_survive_the_end_of_every_session(
    postgres: Cluster, postgres_url: str, store: PostgresStore, fault: str
) -> None:
    async with opened(postgres_url) as other:
        posters = Posters([store, other])
        async with posters.running():
            for _ in range(20):
                await posters.wait_for(3)
                await asyncio.to_thread(postgres.execute, fault)
        await posters.check()


@pytest.mark.slow
async def test_posts_and_reads_survive_a_crash_of_the_database() -> None:
    with running() as cluster:
        async with opened(cluster.url()) as store, opened(cluster.url()) as other:
            await commit(store, create())
            posters = Posters([store, other])
            async with posters.running():
                for _ in range(2):
                    await posters.wait_for(20)
                    await asyncio.to_thread(cluster.stop)
                    acknowledged = max(posters.acknowledged.values())
                    reading = asyncio.create_task(store.heads(["t"]))
                    await asyncio.to_thread(cluster.start)
                    assert (await reading)["t"].seq >= acknowledged
            await posters.check()


# ── One batch ───────────────────────────────────────────────────────────────────────────────────


class Faults:
    """Loses the connection of a store's next COMMITs: "before" they are sent, or "after".

    Or "unconfirmed": the database warns that the standby may not have the commit.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.when: list[str] = []
        run = Connection.run

        async def faulty(db: Connection, *steps: Statement, **options: Any) -> Any:
            when = self.when.pop(0) if steps[-1][0] == "COMMIT" and self.when else ""
            if when != "before":
                rows = await run(db, *steps, **options)
            if when == "unconfirmed":
                db.warning = "canceling wait for synchronous replication due to user request"
            elif when:
                raise ConnectionLost("lost")
            return rows

        monkeypatch.setattr(Connection, "run", faulty)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch, store: PostgresStore) -> Faults:
    """The faults of `store`, once it is open."""
    return Faults(monkeypatch)


@pytest.mark.parametrize(
    "when", [["before"], ["after"], ["before", "before", "after"], ["unconfirmed"]], ids=str
)
async def test_a_batch_whose_answer_is_lost_is_stored_once(
    store: PostgresStore, faults: Faults, when: list[str]
) -> None:
    await commit(store, join(), post(sender="ben"))
    epoch = (await store.heads(["t"]))["t"].epoch
    faults.when = when
    first, _, _, registered = await commit(
        store,
        post(),
        create("u"),
        Checkpoint([], {("ann", "t"): Position(epoch, 1, 1)}),
        register(),
    )
    assert (first.seq, registered.created) == (2, True)
    assert len(await log(store)) == 2
    assert await read_seqs(store) == {"ann": 1, "ben": 1}
    assert (await commit(store, post()))[0].seq == 3


async def test_a_batch_that_was_not_committed_is_no_lost_commit(
    store: PostgresStore, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    before, faults.when = (await store.heads(["t"]))["t"], ["before", "before"]
    await commit(store, post())
    assert (await store.heads(["t"]))["t"].epoch == before.epoch
    assert "CRITICAL" not in {record.levelname for record in caplog.records}


async def test_a_commit_that_no_standby_has_confirmed_is_looked_up(
    store: PostgresStore, faults: Faults
) -> None:
    before, faults.when = store._committer._connection, ["unconfirmed"]
    await commit(store, post())
    assert store._committer._connection is not before
    assert len(await log(store)) == 1


@pytest.mark.slow
async def test_a_commit_that_waits_for_a_standby_in_vain_is_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committer, "PATIENCE", 0.5)
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.5)
    with running() as cluster:
        async with opened(cluster.url(), busy_timeout=0.1) as store:
            await commit(store, create())
            cluster.configure("synchronous_standby_names", "standby")
            posting = asyncio.create_task(_post_until_unknown(store))
            cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = '{}'"

            async def unknown() -> bool:
                await asyncio.to_thread(cluster.execute, cancel.format("SyncRep"))
                return posting.done()

            await polling.until_known(unknown)
            cluster.configure("synchronous_standby_names", "")
            number = await posting
            (again,) = await commit(store, post(request_id=f"{number}"))
            assert again.seq == len(await log(store)) == number


async def _post_until_unknown(store: PostgresStore) -> int:
    """Post, until a post has an unknown outcome. Returns its number."""
    for number in itertools.count(1):
        try:
            await commit(store, post(request_id=f"{number}"))
        except OutcomeUnknown:
            return number
    raise AssertionError


@pytest.mark.slow
async def test_an_outcome_that_cannot_be_found_out_is_unknown(
    store: PostgresStore, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "PATIENCE", 0.1)
    faults.when = ["after"]
    connect = connection.Database.connect

    async def refused(_: connection.Database) -> Connection:
        raise ConnectionLost("refused")

    monkeypatch.setattr(connection.Database, "connect", refused)
    with pytest.raises(OutcomeUnknown):
        await store.commit([post(content="lost", request_id="a")])
    with pytest.raises(OutcomeUnknown):  # it may be a retry of the first
        await store.commit([post(content="lost", request_id="a")])
    monkeypatch.setattr(connection.Database, "connect", connect)
    (again,) = await commit(store, post(content="lost", request_id="a"))
    assert (again.seq, again.deduplicated) == (1, True)


@pytest.mark.slow
async def test_a_batch_that_was_never_sent_is_refused_as_not_stored(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, postgres: Cluster
) -> None:
    monkeypatch.setattr(committer, "PATIENCE", 0.1)
    monkeypatch.setattr(readers, "PATIENCE", 0.1)

    async def refused(_: connection.Database) -> Connection:
        raise ConnectionLost("refused")

    with monkeypatch.context() as broken:
        broken.setattr(connection.Database, "connect", refused)
        await asyncio.to_thread(postgres.execute, TERMINATE)
        with pytest.raises(StoreBusy):
            await store.commit([post()])
        with pytest.raises(StoreBusy):
            await store.heads(["t"])
    assert await log(store) == []
    await commit(store, post())


@pytest.mark.slow
async def test_a_session_that_hangs_is_given_up(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, postgres: Cluster
) -> None:
    # So that it takes longer until the session is given up than a batch is tried again.
    monkeypatch.setattr(committer, "PATIENCE", 0.3)
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.3)
    store._database = connection.Database(store._database.url, "full", 0.1)
    monkeypatch.setattr(store._committer, "_database", store._database)
    pids = [pid for (pid,) in await asyncio.to_thread(postgres.execute, f"SELECT pid {_SESSIONS}")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            await commit(store, post())
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await commit(store, post())
    assert len(await log(store)) == 2


class Waiting:
    """A post of a store whose session waits for a lock of `session` while its client is gone."""

    def __init__(self, store: PostgresStore, session: psycopg.AsyncConnection) -> None:
        self.store, self.session = store, session
        self.pid = store._committer._process[0]

    async def begin(self) -> "asyncio.Task[Commit]":
        """Post, and wait until the session waits. Returns the post."""
        await self.session.execute("LOCK TABLE message IN SHARE MODE")
        task = asyncio.create_task(self.store.commit([post()]))
        await self.until_a_session_waits()
        return task

    async def until_a_session_waits(self) -> None:
        """Wait until one session waits for a lock."""

        async def waits() -> bool:
            found = await self.session.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return await found.fetchone() == (1,)

        await polling.until_known(waits)

    def cut(self) -> None:
        """Lose the client."""
        assert self.store._committer._connection is not None
        self.store._committer._connection.cut()


@pytest.mark.slow
async def test_a_session_whose_client_is_gone_does_not_commit(
    store: PostgresStore, session: psycopg.AsyncConnection
) -> None:
    first, before = Waiting(store, session), store._committer._connection
    posting = await first.begin()
    first.cut()
    await polling.until(lambda: store._committer._connection not in (before, None))
    await first.until_a_session_waits()
    await session.rollback()
    await posting
    assert len(await log(store)) == 1


@pytest.mark.slow
async def test_nothing_is_written_while_an_earlier_session_may_still_commit(
    store: PostgresStore, session: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "PATIENCE", 0.1)
    monkeypatch.setattr(committer, "END_TIMEOUT", 100)
    first = Waiting(store, session)
    posting = await first.begin()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        first.cut()
        with pytest.raises(OutcomeUnknown):
            await posting
        with pytest.raises(OutcomeUnknown):
            await store.commit([create("u")])
    finally:
        await session.rollback()
        os.kill(first.pid, signal.SIGCONT)
    await polling.until_known(lambda: _can_commit(store))
    assert await log(store) == []


@pytest.mark.slow
async def test_a_session_that_has_not_written_yet_may_still_commit_too(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction holds no lock that another session would wait for."""
    monkeypatch.setattr(committer, "PATIENCE", 0.1)
    monkeypatch.setattr(committer, "END_TIMEOUT", 100)
    own, decided = store._committer, store._committer._decided
    pid, number = own._process[0], own._number

    async def stopped(*args: Any) -> Any:
        batch = await decided(*args)
        os.kill(pid, signal.SIGSTOP)
        return batch

    monkeypatch.setattr(own, "_decided", stopped)
    posting = asyncio.create_task(store.commit([post()]))
    await polling.until(lambda: own._number > number)
    monkeypatch.setattr(own, "_decided", decided)
    try:
        assert own._connection is not None
        own._connection.cut()
        with pytest.raises(OutcomeUnknown):
            await posting
    finally:
        os.kill(pid, signal.SIGCONT)
    await polling.until_known(lambda: _can_commit(store))
    assert len(await log(store)) <= 1


async def _can_commit(store: PostgresStore) -> bool:
    with contextlib.suppress(OutcomeUnknown):
        await commit(store, create("u"))
        return True
    return False


async def test_what_a_database_has_lost_is_reported(
    store: PostgresStore, postgres: Cluster, caplog: pytest.LogCaptureFixture, postgres_url: str
) -> None:
    await commit(store, post())
    schema = postgres_url.rsplit("%3D", 1)[1]
    await asyncio.to_thread(postgres.execute, f"UPDATE {schema}.writer SET batch = 0")  # noqa: S608
    await asyncio.to_thread(postgres.execute, TERMINATE)
    assert await refusal(store, post("nowhere"))
    assert "lacks 2 commits that this server acknowledged" in caplog.text
