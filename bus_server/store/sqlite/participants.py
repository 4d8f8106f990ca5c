"""Reads the participants of threads with their positions, and the stored presence of agents."""

import json
import sqlite3
from collections.abc import Sequence

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store.sqlite import reads
from threadbus.v1.agent_pb2 import AgentKind, Participant, Presence
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message

#: The columns that _participant reads for each of the table `names`, in the thread :thread.
_PARTICIPANT = (
    f"n.name, coalesce(a.kind, 0), {reads.STATE}, coalesce(m.delivered_seq, 0),"
    " coalesce(m.read_seq, 0), coalesce(m.join_time, 0) FROM names AS n"
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


def _participant(row: tuple[str, int, int, int, int, int]) -> Participant:
    name, kind, state, delivered_seq, read_seq, join_time = row
    found = Participant(
        agent=name,
        kind=AgentKind.ValueType(kind),
        presence=Presence.ValueType(state),
        delivered_seq=delivered_seq,
        read_seq=read_seq,
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


def unread(db: sqlite3.Connection, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
    """Returns up to `limit` threads in which an agent has unread entries, with their epochs.

    Most recently active first.
    """
    rows = db.execute(
        f"SELECT t.name, {reads.HEAD} AS head, m.read_seq, t.epoch"  # noqa: S608
        " FROM participant AS m JOIN thread AS t ON t.id = m.thread_id"
        " WHERE m.agent = :agent AND head > m.read_seq"
        " ORDER BY (SELECT time FROM message WHERE id = t.id << 32 | head) DESC LIMIT :limit",
        {"agent": agent, "limit": limit},
    )
    return [
        (ThreadUnread(thread=name, head_seq=head, read_seq=read), epoch)
        for name, head, read, epoch in rows
    ]


def presence_rows(db: sqlite3.Connection, since: int) -> list[store.PresenceRow]:
    """Returns the presence rows with evidence after `since`, on the store's clock."""
    rows = db.execute(
        "SELECT agent, last_seen_time, lease_end_time, state_time, reported, status_text,"  # noqa: S608
        f" work_time, working_end_time FROM presence WHERE {reads.EVIDENCE_TIME} > ?",
        (since,),
    )
    return [store.PresenceRow(*row) for row in rows]
