"""Reads and removes the oldest entries of threads."""

from collections.abc import Iterable

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Changes
from bus_server.store.compact_commands import (
    COMPACT_BYTES,
    COMPACT_ROWS,
    FORGET_AGENTS,
    FORGET_ROWS,
    FrontRow,
    Kept,
    forgettable,
)
from bus_server.store.facts import Facts, Needs
from bus_server.store.postgres.arrays import Ints, Texts, texts, without_nul
from bus_server.store.postgres.connection import Connection, Row, Statement

# All scans begin at first_seq: index entries of what was removed stay until the next vacuum.
_FRONTS = """
SELECT t.id, m.seq, m.time, m.sender, m.body FROM unnest(%(fronts)s) AS n (thread)
CROSS JOIN LATERAL (SELECT id, first_seq FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT seq, time, sender, body, row_number() OVER w AS place,
        sum(octet_length(body)) OVER w AS size
    FROM message WHERE thread_id = t.id AND seq >= t.first_seq
    WINDOW w AS (ORDER BY seq) ORDER BY seq LIMIT %(rows)s
) AS m WHERE m.place = 1 OR m.size <= %(bytes)s ORDER BY t.id, m.seq
"""
# The agents are looked up one after the other: an agent may have a million rows.
_ADDRESSEES = """
SELECT t.id, a.agent, (
    SELECT count(*) FROM (
        (SELECT 1 FROM addressed WHERE thread_id = t.id AND agent = a.agent AND wakes
        AND seq < t.first_seq LIMIT %(rows)s)
        UNION ALL
        (SELECT 1 FROM addressed WHERE thread_id = t.id AND agent = a.agent AND NOT wakes
        AND seq < t.first_seq LIMIT %(rows)s)
        LIMIT %(rows)s
    ) AS r
) FROM unnest(%(threads)s, %(agents)s) AS n (thread, agent)
CROSS JOIN LATERAL (SELECT id, first_seq FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    WITH RECURSIVE each AS (
        (SELECT agent FROM addressed WHERE thread_id = t.id AND agent >= n.agent
        ORDER BY agent LIMIT 1)
        UNION ALL
        SELECT (
            SELECT agent FROM addressed WHERE thread_id = t.id AND agent > e.agent
            ORDER BY agent LIMIT 1
        ) FROM each AS e WHERE e.agent IS NOT NULL
    ) SELECT agent FROM each WHERE agent IS NOT NULL LIMIT %(most)s
) AS a ORDER BY t.id, a.agent
"""
# Of quiet, the newest row is kept, with the number that the next ones go by.
_REMOVE = (
    """
    DELETE FROM message AS m USING unnest(%(threads)s, %(lows)s, %(uptos)s) AS n (id, low, upto)
    WHERE m.thread_id = n.id AND m.seq BETWEEN n.low AND n.upto
    """,
    """
    DELETE FROM entry AS e USING unnest(%(threads)s, %(lows)s, %(uptos)s) AS n (id, low, upto)
    WHERE e.thread_id = n.id AND e.seq BETWEEN n.low AND n.upto
    """,
    """
    DELETE FROM quiet AS q USING unnest(%(threads)s, %(uptos)s) AS n (id, upto)
    WHERE q.thread_id = n.id AND q.seq < (
        SELECT seq FROM quiet WHERE thread_id = n.id AND seq <= n.upto ORDER BY seq DESC LIMIT 1
    )
    """,
    """
    DELETE FROM asked AS a USING unnest(%(threads)s, %(uptos)s) AS n (id, upto)
    WHERE a.thread_id = n.id AND a.seq <= n.upto - %(listed)s AND a.state <> 1
    """,
    """
    DELETE FROM request AS r USING unnest(%(requested)s, %(senders)s, %(request_ids)s, %(seqs)s)
        AS n (thread_id, sender, request_id, upto)
    WHERE r.thread_id = n.thread_id AND r.sender = n.sender AND r.request_id = n.request_id
    AND r.seq <= n.upto
    """,
    """
    UPDATE thread AS t SET first_seq = n.upto + 1,
        active_time = CASE WHEN n.upto = last_seq THEN last_time ELSE active_time END
    FROM unnest(%(threads)s, %(uptos)s) AS n (id, upto) WHERE t.id = n.id
    """,
)
_FORGET = """
DELETE FROM addressed AS a
USING unnest(%(threads)s, %(agents)s, %(wakes)s, %(firsts)s)
    AS n (thread_id, agent, wakes, first_seq)
WHERE a.thread_id = n.thread_id AND a.agent = n.agent AND a.wakes = (n.wakes = 1)
AND a.seq < least(n.first_seq, (
    SELECT seq FROM addressed WHERE thread_id = n.thread_id AND agent = n.agent
    AND wakes = (n.wakes = 1) ORDER BY seq OFFSET %(rows)s LIMIT 1
))
"""


def _kept(which: str) -> str:
    return f"""
SELECT t.id, t.name, t.epoch, t.first_seq, t.last_seq, coalesce((
    SELECT time FROM message WHERE thread_id = t.id AND seq = t.first_seq
), 0), CASE WHEN t.retained THEN t.body END
FROM thread AS t WHERE t.id > %(after)s{which} ORDER BY t.id LIMIT %(limit)s
"""  # noqa: S608


_KEPT = {True: _kept(""), False: _kept(" AND t.retained")}
_SIZES = """
SELECT max(seq), sum(octet_length(body))::bigint FROM (
    SELECT seq, body FROM message WHERE thread_id = %(thread)s AND seq > %(after)s
    ORDER BY seq LIMIT %(limit)s
) AS m
"""


def fronts(needs: Needs) -> Statement:
    """Returns the statement that reads the oldest entries of threads, for `add_fronts`."""
    found = texts(needs.fronts)
    return _FRONTS, {"fronts": found, "rows": COMPACT_ROWS, "bytes": COMPACT_BYTES}


def add_fronts(facts: Facts, rows: Iterable[Row]) -> None:
    """Add the oldest entries of threads to the facts."""
    found: dict[int, list[FrontRow]] = {}
    for thread_id, seq, time, sender, body in rows:
        row = FrontRow(seq, time, len(body), sender, bodies.request_id_of(body))
        found.setdefault(thread_id, []).append(row)
    facts.fronts |= found


def addressees(needs: Needs) -> Statement:
    """Returns the statement that reads which agents entries address, for `add_addressees`."""
    found = without_nul(needs.addressees)
    return _ADDRESSEES, {
        "threads": Texts(thread for thread, _ in found),
        "agents": Texts(agent for _, agent in found),
        "rows": FORGET_ROWS,
        "most": FORGET_AGENTS + 1,
    }


def add_addressees(facts: Facts, rows: Iterable[Row]) -> None:
    """Add the agents that entries address to the facts."""
    found: dict[int, list[tuple[str, int]]] = {}
    for thread_id, agent, removed in rows:
        found.setdefault(thread_id, []).append((agent, removed))
    for thread_id, agents in found.items():
        facts.addressees[thread_id] = forgettable(agents)


def writes(changes: Changes) -> Iterable[Statement]:
    """Yields the statements that remove entries, and what belongs to them."""
    if changes.removals:
        removals = sorted(changes.removals.items())
        requests = [
            (thread_id, row.sender, row.request_id, removal.upto)
            for thread_id, removal in removals
            for row in removal.rows
            if row.request_id
        ]
        values = {
            "threads": Ints(thread_id for thread_id, _ in removals),
            "lows": Ints(removal.rows[0].seq for _, removal in removals),
            "uptos": Ints(removal.upto for _, removal in removals),
            "listed": store.LISTED_REQUESTS,
            "requested": Ints(thread_id for thread_id, _, _, _ in requests),
            "senders": Texts(sender for _, sender, _, _ in requests),
            "request_ids": Texts(request_id for _, _, request_id, _ in requests),
            "seqs": Ints(upto for _, _, _, upto in requests),
        }
        yield from ((statement, values) for statement in _REMOVE)
    if changes.forgotten:
        rows = [(*each[:2], wakes, each[2]) for each in changes.forgotten for wakes in (0, 1)]
        threads, agents, awake, firsts = zip(*rows, strict=True)
        yield (
            _FORGET,
            {
                "threads": Ints(threads),
                "agents": Texts(agents),
                "wakes": Ints(awake),
                "firsts": Ints(firsts),
                "rows": FORGET_ROWS,
            },
        )


async def kept(db: Connection, after: int, limit: int, every: bool) -> list[Kept]:
    """Returns what threads keep, as Store.kept does."""
    (rows,) = await db.run((_KEPT[every], {"after": after, "limit": limit}))
    return [
        Kept._make([*row, None if body is None else bodies.retention_of(body)])
        for *row, body in rows
    ]


async def sizes(db: Connection, thread_id: int, after: int, limit: int) -> tuple[int, int]:
    """Returns the size of some entries of a thread, as Store.sizes does."""
    asked = {"thread": thread_id, "after": after, "limit": limit}
    (((last, size),),) = await db.run((_SIZES, asked))
    return last or after, size or 0
