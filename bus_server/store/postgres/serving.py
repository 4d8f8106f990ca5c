"""The lock by which a copy or a restore of a store, and the servers on it, exclude one another.

Each session of a server that writes shares it, and the others have it alone. It ends with the
session.
"""

from bus_server.errors import StoreRefused
from bus_server.store.postgres.connection import Connection

#: SQL for its two keys of 32 bits, the second of which is that of the store's tables. They are
#: never the same as a key of 64 bits, as those of gather.py are.
KEYS = "1413636965, 'meta'::regclass::oid::bigint::bit(32)::int"

_SHARE = f"SELECT pg_try_advisory_lock_shared({KEYS})"


async def check_uncopied(db: Connection) -> None:
    """Take the lock for a session that writes.

    Raises StoreRefused if the store is being copied or restored, and what Connection.run does.
    """
    (((shared,),),) = await db.run((_SHARE, {}))
    if not shared:
        raise StoreRefused("it is being copied or restored: wait until that has ended")
