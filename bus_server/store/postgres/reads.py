"""Read queries. Each is one round trip on a connection."""

import itertools
from collections.abc import Iterable, Sequence

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store import bodies
from bus_server.store.postgres.arrays import Ints, texts
from bus_server.store.postgres.connection import Connection, Row, Statement
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState

#: Maximum number of similar names that are returned, and of names for which they are looked up.
MAX_SIMILAR, LOOKED_AT = 5, 20
#: Maximum number of rows of a thread that one statement of `read` looks at: it looks at all of
#: them, even if the first ones have enough bytes.
CHUNK = 1_000

#: The columns of thread t that `head` reads, after its name.
HEAD = "t.name, t.id, t.epoch, t.last_seq, t.state, t.sync_mode, t.first_seq"
#: The columns of thread t that `thread` reads.
THREAD = f"{HEAD}, t.last_time, t.body"
#: SQL for the names that differ from n.name only by case. C folds only ASCII, which suffices for
#: names.
SIMILAR = 'SELECT name FROM thread WHERE lower(name) = lower(n.name COLLATE "C") AND name <> n.name'
#: SQL for the presence (threadbus.v1.Presence) that follows from row p of presence at `now`, in
#: microseconds on the store's clock. Open waits are not known.
STATE = (
    "CASE WHEN p.agent IS NULL THEN 0 WHEN p.reported = 6 THEN 6"
    " WHEN p.reported > 0 AND p.state_time >= p.work_time AND p.lease_end_time > %(now)s"
    " THEN p.reported"
    " WHEN p.working_end_time > %(now)s"
    " AND (p.lease_end_time > %(now)s OR NOT p.sends_heartbeats) THEN 2"
    " WHEN p.lease_end_time <= %(now)s THEN 5 ELSE 3 END"
)

_HEADS = f"SELECT {HEAD} FROM thread AS t WHERE t.name = ANY (%(names)s)"  # noqa: S608
_PARTICIPATIONS = f"""
SELECT {HEAD} FROM thread AS t CROSS JOIN LATERAL (
    SELECT 1 FROM participant WHERE thread_id = t.id AND agent = %(agent)s LIMIT 1
) AS p WHERE t.name = ANY (%(names)s)
"""  # noqa: S608
_SIMILAR = f"""
SELECT s.name FROM unnest(%(names)s) WITH ORDINALITY AS n (name, place)
CROSS JOIN LATERAL ({SIMILAR} ORDER BY name LIMIT {MAX_SIMILAR}) AS s ORDER BY n.place, s.name
"""  # noqa: S608
_THREADS = f"SELECT {THREAD} FROM thread AS t WHERE t.name = ANY (%(names)s)"  # noqa: S608


def _rows(order: str) -> str:
    """Returns SQL for rows of thread t, in an order of their seqs, as far as their bytes allow."""
    return f"""
    SELECT seq, sender, body, (
        SELECT edit_seq FROM entry WHERE thread_id = t.id AND seq = m.seq
    ) AS edit_seq
    FROM (
        SELECT seq, sender, body, row_number() OVER w AS place,
            sum(octet_length(body)) OVER w AS size
        FROM message WHERE thread_id = t.id AND seq > %(after)s AND seq < %(before)s
        WINDOW w AS (ORDER BY seq {order}) ORDER BY seq {order} LIMIT %(limit)s
    ) AS m WHERE place <= %(always)s OR size <= %(max_bytes)s ORDER BY seq {order}
    """  # noqa: S608


_READ = f"""
SELECT m.sender, m.body, m.edit_seq FROM thread AS t
CROSS JOIN LATERAL ({_rows("ASC")}) AS m WHERE t.id = %(thread)s AND t.first_seq <= %(after)s + 1
ORDER BY m.seq
"""  # noqa: S608
_EXCERPT = {
    newest: f"""
SELECT {HEAD}, m.sender, m.body, m.edit_seq FROM thread AS t
LEFT JOIN LATERAL ({_rows(order)}) AS m ON true WHERE t.name = %(name)s ORDER BY m.seq
"""  # noqa: S608
    for newest, order in ((False, "ASC"), (True, "DESC"))
}
_SENDERS = """
SELECT m.seq, m.sender FROM unnest(%(seqs)s) AS n (seq) CROSS JOIN LATERAL (
    SELECT seq, sender FROM message WHERE thread_id = %(thread)s AND seq = n.seq LIMIT 1
) AS m
"""
_AGENT = (
    f"SELECT a.name, a.kind, a.body, {STATE}, p.status_text, coalesce(p.last_seen_time, 0)"  # noqa: S608
    " FROM agent AS a LEFT JOIN LATERAL (SELECT * FROM presence WHERE agent = a.name LIMIT 1)"
    " AS p ON true WHERE a.unregister_time = 0"
)
_AGENTS = f"{_AGENT} AND a.name = ANY (%(names)s)"
_LIST_AGENTS = f"{_AGENT} AND a.name > %(after)s ORDER BY a.name LIMIT %(limit)s"


async def heads(db: Connection, names: Sequence[str]) -> dict[str, store.Head]:
    """Returns the heads of threads by name; those that do not exist are left out."""
    (rows,) = await db.run((_HEADS, {"names": texts(names)}))
    return {name: head(*columns) for name, *columns in rows}


async def participations(db: Connection, agent: str, names: Sequence[str]) -> dict[str, store.Head]:
    """Returns the heads of those threads of which an agent is a participant, by name."""
    if "\0" in agent:
        return {}
    (rows,) = await db.run((_PARTICIPATIONS, {"names": texts(names), "agent": agent}))
    return {name: head(*columns) for name, *columns in rows}


def head(thread_id: int, epoch: str, seq: int, state: int, mode: int, first_seq: int) -> store.Head:
    """Returns a head. Takes the columns of HEAD after the name."""
    return store.Head(
        thread_id, epoch, seq, ThreadState.ValueType(state), SyncMode.ValueType(mode), first_seq
    )


async def similar(db: Connection, names: Iterable[str]) -> list[str]:
    """Returns at most MAX_SIMILAR names of threads that differ from one of `names` only by case.

    Only the first LOOKED_AT names are looked up.
    """
    (rows,) = await db.run((_SIMILAR, {"names": texts(itertools.islice(names, LOOKED_AT))}))
    return list(dict.fromkeys(name for (name,) in rows))[:MAX_SIMILAR]


async def not_found(db: Connection, name: str) -> ThreadNotFound:
    """Returns the error for a thread that does not exist."""
    return ThreadNotFound([name], await similar(db, [name]))


async def read(
    db: Connection, thread_id: int, after: int, upto: int, max_bytes: int
) -> list[store.Row]:
    """Returns the rows of a thread with after < seq <= upto, as Store.read does.

    Takes a further round trip after each CHUNK rows.
    """
    found: list[store.Row] = []
    while True:
        bounds = {"after": after, "before": upto + 1, "limit": CHUNK, "max_bytes": max_bytes}
        asked = bounds | {"thread": thread_id, "always": 0 if found else 1}
        (rows,) = await db.run((_READ, asked))
        found += map(message, rows)
        if len(rows) < CHUNK:
            return found
        after += CHUNK
        max_bytes -= sum(len(body) for _, body, _ in rows)


def message(row: Row) -> store.Row:
    """Returns a stored message. `row`: its sender, body and edit_seq."""
    sender, body, edit_seq = row
    return sender, bodies.message_of(body, edit_seq)


def excerpt_statement(
    name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
) -> Statement:
    """Returns the statement whose rows `excerpt_of` reads."""
    return _EXCERPT[newest], {
        "name": name,
        "after": min(after, store.MAX_SEQ),
        "before": min(before, store.MAX_SEQ + 1) or store.MAX_SEQ + 1,
        "limit": limit,
        "always": 1,
        "max_bytes": max_bytes,
    }


def excerpt_of(rows: Sequence[Row], after: int, before: int, newest: bool) -> store.Excerpt:
    """Returns an excerpt. `rows`: those of its statement, at least one."""
    end = head(*rows[0][1:7])
    run = [message(row[7:]) for row in rows if row[7] is not None]
    last = min(before - 1, end.seq) if before else end.seq
    first = max(after + 1, end.first_seq)
    return store.Excerpt(end, last - len(run) + 1 if newest else first, run)


async def excerpt(
    db: Connection,
    name: str,
    after: int,
    before: int,
    limit: int,
    max_bytes: int,
    newest: bool,
) -> store.Excerpt:
    """Returns what Store.excerpt does. Raises ThreadNotFound."""
    if "\0" in name:
        raise ThreadNotFound([name])
    (rows,) = await db.run(excerpt_statement(name, after, before, limit, max_bytes, newest))
    if not rows:
        raise await not_found(db, name)
    return excerpt_of(rows, after, before, newest)


async def senders(db: Connection, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
    """Returns the senders of a thread's messages, by seq; missing messages are left out."""
    possible = Ints(seq for seq in seqs if seq <= store.MAX_SEQ)
    (rows,) = await db.run((_SENDERS, {"thread": thread_id, "seqs": possible}))
    return dict(rows)


async def threads(db: Connection, names: Sequence[str]) -> list[Thread]:
    """Returns the threads with these names, in any order; missing ones are left out."""
    (rows,) = await db.run(threads_statement(names))
    return [thread(row) for row in rows]


def threads_statement(names: Iterable[str]) -> Statement:
    """Returns the statement whose rows `thread` reads."""
    return _THREADS, {"names": texts(names)}


def thread(row: Row) -> Thread:
    """Returns a thread. `row`: the columns of THREAD."""
    name, _, epoch, last_seq, state, mode, first_seq, last_time, body = row
    return bodies.thread_of(
        body,
        name=name,
        epoch=epoch,
        head_seq=last_seq,
        state=state,
        sync_mode=mode,
        update_time=last_time,
        first_seq=first_seq,
    )


async def agent(db: Connection, name: str, now: int) -> Agent | None:
    """Returns a registered agent; None if there is none. `now`: on the store's clock."""
    (rows,) = await db.run(agents_statement([name], now))
    return agent_of(rows[0]) if rows else None


def agents_statement(names: Iterable[str], now: int) -> Statement:
    """Returns the statement whose rows `agent_of` reads. `now`: on the store's clock."""
    return _AGENTS, {"names": texts(names), "now": now}


async def list_agents(db: Connection, limit: int, after: str, now: int) -> list[Agent]:
    """Returns up to `limit` registered agents with names after `after`, sorted by name.

    `now`: on the store's clock.
    """
    before_nul = after.partition("\0")[0]  # no name is between the two
    asked = {"after": before_nul, "limit": limit, "now": now}
    (rows,) = await db.run((_LIST_AGENTS, asked))
    return [agent_of(row) for row in rows]


def agent_of(row: Row) -> Agent:
    """Returns an agent. `row`: the columns of its statement."""
    name, kind, body, state, text, last_seen_time = row
    return bodies.agent_of(
        body,
        name=name,
        kind=kind,
        presence=state,
        status_text=(text or b"").decode(),
        last_seen_time=last_seen_time,
    )
