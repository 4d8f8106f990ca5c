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
SCHEMA_VERSION = 5

_SCRIPT = Path(__file__).with_name("schema.sql")
_LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
_THERE = """
SELECT relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND relname IN ('meta', 'thread') ORDER BY relname
"""

#: Why a schema cannot be used that has tables, and what to do.
_OTHERS = (
    "its schema has other tables: create a schema for the store, and name it in the URL: "
    "?options=-csearch_path%3DNAME"
)
_META = "SELECT version, compatible, epoch FROM meta"
_CREATE_META = f"""
INSERT INTO meta (version, compatible, epoch, place, history)
VALUES (%(version)s, %(version)s, %(epoch)s, {PLACE}, 0)
"""  # noqa: S608


async def prepare(db: Connection, lock_timeout: float) -> str:
    """Create the tables if there are none, or upgrade those of an older version.

    Returns the store's epoch. Of several servers that start, one creates or upgrades them.

    Args:
        lock_timeout: seconds in which the others do.

    Raises StoreRefused if the tables are of another version or not those of a store.
    """
    await db.run(("BEGIN", {}), (_LOCK, {"key": lock_key("schema")}), timeout=lock_timeout)
    (there,) = await db.run((_THERE, {}))
    if not there:
        try:
            await db.run_script(_SCRIPT.read_text("utf-8"))
        except StoreBug as error:
            if "(42P07)" not in str(error):  # something has the name of one of the tables
                raise
            raise StoreRefused(_OTHERS) from error
        epoch = secrets.token_hex(8)
        await db.run((_CREATE_META, {"version": SCHEMA_VERSION, "epoch": epoch}))
    elif len(there) != 2:
        raise StoreRefused(_OTHERS)
    ((version, compatible, epoch),) = (await db.run((_META, {})))[0]
    for older in range(version, SCHEMA_VERSION):
        upgrade = _SCRIPT.with_name(f"upgrade-{older + 1}.sql")
        await db.run_script(upgrade.read_text("utf-8"))
        if older + 1 == 3:
            await fill_addressed(db)
    await db.run(("COMMIT", {}))
    if compatible > SCHEMA_VERSION:
        raise StoreRefused(
            f"its tables have version {version}, and this server knows up to {SCHEMA_VERSION}:"
            " upgrade the server"
        )
    return str(epoch)
