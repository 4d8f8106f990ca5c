"""The engines that the contract is tested on."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

from bus_server.store.interface import Store
from tests import own_bus


class Engine(NamedTuple):
    """How to open stores of an engine."""

    #: The fixture that says where a test's database is.
    place: str
    #: Opens a store there, and closes it at the end. The stores that are opened in one place have
    #: one database, like servers in several processes.
    open: Callable[[Any], AbstractAsyncContextManager[Store]]
    #: Logs "one by one" at level DEBUG when a batch failed and its commands are run alone.
    logger: str


def _on_sqlite(folder: Path) -> AbstractAsyncContextManager[Store]:
    return own_bus.opened(folder / "bus.db")


@contextlib.asynccontextmanager
async def _on_postgresql(url: str) -> AsyncIterator[Store]:
    from bus_server.store.postgres.store import PostgresStore  # there may be no psycopg

    store = await PostgresStore.open(url, durability="fast", busy_timeout=5)
    try:
        yield store
    finally:
        await store.close()


#: A new engine is a row here.
ENGINES = {
    "sqlite": Engine("tmp_path", _on_sqlite, "bus_server.store.sqlite.store"),
    "postgresql": Engine("postgres_url", _on_postgresql, "bus_server.store.postgres.store"),
}
