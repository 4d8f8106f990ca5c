"""Reads the participants of threads with their positions, and the stored presence of agents."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store.sqlite import reads
from threadbus.v1.agent_pb2 import AgentKind, Participant, Presence
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message

#: The columns that _participant reads for each of the table `names`, in the thread :thread.
_PARTICIPANT = (
    f"n.name, coalesce(a.kind, 0), {reads.STATE}, coalesce(m.delivered_seq, 0),"
    " max(coalesce(m.read_seq, 0), 0), coalesce(m.passed_over, 0), coalesce(m.join_time, 0)"
    " FROM names AS n"
    " LEFT JOIN participant AS m ON m.thread_id = :thread AND m.agent = n.name"
    " LEFT JOIN agent AS a ON a.name = n.name AND a.unregister_time = 0"
    " LEFT JOIN presence AS p ON p.agent = n.name"
)


def participants(
    db: sqlite3.Connection,
    name: str,
    *,
    first: Sequence[str] = (),
    after: str = "",
    limit: int,
    now: int = 0,
) -> tuple[store.Head, list[Participant]]:
    """Returns a thread's head and participants, as Store.participants does.

    Agents whose leases have ended at `now`, in microseconds on the store's clock, are LAPSED.
    Raises ThreadNotFound.
    """
    head = reads.head(db, name)
    if head is None:
        raise ThreadNotFound([name], reads.similar(db, [name]))
    rows = db.execute(
        "WITH names AS (SELECT value AS name, key AS place FROM json_each(:first)"  # noqa: S608
        " UNION ALL SELECT agent, 1000000 FROM (SELECT agent FROM participant"
        " WHERE thread_id = :thread AND agent > :after"
        " AND agent NOT IN (SELECT value FROM json_each(:first)) ORDER BY agent LIMIT :limit))"
        f" SELECT {_PARTICIPANT} ORDER BY n.place, n.name LIMIT :limit",
        {
            "first": json.dumps(first),
            "thread": head.thread_id,
            "after": after,
            "limit": limit,
            "now": now,
        },
    )
    return head, [_participant(row) for row in rows]


def _participant(row: tuple[str, int, int, int, int, int, int]) -> Participant:
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


def entrance(
    db: sqlite3.Connection, join: store.JoinThread, joined: store.Joined, now: int = 0
) -> store.Entrance | None:
    """Returns the rest of a JoinThread response, as Store.entrance does.

    `now` is as in `participants`.
    """
    name, context = join.thread.name, []
    with reads.snapshot(db):
        head = reads.head(db, name)
        if head is None or head.thread_id != joined.thread_id:
            return None
        thread = reads.threads(db, [name])[0]
        own = [] if join.agent is None else [join.agent]  # the caller is always listed
        _, present = participants(db, name, first=own, limit=join.participant_limit, now=now)
        if join.context_limit:
            before = joined.after_seq + 1
            limit, size = join.context_limit, join.context_bytes
            newest = reads.excerpt(db, name, 0, before, limit, size, newest=True)
            context = [Message.FromString(body) for _, body in newest.rows]
    present.sort(key=lambda participant: participant.agent)
    return store.Entrance(thread, context, present)


#: SQL for the number of quiet entries of thread u, and of those up to `gone`: what the agent has
#: read, or what is not kept any more.
_QUIET = "coalesce((SELECT number FROM quiet WHERE thread_id = u.id ORDER BY seq DESC LIMIT 1), 0)"
_QUIET_READ = (
    "coalesce((SELECT number FROM quiet WHERE thread_id = u.id AND seq <= u.gone"
    " ORDER BY seq DESC LIMIT 1), 0)"
)
#: SQL for the entries of thread u after these that address an agent and wake it.
_ADDRESSED = (
    "SELECT 1 FROM addressed WHERE thread_id = u.id AND agent = :agent AND wakes = 1"
    " AND seq > u.gone"
)
#: SQL for the open requests to an agent in thread u.
_OPEN_REQUESTS = "SELECT 1 FROM asked WHERE agent = :agent AND thread_id = u.id AND state = 1"


def unread(
    db: sqlite3.Connection,
    agent: str,
    limit: int,
    prefixes: Sequence[str] = (),
    read: Mapping[str, int] | None = None,
) -> list[tuple[ThreadUnread, str]]:
    """Returns threads in which an agent has unread entries, as Store.unread does."""
    permitted = (
        " AND EXISTS (SELECT 1 FROM json_each(:prefixes)"
        " WHERE substr(t.name, 1, length(value)) = value)"
        if prefixes
        else ""
    )
    positions = (
        "max(m.read_seq, 0) AS read_seq FROM participant AS m"
        " CROSS JOIN thread AS t ON t.id = m.thread_id"
        if read is None
        else "max(m.read_seq, n.value, 0) AS read_seq FROM json_each(:read) AS n"
        " CROSS JOIN thread AS t ON t.name = n.key"
        " CROSS JOIN participant AS m ON m.thread_id = t.id"
    )
    found = (
        "SELECT *, (SELECT time FROM message WHERE id = u.id << 32 | head) AS time"  # noqa: S608
        " FROM (SELECT *, max(read_seq, first_seq - 1) AS gone"
        f" FROM (SELECT t.id, t.name, t.epoch, t.first_seq, {reads.HEAD} AS head, {positions}"
        f" WHERE m.agent = :agent{permitted})) AS u WHERE head > gone"
        f" AND (head - gone > {_QUIET} - {_QUIET_READ} OR EXISTS ({_ADDRESSED}))"
        " ORDER BY time DESC LIMIT :limit"
    )
    # Only those that are returned are counted.
    rows = db.execute(
        "SELECT name, head, read_seq, epoch,"  # noqa: S608
        f" (SELECT count(*) FROM ({_ADDRESSED} LIMIT {store.MAX_ADDRESSED_COUNT})),"
        f" (SELECT count(*) FROM ({_OPEN_REQUESTS} LIMIT {store.MAX_ADDRESSED_COUNT}))"
        f" FROM ({found}) AS u ORDER BY time DESC",
        {
            "agent": agent,
            "limit": limit,
            "prefixes": json.dumps(prefixes),
            "read": json.dumps(read or {}),
        },
    )
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


def addressed(
    db: sqlite3.Connection, agent: str, thread_id: int, after: int, upto: int, limit: int
) -> list[int] | None:
    """Returns the seqs of the entries that address an agent, as Store.addressed does."""
    thread = db.execute("SELECT first_seq FROM thread WHERE id = ?", (thread_id,)).fetchone()
    if thread is None or thread[0] > after + 1:
        return None
    each = (
        "SELECT seq FROM addressed WHERE thread_id = :thread AND agent = :agent AND wakes = {}"
        " AND seq > :after AND seq <= :upto"
    )
    rows = db.execute(
        f"{each.format(0)} UNION ALL {each.format(1)} ORDER BY seq LIMIT :limit",
        {"thread": thread_id, "agent": agent, "after": after, "upto": upto, "limit": limit},
    )
    return [seq for (seq,) in rows]


_PRESENCE = (
    "SELECT agent, last_seen_time, lease_end_time, state_time, reported, status_text, work_time,"
    " working_end_time, sends_heartbeats FROM presence"
)


def presence_rows(db: sqlite3.Connection, since: int) -> list[store.PresenceRow]:
    """Returns the presence rows with evidence after `since`, on the store's clock."""
    rows = db.execute(f"{_PRESENCE} WHERE {reads.EVIDENCE_TIME} > ?", (since,))
    return [_to_presence(row) for row in rows]


def presence_of(db: sqlite3.Connection, agents: Iterable[str]) -> list[store.PresenceRow]:
    """Returns the presence rows of agents; those that were never seen are left out."""
    query = f"{_PRESENCE} WHERE agent = ?"
    return [_to_presence(row) for agent in agents for row in db.execute(query, (agent,))]


def _to_presence(row: tuple[Any, ...]) -> store.PresenceRow:
    agent, seen, lease_end, at, reported, text, work, end, beats = row
    return store.PresenceRow(agent, seen, lease_end, at, reported, text, work, end, bool(beats))
