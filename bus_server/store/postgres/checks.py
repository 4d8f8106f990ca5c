"""What a store demands of its database: checked when it is opened, before anything is written."""

from bus_server.errors import StoreRefused
from bus_server.store.postgres import wording
from bus_server.store.postgres.connection import Connection

#: The oldest version of PostgreSQL, as in server_version_num.
OLDEST = 150_000

# Every role may ask this.
_ASK = """
SELECT current_setting('server_version_num')::bigint,
    split_part(current_setting('server_version'), ' ', 1),
    current_setting('server_encoding'), pg_is_in_recovery(), current_schema(),
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
    current_setting('synchronous_standby_names') <> ''
"""


async def check(db: Connection, durability: str) -> str:
    """Returns the database's version, its schema, and what a commit survives, in a few words.

    Raises StoreRefused if the store cannot be in this database with this durability.
    """
    (answer,) = (await db.run((_ASK, {})))[0]
    number, version, encoding, standby, schema, synced, confirmed = answer
    if number < OLDEST:
        raise StoreRefused(f"PostgreSQL {version} is too old: use {OLDEST // 10_000} or newer")
    if encoding != "UTF8":
        raise StoreRefused(
            f"its encoding is {encoding}: create the database with ENCODING 'UTF8' TEMPLATE"
            " template0"
        )
    if standby:
        raise StoreRefused(wording.STANDBY)
    if schema is None:
        raise StoreRefused("no schema of its search_path exists: create one")
    kind = f"PostgreSQL {version}, schema {schema}"
    if durability == "fast":
        return f"{kind}, no fsync: --durability fast"
    if not synced:
        raise StoreRefused(
            "fsync or full_page_writes is off: a crash of its machine can damage the database."
            " Switch them on, or choose --durability fast"
        )
    if durability == "replicated" and not confirmed:
        raise StoreRefused(
            "no standby confirms its commits: set synchronous_standby_names, or choose"
            " --durability full"
        )
    confirms = "a standby confirms" if confirmed else "no standby confirms"
    return f"{kind}, fsync; {confirms}"
