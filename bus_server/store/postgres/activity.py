"""Lists threads by their last activity.

A thread's last_time is that of its newest entry, or of its creation while it has none. It is not
indexed: each post would then have to write index entries for the thread's row, and could not write
the row's new version beside the old one. active_time is indexed instead, and updated at most once a
second:

    active_time <= last_time < active_time + GRANULARITY

If `limit` threads have an active_time of at least A, the first `limit` threads have a last_time of
at least A, and so an active_time after A - GRANULARITY: only these are looked at.
"""

from collections.abc import Sequence

from bus_server import store
from bus_server.store.postgres import reads
from bus_server.store.postgres.arrays import Ints
from bus_server.store.postgres.connection import Connection
from threadbus.v1.thread_pb2 import Thread

#: Resolution of active_time, in microseconds.
GRANULARITY = 1_000_000

#: If a filter matches at most this many threads, all of them are read, in a few milliseconds. If it
#: matches more, walking the index soon finds enough of them, unless all of them have long been
#: idle.
FEW = 1_000

#: Greater than every last_time.
_END = 1 << 62

#: SQL: whether thread t matches the filters other than the state, and comes after the key.
_MATCHES = """
(t.last_time, t.id) < (%(time)s, %(id)s) AND t.active_time <= %(time)s
AND t.name >= %(prefix)s AND t.name < %(prefix_end)s AND (%(participant)s = '' OR (
    SELECT read_seq FROM participant WHERE thread_id = t.id AND agent = %(participant)s
) IS NOT NULL)
"""
_ORDER = "ORDER BY t.last_time DESC, t.id DESC LIMIT %(limit)s"
_AMONG = f"""
SELECT {reads.THREAD} FROM unnest(%(ids)s) AS n (id)
CROSS JOIN LATERAL (SELECT * FROM thread WHERE id = n.id LIMIT 1) AS t
WHERE t.state = ANY (%(states)s) AND {_MATCHES} {_ORDER}
"""  # noqa: S608
#: SQL for the active_time A of above; NULL if fewer threads match.
_EDGE = f"""
SELECT c.active_time FROM unnest(%(states)s) AS s (state) CROSS JOIN LATERAL (
    SELECT t.active_time FROM thread AS t WHERE t.state = s.state AND {_MATCHES}
    ORDER BY t.active_time DESC LIMIT %(limit)s
) AS c ORDER BY c.active_time DESC OFFSET %(limit)s - 1 LIMIT 1
"""  # noqa: S608
# OFFSET 0 keeps the state in the look-up.
_WALK = f"""
SELECT {reads.THREAD} FROM unnest(%(states)s) AS s (state) CROSS JOIN LATERAL (
    SELECT * FROM thread AS t WHERE t.state = s.state
    AND t.active_time > coalesce(({_EDGE}), 0) - %(granularity)s AND {_MATCHES} OFFSET 0
) AS t {_ORDER}
"""  # noqa: S608
#: SQL for at most FEW + 1 ids of threads that match one filter.
_NARROW = {
    "participant": "SELECT thread_id FROM participant WHERE agent = %(participant)s LIMIT %(few)s",
    "prefix": (
        "SELECT id FROM thread WHERE name >= %(prefix)s AND name < %(prefix_end)s LIMIT %(few)s"
    ),
}


async def list_threads(
    db: Connection,
    states: Sequence[int],
    prefix: str,
    participant: str,
    limit: int,
    after: store.ThreadPageKey | None,
) -> list[tuple[Thread, store.ThreadPageKey]]:
    """Returns threads after a key, most recently active first, as Store.list_threads does."""
    if "\0" in prefix or "\0" in participant:
        return []
    start = after or store.ThreadPageKey(_END, 0)
    filters = {
        "prefix": prefix,
        "prefix_end": f"{prefix}\U0010ffff",  # greater than any character of a name
        "participant": participant,
    }
    asked: dict[str, object] = {
        "states": Ints(set(states)),
        "time": start.active,
        "id": start.thread_id,
        "limit": limit,
    }
    ids = await _few(db, filters)
    if ids is None:
        statement = _WALK, filters | asked | {"granularity": GRANULARITY}
    else:
        statement = _AMONG, filters | asked | {"ids": ids}
    (rows,) = await db.run(statement)
    return [(reads.thread(row), store.ThreadPageKey(row[7], row[1])) for row in rows]


async def _few(db: Connection, filters: dict[str, str]) -> Ints | None:
    """Returns a superset of the ids of matching threads.

    Returns None if there may be more than FEW: neither filter is set, or each one that is set
    matches more.
    """
    for name, query in _NARROW.items():
        if filters[name]:
            (rows,) = await db.run((query, filters | {"few": FEW + 1}))
            if len(rows) <= FEW:
                return Ints(thread_id for (thread_id,) in rows)
    return None
