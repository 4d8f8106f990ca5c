"""Opening a store: what is checked, and what is refused."""

import asyncio
from collections.abc import Iterator

import pytest

from bus_server.errors import StoreRefused
from bus_server.store.postgres.connection import Database
from bus_server.store.postgres.schema import SCHEMA_VERSION
from tests.postgres.cluster import Cluster
from tests.postgres.skipping import running
from tests.postgres.stores import opened
from tests.store.commits import commit, create


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
    postgres.execute(f"CREATE TABLE {schema}.thread (id integer)")
    assert "its schema has other tables" in await refused(postgres_url)


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


def test_a_database_is_named_without_user_and_password() -> None:
    for url, name in (
        ("postgresql://user:secret@host:5433/bus", "postgresql://host:5433/bus"),
        ("host=h1,h2 dbname=bus user=u password=secret", "postgresql://h1,h2/bus"),
        ("postgresql:///bus?host=/run/postgresql", "postgresql:///run/postgresql/bus"),
    ):
        assert str(Database(url, "full", 1)) == name


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
