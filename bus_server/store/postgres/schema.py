"""Creates the tables of a store, or checks that this version can use those that are there."""

import secrets
from pathlib import Path

from bus_server.errors import StoreBug, StoreRefused
from bus_server.store.postgres.connection import Connection
from bus_server.store.postgres.gather import lock_key
from bus_server.store.postgres.history import PLACE
from bus_server.store.postgres.upgrade import fill_addressed

#: The version of schema.sql. Servers that know a version from `compatible` in the table meta on can
#: use the store, so that they can be upgraded one after the other.
SCHEMA_VERSION = 6
#: What a copy that is not finished has as `compatible`, so that no version serves it.
UNFINISHED = 2**31 - 1

_SCRIPT = Path(__file__).with_name("schema.sql")
_LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
_THERE = """
SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND relname IN ('meta', 'thread') ORDER BY relname
"""

#: Why a schema cannot be used that has tables, and what to do.
_NAME = "and name it in the URL: ?options=-csearch_path%3DNAME"
_OTHERS = f"its schema has other tables: create a schema for the store, {_NAME}"
_DROP = "DROP SCHEMA … CASCADE, create it, and start again"
_UNFINISHED = (
    "it is an unfinished copy of a store: repeat the `threadbus copy` that began it, or drop the "
    "tables"
)
_META = "SELECT version, compatible, epoch FROM meta"
_CREATE_META = f"""
INSERT INTO meta (version, compatible, epoch, place, history)
VALUES (%(version)s, %(compatible)s, %(epoch)s, {PLACE}, 0)
"""  # noqa: S608
_CREATE_MARK = "CREATE TABLE unfinished_copy (fingerprint text NOT NULL, shift bigint NOT NULL)"


async def prepare(db: Connection, lock_timeout: float) -> str:
    """Create the tables if there are none, or upgrade those of an older version.

    Returns the store's epoch. Of several servers that start, one creates or upgrades them.

    Args:
        lock_timeout: seconds in which the others do.

    Raises StoreRefused if the tables are of another version or not those of a store.
    """
    if not await _exists(db, lock_timeout):
        await _create(db, secrets.token_hex(8), SCHEMA_VERSION)
    ((version, compatible, epoch),) = (await db.run((_META, {})))[0]
    if compatible == UNFINISHED:
        raise StoreRefused(_UNFINISHED)
    for older in range(version, SCHEMA_VERSION):
        upgrade = _SCRIPT.with_name(f"upgrade-{older + 1}.sql")
        await db.run_script(upgrade.read_text("utf-8"))
        if older + 1 == 3:
            await fill_addressed(db)
    await db.run(("COMMIT", {}))
    if compatible > SCHEMA_VERSION:
        raise _newer(version)
    return str(epoch)


async def prepare_copy(db: Connection, lock_timeout: float, epoch: str) -> None:
    """Create the tables of an unfinished copy of the store with this epoch, if there are none.

    `lock_timeout`: as for `prepare`. Raises StoreRefused if there are other tables.
    """
    if not await _exists(db, lock_timeout):
        await _create(db, epoch, UNFINISHED)
        await db.run((_CREATE_MARK, {}))
    ((version, compatible, found),) = (await db.run((_META, {})))[0]
    if compatible != UNFINISHED:
        raise StoreRefused(f"it holds a store already: create a schema for the copy, {_NAME}")
    if version != SCHEMA_VERSION:
        raise StoreRefused(f"it holds an unfinished copy by another version: {_DROP}")
    if found != epoch:
        raise StoreRefused("it holds an unfinished copy of another store: name another schema")
    await db.run(("COMMIT", {}))


async def whole_store(db: Connection, lock_timeout: float) -> str:
    """Returns the epoch of a store that this version can copy.

    `lock_timeout`: as for `prepare`. Raises StoreRefused if there is none.
    """
    if not await _exists(db, lock_timeout):
        raise StoreRefused("there is no store in its schema")
    ((version, compatible, epoch),) = (await db.run((_META, {})))[0]
    await db.run(("COMMIT", {}))
    if compatible == UNFINISHED:
        raise StoreRefused(_UNFINISHED)
    if version < SCHEMA_VERSION:
        raise StoreRefused(
            "it was last served by an older version: start a server of this version on it, stop "
            "it, and start again"
        )
    if version > SCHEMA_VERSION:
        raise _newer(version)
    return str(epoch)


async def _exists(db: Connection, lock_timeout: float) -> bool:
    """Begin a transaction, and return whether there are the tables of a store.

    Others that create them wait for its end. Raises StoreRefused if there are other tables.
    """
    await db.run(("BEGIN", {}), (_LOCK, {"key": lock_key("schema")}), timeout=lock_timeout)
    (there,) = await db.run((_THERE, {}))
    if len(there) == 1:
        raise StoreRefused(_OTHERS)
    return bool(there)


async def _create(db: Connection, epoch: str, compatible: int) -> None:
    """Create the tables, within a transaction. Raises StoreRefused if one of them is there."""
    try:
        await db.run_script(_SCRIPT.read_text("utf-8"))
    except StoreBug as error:
        if "(42P07)" not in str(error):  # something has the name of one of the tables
            raise
        raise StoreRefused(_OTHERS) from error
    values = {"version": SCHEMA_VERSION, "compatible": compatible, "epoch": epoch}
    await db.run((_CREATE_META, values))


def _newer(version: int) -> StoreRefused:
    return StoreRefused(
        f"its tables have version {version}, and this server knows up to {SCHEMA_VERSION}:"
        " upgrade the server"
    )
