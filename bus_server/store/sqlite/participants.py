"""Participants of threads with their positions, and the stored presence of agents."""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.transaction import Transaction
from threadbus.v1.agent_pb2 import AgentKind, Participant, Presence
from threadbus.v1.bus_service_pb2 import ThreadUnread

#: The columns that _participant reads, for the names n in the thread :thread.
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

    `now` is on the store's clock: agents whose leases ended before are LAPSED.
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


def unread(db: sqlite3.Connection, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
    """Returns threads in which an agent has unread entries, with their epochs, newest first."""
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
    """Returns the stored presence of agents that were seen after a time of the store's clock."""
    rows = db.execute(
        "SELECT agent, state, status_text, last_seen_time, lease_end_time FROM presence"
        " WHERE last_seen_time > ?",
        (since,),
    )
    return [
        store.PresenceRow(
            agent=agent,
            state=Presence.ValueType(state),
            status_text=text,
            last_seen_time=last_seen_time,
            lease_end_time=lease_end_time,
        )
        for agent, state, text, last_seen_time, lease_end_time in rows
    ]


def leave_thread(tx: Transaction, command: store.LeaveThread) -> None:
    tx.db.execute(
        "DELETE FROM participant WHERE thread_id = ? AND agent = ?",
        (tx.head(command.name).thread_id, command.agent),
    )


def checkpoint(tx: Transaction, command: store.Checkpoint) -> None:
    """Store presence and positions, with at most two statements for any number of rows."""
    if command.presence:
        _save_presence(tx, command.presence)
    if command.positions:
        _save_positions(tx, command.positions)


def _save_presence(tx: Transaction, found: Sequence[store.PresenceRow]) -> None:
    # Not with json_each, which would truncate a text at a NUL.
    tx.db.executemany(
        "INSERT INTO presence (agent, state, status_text, last_seen_time, lease_end_time)"
        " VALUES (:agent, :state, coalesce(:text,"
        " (SELECT status_text FROM presence WHERE agent = :agent), ''), :seen, :lease)"
        " ON CONFLICT DO UPDATE SET state = excluded.state, status_text = excluded.status_text,"
        " last_seen_time = excluded.last_seen_time, lease_end_time = excluded.lease_end_time"
        " WHERE excluded.last_seen_time >= last_seen_time OR last_seen_time > :now",
        [
            {
                "agent": row.agent,
                "state": row.state,
                "text": row.status_text,
                "seen": row.last_seen_time,
                "lease": row.lease_end_time,
                "now": tx.store_now,
            }
            for row in found
        ],
    )


def _save_positions(tx: Transaction, positions: Mapping[tuple[str, str], store.Position]) -> None:
    rows = [(*key, *position) for key, position in positions.items()]
    tx.db.execute(
        "WITH new AS MATERIALIZED (SELECT t.id AS thread_id, n.value ->> 0 AS agent,"
        " n.value ->> 3 AS delivered_seq, n.value ->> 4 AS read_seq FROM json_each(?) AS n"
        " JOIN thread AS t ON t.name = n.value ->> 1 AND t.epoch = n.value ->> 2)"
        " UPDATE participant SET delivered_seq = max(participant.delivered_seq, new.delivered_seq),"
        " read_seq = max(participant.read_seq, new.read_seq) FROM new"
        " WHERE participant.thread_id = new.thread_id AND participant.agent = new.agent",
        (json.dumps(rows),),
    )
