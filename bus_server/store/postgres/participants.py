"""Reads the participants of threads with their positions, and the stored presence of agents."""

from collections.abc import Iterable, Mapping, Sequence

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store.postgres import reads
from bus_server.store.postgres.arrays import Ints, Texts, texts
from bus_server.store.postgres.connection import Connection, Row, Statement
from threadbus.v1.agent_pb2 import AgentKind, Participant, Presence
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message

_PARTICIPANTS = f"""
WITH t AS MATERIALIZED (SELECT id FROM thread WHERE name = %(name)s)
SELECT n.name, coalesce(a.kind, 0), {reads.STATE}, coalesce(m.delivered_seq, 0),
    greatest(coalesce(m.read_seq, 0), 0), coalesce(m.passed_over, 0), coalesce(m.join_time, 0)
FROM (
    SELECT name, place FROM unnest(%(first)s) WITH ORDINALITY AS f (name, place)
    UNION ALL SELECT agent, 1000000 FROM (
        SELECT agent FROM participant WHERE thread_id = (SELECT id FROM t)
        AND agent > %(after)s AND agent <> ALL (%(first)s) ORDER BY agent LIMIT %(limit)s
    ) AS r
) AS n (name, place)
LEFT JOIN LATERAL (
    SELECT * FROM participant WHERE thread_id = (SELECT id FROM t) AND agent = n.name LIMIT 1
) AS m ON true
LEFT JOIN LATERAL (
    SELECT kind FROM agent WHERE name = n.name AND unregister_time = 0 LIMIT 1
) AS a ON true
LEFT JOIN LATERAL (SELECT * FROM presence WHERE agent = n.name LIMIT 1) AS p ON true
ORDER BY n.place, n.name COLLATE "C" LIMIT %(limit)s
"""  # noqa: S608
_POSITIONS = """
SELECT t.*, greatest(m.read_seq, 0) AS read_seq, greatest(m.read_seq, t.first_seq - 1) AS gone
FROM participant AS m
CROSS JOIN LATERAL (SELECT * FROM thread WHERE id = m.thread_id LIMIT 1) AS t
WHERE m.agent = %(agent)s
"""
_POSITIONS_READ = """
SELECT t.*, greatest(m.read_seq, n.read_seq, 0) AS read_seq,
    greatest(m.read_seq, n.read_seq, t.first_seq - 1) AS gone
FROM unnest(%(threads)s, %(read)s) AS n (thread, read_seq)
CROSS JOIN LATERAL (SELECT * FROM thread WHERE name = n.thread LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT read_seq FROM participant WHERE thread_id = t.id AND agent = %(agent)s LIMIT 1
) AS m
"""


def _unread(positions: str) -> str:
    """Returns SQL for the unread threads among those of `positions`.

    `gone` is up to where the agent has read a thread, or where its entries are not kept any more.
    """
    addressed = """
SELECT 1 FROM addressed WHERE thread_id = t.id AND agent = %(agent)s AND wakes AND seq > t.gone
"""
    return f"""
SELECT t.name, t.last_seq, t.read_seq, t.epoch, (
    SELECT count(*) FROM ({addressed} LIMIT {store.MAX_ADDRESSED_COUNT}) AS a
), (
    SELECT count(*) FROM (
        SELECT 1 FROM asked WHERE agent = %(agent)s AND thread_id = t.id AND state = 1
        LIMIT {store.MAX_ADDRESSED_COUNT}
    ) AS r
) FROM ({positions}) AS t
WHERE t.last_seq > t.gone AND (t.last_seq - t.gone > coalesce((
    SELECT number FROM quiet WHERE thread_id = t.id ORDER BY seq DESC LIMIT 1
), 0) - coalesce((
    SELECT number FROM quiet WHERE thread_id = t.id AND seq <= t.gone ORDER BY seq DESC LIMIT 1
), 0) OR EXISTS ({addressed}))
AND (cardinality(%(prefixes)s) = 0 OR t.name ^@ ANY (%(prefixes)s))
ORDER BY t.last_time DESC, t.id DESC LIMIT %(limit)s
"""  # noqa: S608


_UNREAD, _UNREAD_AFTER = _unread(_POSITIONS), _unread(_POSITIONS_READ)
_ADDRESSED = """
SELECT a.seq FROM thread AS t LEFT JOIN LATERAL (
    (SELECT seq FROM addressed WHERE thread_id = %(thread)s AND agent = %(agent)s AND NOT wakes
    AND seq > %(after)s AND seq <= %(upto)s ORDER BY seq LIMIT %(limit)s)
    UNION ALL
    (SELECT seq FROM addressed WHERE thread_id = %(thread)s AND agent = %(agent)s AND wakes
    AND seq > %(after)s AND seq <= %(upto)s ORDER BY seq LIMIT %(limit)s)
) AS a ON true WHERE t.id = %(thread)s AND t.first_seq <= %(after)s + 1
ORDER BY a.seq LIMIT %(limit)s
"""
_PRESENCE = """
SELECT agent, last_seen_time, lease_end_time, state_time, reported,
    coalesce(status_text, ''), work_time, working_end_time, sends_heartbeats FROM presence
"""
_PRESENCE_SINCE = f"{_PRESENCE} WHERE greatest(last_seen_time, state_time, work_time) > %(since)s"
_PRESENCE_OF = f"{_PRESENCE} WHERE agent = ANY (%(agents)s)"


async def participants(
    db: Connection,
    name: str,
    *,
    first: Sequence[str] = (),
    after: str = "",
    limit: int,
    now: int,
) -> tuple[store.Head, list[Participant]]:
    """Returns a thread's head and participants, as Store.participants does.

    Agents whose leases have ended at `now`, in microseconds on the store's clock, are LAPSED.
    Raises ThreadNotFound.
    """
    if "\0" in name:
        raise ThreadNotFound([name])
    threads, rows = await db.run(
        reads.threads_statement([name]), _participants(name, first, after, limit, now)
    )
    if not threads:
        raise await reads.not_found(db, name)
    return reads.head(*threads[0][1:7]), [_participant(row) for row in rows]


def _participants(name: str, first: Sequence[str], after: str, limit: int, now: int) -> Statement:
    return _PARTICIPANTS, {
        "name": name,
        "first": texts(first),
        "after": after.partition("\0")[0],  # no name is between the two
        "limit": limit,
        "now": now,
    }


def _participant(row: Row) -> Participant:
    name, kind, state, delivered_seq, read_seq, passed_over, join_time = row
    found = Participant(
        agent=name,
        kind=AgentKind.ValueType(kind),
        presence=Presence.ValueType(state),
        delivered_seq=delivered_seq,
        read_seq=read_seq,
        passed_over=passed_over,
    )
    if join_time:
        found.join_time.FromMicroseconds(join_time)
    return found


async def entrance(
    db: Connection, join: store.JoinThread, joined: store.Joined, now: int
) -> store.Entrance | None:
    """Returns the rest of a JoinThread response, as Store.entrance does.

    `now` is as in `participants`.
    """
    name, before, limit = join.thread.name, joined.after_seq + 1, join.context_limit
    own = [] if join.agent is None else [join.agent]  # the caller is always listed
    _, threads, present, context, _ = await db.run(
        ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", {}),  # one snapshot
        reads.threads_statement([name]),
        _participants(name, own, "", join.participant_limit, now),
        reads.excerpt_statement(name, 0, before, limit, join.context_bytes, newest=True),
        ("COMMIT", {}),
    )
    if not threads or threads[0][1] != joined.thread_id:
        return None
    found = sorted(map(_participant, present), key=lambda participant: participant.agent)
    newest = reads.excerpt_of(context, 0, before, newest=True)
    messages = [Message.FromString(body) for _, body in newest.rows]
    return store.Entrance(reads.thread(threads[0]), messages, found)


async def unread(
    db: Connection,
    agent: str,
    limit: int,
    prefixes: Sequence[str] = (),
    read: Mapping[str, int] | None = None,
) -> list[tuple[ThreadUnread, str]]:
    """Returns threads in which an agent has unread entries, as Store.unread does."""
    if "\0" in agent:
        return []
    asked = {"agent": agent, "limit": limit, "prefixes": texts(prefixes)}
    if read is None:
        (rows,) = await db.run((_UNREAD, asked))
    else:
        given = {"threads": Texts(read), "read": Ints(read.values())}
        (rows,) = await db.run((_UNREAD_AFTER, asked | given))
    return [
        (
            ThreadUnread(
                thread=name,
                head_seq=head,
                read_seq=read_seq,
                addressed_count=addressed_count,
                open_request_count=open_requests,
            ),
            epoch,
        )
        for name, head, read_seq, epoch, addressed_count, open_requests in rows
    ]


async def addressed(
    db: Connection, agent: str, thread_id: int, after: int, upto: int, limit: int
) -> list[int] | None:
    """Returns the seqs of the entries that address an agent, as Store.addressed does."""
    if "\0" in agent:
        return []
    bounds = {"after": after, "upto": upto, "limit": limit}
    (rows,) = await db.run((_ADDRESSED, {"thread": thread_id, "agent": agent} | bounds))
    return [seq for (seq,) in rows if seq is not None] if rows else None


async def presence_rows(db: Connection, since: int) -> list[store.PresenceRow]:
    """Returns the presence rows with evidence after `since`, on the store's clock."""
    (rows,) = await db.run((_PRESENCE_SINCE, {"since": since}))
    return [to_presence(row) for row in rows]


def presence_of(agents: Iterable[str]) -> Statement:
    """Returns the statement that reads the presence of agents, for `to_presence`."""
    return _PRESENCE_OF, {"agents": texts(agents)}


async def read_presence_of(db: Connection, agents: Iterable[str]) -> list[store.PresenceRow]:
    """Returns the presence rows of agents, as Store.presence_of does."""
    (rows,) = await db.run(presence_of(agents))
    return [to_presence(row) for row in rows]


def to_presence(row: Row) -> store.PresenceRow:
    """Returns a presence row from its columns."""
    agent, seen, lease_end, at, reported, text, work, end, beats = row
    return store.PresenceRow(agent, seen, lease_end, at, reported, text.decode(), work, end, beats)
