"""Counts what a store holds, and its size."""

from collections.abc import Mapping

from bus_server import store
from bus_server.store import figures
from bus_server.store.postgres import reads
from bus_server.store.postgres.arrays import Ints, Texts
from bus_server.store.postgres.connection import Connection

_AGENTS = f"""
SELECT {reads.STATE}, count(*) FROM agent AS a LEFT JOIN presence AS p ON p.agent = a.name
WHERE a.unregister_time = 0 GROUP BY 1
"""  # noqa: S608
_KNOWN_AGENTS = f"""
SELECT m.presence, {reads.STATE}, count(*)
FROM unnest(%(names)s, %(presences)s) AS m (name, presence)
CROSS JOIN LATERAL (
    SELECT name FROM agent WHERE name = m.name AND unregister_time = 0 LIMIT 1
) AS a LEFT JOIN presence AS p ON p.agent = a.name GROUP BY 1, 2
"""  # noqa: S608
_THREADS = "SELECT count(*) FROM thread"
_REQUESTS = """
SELECT count(*), count(*) FILTER (WHERE due BETWEEN 1 AND %(now)s) FROM asked WHERE state = 1
"""
_SIZE = "SELECT pg_database_size(current_database())"


async def read(db: Connection, presences: Mapping[str, int], now: int) -> store.Figures:
    """Returns the figures of a store, as Store.figures does. `now`: on the store's clock."""
    known = {"names": Texts(presences), "presences": Ints(presences.values()), "now": now}
    _, threads, stored, known_agents, requests, size, _ = await db.run(
        ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", {}),  # one snapshot
        (_THREADS, {}),
        (_AGENTS, {"now": now}),
        (_KNOWN_AGENTS, known),
        (_REQUESTS, {"now": now}),
        (_SIZE, {}),
        ("COMMIT", {}),
    )
    ((open_requests, overdue_requests),) = requests
    return store.Figures(
        threads=threads[0][0],
        agents=figures.presences(
            [(state, count) for state, count in stored],
            [(presence, state, count) for presence, state, count in known_agents],
        ),
        open_requests=open_requests,
        overdue_requests=overdue_requests,
        size=size[0][0],
    )
