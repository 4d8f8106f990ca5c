"""Opening a store: what is checked, and what is refused."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus_server.errors import StoreRefused
from bus_server.store import FIRST_REQUEST, RequestsWanted, RevokeToken
from bus_server.store.postgres import upgrade
from bus_server.store.postgres.checks import check
from bus_server.store.postgres.connection import Connection, Statement
from bus_server.store.postgres.schema import SCHEMA_VERSION
from tests.postgres.cluster import Cluster, standby
from tests.postgres.skipping import running
from tests.postgres.stores import opened
from tests.store.commits import commit, compact, create, log, post, register
from threadbus.extras import install_command
from threadbus.v1.message_pb2 import ExpectReply, Message
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN


async def refused(url: str, *, durability: str = "full") -> str:
    """Returns why a store is refused. Fails if it is not."""
    with pytest.raises(StoreRefused) as raised:
        async with opened(url, durability=durability):
            pass
    return str(raised.value)


async def test_of_servers_that_start_together_one_creates_the_tables(postgres_url: str) -> None:
    async def epoch() -> str:
        async with opened(postgres_url) as store:
            await store.commit([create()])
            return store.epoch

    assert len({*await asyncio.gather(*(epoch() for _ in range(5)))}) == 1
    async with opened(postgres_url) as store:
        assert list(await store.heads(["t"])) == ["t"]


async def test_two_schemas_of_a_database_are_two_stores(
    postgres: Cluster, postgres_url: str
) -> None:
    with postgres.schema() as another_url:
        async with opened(postgres_url) as store, opened(another_url) as another:
            assert store.epoch != another.epoch
            await asyncio.gather(commit(store, create()), commit(another, create()))


async def test_a_store_of_a_newer_version_is_refused(postgres: Cluster, postgres_url: str) -> None:
    schema = postgres_url.rsplit("%3D", 1)[1]
    async with opened(postgres_url):
        pass
    newer = SCHEMA_VERSION + 1
    postgres.execute(f"UPDATE {schema}.meta SET version = {newer}")  # noqa: S608
    async with opened(postgres_url):
        pass  # the version is newer, but this server may go on
    postgres.execute(f"UPDATE {schema}.meta SET compatible = {newer}")  # noqa: S608
    assert "upgrade the server" in await refused(postgres_url)


async def test_a_schema_with_other_tables_is_refused(postgres: Cluster, postgres_url: str) -> None:
    schema = postgres_url.rsplit("%3D", 1)[1]
    for table in ("thread", "message", "server"):
        postgres.execute(f"CREATE TABLE {schema}.{table} (id integer)")
        assert "other tables: create a schema for the store" in await refused(postgres_url)
        postgres.execute(f"DROP TABLE {schema}.{table}")
    async with opened(postgres_url):
        pass


async def test_a_missing_schema_is_refused(postgres: Cluster) -> None:
    assert "create one" in await refused(postgres.url("missing"))


@pytest.mark.slow
async def test_a_database_of_another_encoding_is_refused(postgres: Cluster) -> None:
    postgres.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    assert "its encoding is SQL_ASCII" in await refused(postgres.url(database="ascii"))


async def test_a_database_that_cannot_be_reached_is_refused_without_its_password() -> None:
    reason = await refused("postgresql://user:secret@localhost:1/bus")
    assert "cannot open postgresql://localhost:1/bus: " in reason
    assert "secret" not in reason
    assert "cannot open" in await refused("postgresql://localhost:port/bus")
    reason = await refused("postgresq://user:secret@localhost:1/bus")
    assert reason == "cannot open the database: this is no connection URI or string of libpq"


@pytest.fixture
def unsafe() -> Iterator[Cluster]:
    """A database that does not sync."""
    with running(fsync="off") as cluster:
        yield cluster


@pytest.mark.slow
async def test_a_database_that_does_not_sync_is_refused_unless_that_is_wanted(
    unsafe: Cluster,
) -> None:
    assert "fsync or full_page_writes is off" in await refused(unsafe.url())
    async with opened(unsafe.url(), durability="fast") as store:
        await commit(store, create())


async def test_a_password_that_is_not_encoded_is_shown_nowhere() -> None:
    for url in (
        "postgresql://user:sec/ret@localhost:1/bus",
        "postgresql://user:sec@ret@localhost:1/bus",
    ):
        reason = await refused(url)
        assert "is not encoded" in reason
        assert "sec" not in reason.replace("special", "")
        assert "ret" not in reason


async def test_a_role_that_may_create_no_tables_is_told_what_it_needs(postgres: Cluster) -> None:
    with postgres.schema() as url:
        postgres.execute("CREATE ROLE poor LOGIN")
        try:
            reason = await refused(url.replace("postgres@", "poor@"))
        finally:
            postgres.execute("DROP ROLE poor")
    assert "no schema of its search_path exists" in reason or "make the role the owner" in reason


async def test_a_role_that_may_only_read_is_told_what_it_needs(
    postgres: Cluster, postgres_url: str
) -> None:
    schema = postgres_url.rsplit("%3D", 1)[1]
    async with opened(postgres_url) as store:
        await commit(store, create())
    postgres.execute(
        f"CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {schema} TO reader;"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader"
    )
    try:
        reason = await refused(postgres_url.replace("postgres@", "reader@"))
    finally:
        postgres.execute("DROP OWNED BY reader; DROP ROLE reader")
    assert "permission denied" in reason
    assert "make the role the owner of the database" in reason
    async with opened(postgres_url) as store:
        assert list(await store.heads(["t"])) == ["t"]


async def test_sessions_write_though_those_of_their_role_are_read_only(
    postgres: Cluster, postgres_url: str
) -> None:
    postgres.execute("CREATE ROLE careful SUPERUSER LOGIN")
    postgres.execute("ALTER ROLE careful SET default_transaction_read_only = on")
    try:
        async with opened(postgres_url.replace("postgres@", "careful@")) as store:
            await commit(store, create())
    finally:
        postgres.execute("REASSIGN OWNED BY careful TO postgres; DROP ROLE careful")


@pytest.mark.slow
async def test_sessions_get_warnings_though_others_of_their_role_do_not(
    postgres_url: str,
) -> None:
    """A wait for a standby that was cancelled is only a warning."""
    async with opened(f"{postgres_url}%20-cclient_min_messages%3Derror") as store:
        connection = await store._database.connect()
        try:
            (((level,),),) = await connection.run(("SHOW client_min_messages", {}))
        finally:
            await connection.close()
    assert level == "warning"


async def test_a_standby_is_refused_and_found_out_if_the_primary_is_named_too() -> None:
    with running() as primary, standby(primary) as other:
        for attributes in ("", "&target_session_attrs=any"):
            reason = await refused(other.url() + attributes)
            assert reason.endswith(
                ": it is a standby, which cannot be written: name the primary, or all servers in"
                " any order: postgresql://USER@HOST1,HOST2/DATABASE"
            )
        both = f"postgresql://postgres@/postgres?host={other.host},{primary.host}"
        async with opened(both) as store:
            await commit(store, create())


class OldConnection(Connection):
    """A connection to an older PostgreSQL, which cannot be installed here."""

    def __init__(self, version: int) -> None:
        self._version = version

    async def run(self, *statements: Statement, timeout: float | None = None) -> list[list[Any]]:
        return [[(self._version, f"{self._version / 10_000:.1f}", "UTF8", False, "s", True, False)]]


async def test_a_database_that_is_too_old_is_refused() -> None:
    with pytest.raises(StoreRefused, match=r"^PostgreSQL 14\.2 is too old: use 15 or newer$"):
        await check(OldConnection(142_000), "full")
    kind = await check(OldConnection(150_000), "full")
    assert kind == "PostgreSQL 15.0, schema s, fsync; no standby confirms"


async def test_a_schema_that_another_program_keeps_locked_is_refused(
    postgres: Cluster, postgres_url: str
) -> None:
    import psycopg

    from bus_server.store.postgres.gather import lock_key

    async with await psycopg.AsyncConnection.connect(postgres_url) as creating:
        await creating.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("schema")])
        with pytest.raises(StoreRefused, match="locked by another server or program"):
            async with opened(postgres_url, busy_timeout=0.1):
                pass
        starting = asyncio.create_task(_epoch(postgres_url))
        await creating.rollback()
        assert await starting


async def _epoch(url: str) -> str:
    async with opened(url) as store:
        return store.epoch


@pytest.mark.slow
async def test_a_wrong_password_is_refused_and_shown_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running() as cluster:
        cluster.execute("CREATE ROLE bus SUPERUSER LOGIN PASSWORD 'right-secret'")
        cluster.demand_passwords()
        for password in ("wrong-secret", ""):
            given = f":{password}" if password else ""
            reason = await refused(cluster.url().replace("postgres@", f"bus{given}@"))
            assert "password" in reason
            assert "secret" not in reason
            assert "\n" not in reason
        async with opened(cluster.url().replace("postgres@", "bus:right-secret@")) as store:
            await commit(store, create())
            assert "secret" not in store.name + store.kind
        assert "secret" not in caplog.text
        assert "-secret" not in cluster.log.read_text("utf-8").replace("'right-secret'", "")


@pytest.mark.slow
async def test_a_database_without_a_free_connection_is_refused() -> None:
    with running(max_connections="10", superuser_reserved_connections="3") as cluster:
        cluster.execute("CREATE ROLE bus LOGIN CONNECTION LIMIT 0")
        reason = await refused(cluster.url().replace("postgres@", "bus@"))
    assert reason.endswith(
        'too many connections for role "bus" (a server uses up to 7: see max_connections)'
    )


@pytest.mark.slow
def test_without_psycopg_it_is_said_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('no', name='psycopg')")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", "--store", "postgresql://host/bus"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = (each for each in done.stderr.splitlines() if " INFO " not in each)
    assert "--store needs psycopg" in line
    assert install_command("server,postgres") in line


async def test_tables_of_an_older_version_are_upgraded(
    postgres: Cluster, postgres_url: str
) -> None:
    schema = postgres_url.rsplit("%3D", 1)[1]
    script = Path(__file__).with_name("schema-1.sql").read_text("utf-8")
    postgres.execute(
        f"SET search_path = {schema}; {script}; INSERT INTO meta VALUES (1, 1, 'e1', '', 0);"  # noqa: S608
        "INSERT INTO token VALUES ('one', 'ann', 0), ('two', 'ann', 9), ('boss', '', 0)"
    )
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        assert store.epoch == other.epoch == "e1"
        tokens = {token.agent: token for token in await store.list_tokens(None, 10)}
        assert tokens["ann"][:4] == (b"one".hex(), "ann", ("post", "read"), ())
        assert tokens[""][:4] == (b"boss".hex(), "", ("post", "read", "admin"), ())
        assert len(tokens) == 2
        (revoked,) = await commit(other, RevokeToken(b"one".hex(), b""))
        assert sorted(revoked) == [b"one", b"two"]  # one had replaced the other
    with postgres.schema() as new_url:
        async with opened(new_url):
            pass
        new = new_url.rsplit("%3D", 1)[1]
        for table in ("columns", "constraint_column_usage"):
            found = [shape(postgres, table, name) for name in (schema, new)]
            assert found[0] == found[1]


def shape(postgres: Cluster, table: str, schema: str) -> list[tuple[Any, ...]]:
    """Returns the columns, or the constraints, of a store's tables."""
    what = {
        "columns": "table_name, column_name, data_type, is_nullable, column_default",
        "constraint_column_usage": "table_name, column_name",
    }
    return postgres.execute(
        f"SELECT {what[table]} FROM information_schema.{table}"  # noqa: S608
        f" WHERE table_schema = '{schema}' ORDER BY table_name, column_name"
    )


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_questions_can_be_asked_after_an_upgrade(
    postgres: Cluster, postgres_url: str, version: int
) -> None:
    schema = postgres_url.rsplit("%3D", 1)[1]
    script = Path(__file__).with_name(f"schema-{version}.sql").read_text("utf-8")
    postgres.execute(
        f"SET search_path = {schema}; {script};"  # noqa: S608
        f" INSERT INTO meta VALUES ({version}, 3, 'e1', '', 0)"
    )
    async with opened(postgres_url) as store:
        await commit(store, *map(register, ("ann", "ben")), create())
        await commit(store, post(mentions=["ben"], expect_reply=ExpectReply(agents=["ben"])))
        wanted = RequestsWanted([REQUEST_STATE_OPEN])
        (found,) = await store.requests(wanted, 9, FIRST_REQUEST)
        assert (found.thread, found.key.agent) == ("t", "ben")
        await commit(store, post(sender="ben", reply_to=1), compact(0, 1))
        assert [entry.seq for entry in await log(store)] == [2]
    with postgres.schema() as new_url:
        async with opened(new_url):
            pass
        for table in ("columns", "constraint_column_usage"):
            shapes = [
                shape(postgres, table, url.rsplit("%3D", 1)[1]) for url in (postgres_url, new_url)
            ]
            assert shapes[0] == shapes[1]


async def test_whom_older_messages_address_is_found_after_an_upgrade(
    postgres: Cluster, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "ROWS", 2)
    schema = postgres_url.rsplit("%3D", 1)[1]
    script = Path(__file__).with_name("schema-2.sql").read_text("utf-8")
    messages = [
        Message(seq=1, sender="coder"),
        Message(seq=2, sender="ann", mentions=["coder", "ben"], reply_to=1),
        Message(seq=3, sender="coder", mentions=["coder"], handoff_to="ann"),
        Message(seq=4, sender="anonymous", reply_to=1),
        Message(seq=5, sender="ben", reply_to=4),
    ]
    rows = ", ".join(
        f"(1, {message.seq}, 0, '{message.sender}', '\\x{message.SerializeToString().hex()}')"
        for message in messages
    )
    postgres.execute(
        f"SET search_path = {schema}; {script}; INSERT INTO meta VALUES (2, 2, 'e1', '', 0);"  # noqa: S608
        "INSERT INTO thread VALUES (1, 't', 'e', 1, 1, 5, 0, 0, '');"
        f"INSERT INTO message VALUES {rows}"
    )
    async with opened(postgres_url) as store:
        assert await store.addressed("coder", 1, 0, 9, 9) == [2, 4]
        assert await store.addressed("ann", 1, 0, 9, 9) == [3]
        assert await store.addressed("ben", 1, 0, 9, 9) == [2]
        assert await store.addressed("anonymous", 1, 0, 9, 9) == []
