"""Reads and writes the servers on the store, and their open waits."""

from collections.abc import Iterable, Set

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Changes
from bus_server.store.postgres.arrays import Blobs, Ints, Texts, texts
from bus_server.store.postgres.connection import Connection, Statement
from threadbus.v1.admin_service_pb2 import Wait

_SERVERS = "SELECT name, renew_time, lease FROM server"
_NUMBERS = "SELECT number FROM wait WHERE server = %(server)s"
_WAITS = """
SELECT w.number, w.body FROM unnest(%(numbers)s) AS n (number) CROSS JOIN LATERAL (
    SELECT number, body FROM wait WHERE server = %(server)s AND number = n.number LIMIT 1
) AS w
"""
_REMOVE = (
    "DELETE FROM server WHERE name = ANY (%(names)s)",
    "DELETE FROM wait WHERE server = ANY (%(names)s)",
)
_SAVE = """
INSERT INTO server AS s (name, renew_time, lease)
SELECT name, %(now)s, lease FROM unnest(%(names)s, %(leases)s) AS n (name, lease)
ON CONFLICT (name) DO UPDATE
SET renew_time = greatest(s.renew_time + 1, excluded.renew_time), lease = excluded.lease
"""
_CLOSE = """
DELETE FROM wait AS w USING unnest(%(servers)s, %(numbers)s) AS n (server, number)
WHERE w.server = n.server AND w.number = n.number
"""
_OPEN = """
INSERT INTO wait (server, number, body) SELECT * FROM unnest(%(servers)s, %(numbers)s, %(bodies)s)
ON CONFLICT DO NOTHING
"""


async def servers(db: Connection) -> dict[str, store.ServerLease]:
    """Returns the servers that are stored, as Store.servers does."""
    (rows,) = await db.run((_SERVERS, {}))
    return {name: store.ServerLease(*lease) for name, *lease in rows}


async def waits(db: Connection, server: str, known: Set[int]) -> tuple[set[int], dict[int, Wait]]:
    """Returns the open waits of a server, as Store.server_waits does."""
    (rows,) = await db.run((_NUMBERS, {"server": server}))
    numbers = {number for (number,) in rows}
    new: dict[int, Wait] = {}
    if numbers - known:
        asked = {"server": server, "numbers": Ints(numbers - known)}
        (rows,) = await db.run((_WAITS, asked))
        new = bodies.waits_of(rows)
    return numbers & known | new.keys(), new


def changes_statements(changes: Changes, store_now: int) -> Iterable[Statement]:
    """Returns the statements for the changes of servers and their waits.

    `store_now`: on the store's clock.
    """
    if changes.removed_servers:
        for query in _REMOVE:
            yield query, {"names": texts(sorted(changes.removed_servers))}
    if changes.servers:
        names = sorted(changes.servers)
        leases = Ints(changes.servers[name] for name in names)
        yield _SAVE, {"names": Texts(names), "leases": leases, "now": store_now}
    if changes.opened_waits:
        yield (
            _OPEN,
            {
                "servers": Texts(server for server, _ in changes.opened_waits),
                "numbers": Ints(number for _, number in changes.opened_waits),
                "bodies": Blobs(changes.opened_waits.values()),
            },
        )
    if changes.closed_waits:
        yield (
            _CLOSE,
            {
                "servers": Texts(server for server, _ in changes.closed_waits),
                "numbers": Ints(number for _, number in changes.closed_waits),
            },
        )
