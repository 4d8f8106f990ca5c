"""Opens the store of a server: the one place that knows the engines."""

from dataclasses import replace

from bus_server.errors import StoreRefused
from bus_server.settings import Settings
from bus_server.store.interface import ServedStore
from bus_server.store.sqlite import file
from bus_server.store.sqlite.store import SqliteStore


def located(settings: Settings) -> Settings:
    """Returns the settings with the database file that `db` leads to.

    Raises StoreRefused if there can be none, or the settings of the store do not go together.
    """
    if not settings.store:
        if settings.durability == "replicated":
            raise StoreRefused("--durability replicated needs a database with a standby: --store")
        return replace(settings, db=file.locate(settings.db))
    if settings.db != Settings().db:
        raise StoreRefused("give --db or --store, not both")
    return settings


async def open_store(settings: Settings) -> ServedStore:
    """Returns the store that the settings name, opened. Creates it if there is none.

    `settings`: as `located` returns them. Raises StoreRefused.
    """
    if not settings.store:
        return await SqliteStore.open(
            settings.db,
            full_durability=settings.durability == "full",
            busy_timeout=settings.busy_timeout,
        )
    try:
        from bus_server.store.postgres.store import PostgresStore
    except ImportError as error:
        raise StoreRefused(
            f"--store needs {error.name}, which comes with the extra `postgres`: in the source "
            "folder, run pip install '.[server,postgres]'"
        ) from error
    return await PostgresStore.open(
        settings.store, durability=settings.durability, busy_timeout=settings.busy_timeout
    )
