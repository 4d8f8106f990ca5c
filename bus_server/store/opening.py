"""Opens the store of a server: the one place that knows the engines."""

from dataclasses import replace

from bus_server.settings import Settings
from bus_server.store.interface import ServedStore
from bus_server.store.sqlite import file
from bus_server.store.sqlite.store import SqliteStore


def located(settings: Settings) -> Settings:
    """Returns the settings with the database file that `db` leads to.

    Raises StoreRefused if there can be none.
    """
    return replace(settings, db=file.locate(settings.db))


async def open_store(settings: Settings) -> ServedStore:
    """Returns the store that the settings name, opened. Creates it if there is none.

    `settings`: as `located` returns them. Raises StoreRefused.
    """
    return await SqliteStore.open(
        settings.db,
        full_durability=settings.durability == "full",
        busy_timeout=settings.busy_timeout,
    )
