"""Opens the store of a server: the one place that knows the engines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from bus_server.errors import StoreRefused
from bus_server.settings import Settings
from bus_server.store.copies import Source, Target
from bus_server.store.interface import ServedStore
from bus_server.store.sqlite import file
from bus_server.store.sqlite.store import SqliteStore
from threadbus.extras import install_command


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
        raise _missing("--store", error) from error
    return await PostgresStore.open(
        settings.store, durability=settings.durability, busy_timeout=settings.busy_timeout
    )


@contextmanager
def open_copy(place: Path | str, to: Path | str) -> Iterator[tuple[Source, Target]]:
    """Open a store, and an unfinished copy of it, which is created if there is none.

    Each is a file, or the URL of a database. No server can be on either while they are open
    (context manager). Raises StoreRefused.
    """
    with (
        _copies(place).opened_source(place) as source,
        _copies(to).opened_target(to, source) as target,
    ):
        yield source, target


def _copies(place: Path | str) -> ModuleType:
    """Returns the module with the ends of copies of the engine at a place."""
    if isinstance(place, Path):
        from bus_server.store.sqlite import copies as files

        return files
    try:
        from bus_server.store.postgres import copies as schemas
    except ImportError as error:
        raise _missing("PostgreSQL", error) from error
    return schemas


def _missing(what: str, error: ImportError) -> StoreRefused:
    return StoreRefused(
        f"{what} needs {error.name}, which comes with the extra `postgres`: "
        f"run {install_command('server,postgres')}"
    )
