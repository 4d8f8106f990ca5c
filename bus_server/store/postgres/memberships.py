"""Reads of which threads agents take part."""

from collections.abc import Sequence

from bus_server import store
from bus_server.store.postgres import activity, reads
from bus_server.store.postgres.arrays import Ints, texts
from bus_server.store.postgres.connection import Connection
from threadbus.v1.thread_pb2 import ThreadState

#: The columns of a Membership.
_MEMBERSHIP = "m.read_seq, m.passed_over, greatest({}, {})".format(
    *(
        "coalesce((SELECT seq FROM addressed WHERE thread_id = m.thread_id AND agent = m.agent"  # noqa: S608
        f" AND {wakes} ORDER BY seq DESC LIMIT 1), 0)"
        for wakes in ("wakes", "NOT wakes")
    )
)
_MEMBERSHIPS = f"""
SELECT {reads.HEAD}, {_MEMBERSHIP} FROM (
    SELECT * FROM participant WHERE agent = %(agent)s
    AND thread_id > %(after)s ORDER BY thread_id LIMIT %(limit)s
) AS m CROSS JOIN LATERAL (SELECT * FROM thread WHERE id = m.thread_id LIMIT 1) AS t
ORDER BY m.thread_id
"""  # noqa: S608
_MEMBERS = f"""
SELECT t.name, m.agent, {_MEMBERSHIP} FROM thread AS t CROSS JOIN LATERAL (
    SELECT * FROM participant WHERE thread_id = t.id OFFSET 0
) AS m WHERE t.name = ANY (%(names)s) AND m.agent = ANY (%(agents)s)
"""  # noqa: S608
_NEWEST = """
SELECT max(n.active_time) FROM unnest(%(states)s) AS s (state) CROSS JOIN LATERAL (
    SELECT active_time FROM thread WHERE state = s.state ORDER BY active_time DESC LIMIT 1
) AS n
"""
_ACTIVE = """
SELECT t.name FROM unnest(%(states)s) AS s (state) CROSS JOIN LATERAL (
    SELECT name FROM thread WHERE state = s.state AND active_time > %(since)s
) AS t
"""
_STATES = Ints(state for state in ThreadState.values() if state)
#: Microseconds for which a transaction may run until its entries are seen, at most: they have the
#: time at which it began.
_IN_FLIGHT = 10_000_000


async def memberships(
    db: Connection, agent: str, after: int, limit: int
) -> list[tuple[str, store.Head, store.Membership]]:
    """Returns threads of which an agent is a participant, as Store.memberships does."""
    if "\0" in agent:
        return []
    (rows,) = await db.run((_MEMBERSHIPS, {"agent": agent, "after": after, "limit": limit}))
    return [(row[0], reads.head(*row[1:7]), store.Membership(*row[7:])) for row in rows]


async def members(
    db: Connection, names: Sequence[str], agents: Sequence[str]
) -> dict[str, dict[str, store.Membership]]:
    """Returns which agents are participants of threads, as Store.members does."""
    (rows,) = await db.run((_MEMBERS, {"names": texts(names), "agents": texts(agents)}))
    found: dict[str, dict[str, store.Membership]] = {}
    for name, agent, *rest in rows:
        found.setdefault(name, {})[agent] = store.Membership(*rest)
    return found


async def recently_active(db: Connection, since: int) -> tuple[list[str], int]:
    """Returns the threads with new entries, as Store.recently_active does."""
    ((newest,),), *_ = await db.run((_NEWEST, {"states": _STATES}))
    newest = newest or 0
    earliest = (since or newest) - activity.GRANULARITY - _IN_FLIGHT
    (rows,) = await db.run((_ACTIVE, {"states": _STATES, "since": earliest}))
    return [name for (name,) in rows], newest
