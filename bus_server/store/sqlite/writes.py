"""Runs commands: gathers what they need, decides them, and writes what they change."""

import itertools
import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Batch, Changes
from bus_server.store.clock import TOLERANCE
from bus_server.store.decide import decide
from bus_server.store.facts import Request, needs
from bus_server.store.sqlite import activity, asked, compact, leftovers, servers, tokens
from bus_server.store.sqlite.gather import gather
from bus_server.store.sqlite.remembered import Remembered

#: Rows per INSERT if there are many, which takes a third less time: each statement releases the GIL
#: and must acquire it again.
ROWS = 25
_MESSAGE_ROW = "INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)"
_MESSAGE_ROWS = _MESSAGE_ROW + ", (?, ?, ?, ?)" * (ROWS - 1)
_REQUEST_ROW = (
    "INSERT INTO request (thread_id, sender, request_id, seq, post_hash) VALUES (?, ?, ?, ?, ?)"
)
_REQUEST_ROWS = _REQUEST_ROW + ", (?, ?, ?, ?, ?)" * (ROWS - 1)
#: The number of an entry is that of the last one before it, and one more.
_QUIET_ROW = (
    "INSERT INTO quiet (thread_id, seq, number, wakes) VALUES (:thread, :seq, 1 + coalesce("
    "(SELECT number FROM quiet WHERE thread_id = :thread ORDER BY seq DESC LIMIT 1), 0), :wakes)"
)


def _if_newer(time: str, *columns: str) -> str:
    """Returns SQL that sets these columns of presence to new values if `time` is not older."""
    newer = f"excluded.{time} >= {time} OR {time} > :now"
    return ", ".join(
        f"{column} = CASE WHEN {newer} THEN excluded.{column} {_CALLED.get(column, '')}"
        f" ELSE {column} END"
        for column in columns
    )


# See PresenceRow.
_ENDED = "WHEN excluded.state_time = 0 AND reported = 6 AND excluded.last_seen_time > state_time"
_CALLED = {
    "reported": f"{_ENDED} THEN 0",
    "state_time": f"{_ENDED} THEN excluded.last_seen_time",
}
_SAVE_PRESENCE = (
    "INSERT INTO presence (agent, status_text, last_seen_time, lease_end_time, state_time,"  # noqa: S608
    " reported, work_time, working_end_time, sends_heartbeats) SELECT :agent, coalesce(:text,"
    " (SELECT status_text FROM presence WHERE agent = :agent), ''), :seen, :lease, :state_time,"
    " :reported, :work_time, :working_end, :beats"
    " WHERE NOT EXISTS (SELECT 1 FROM agent WHERE name = :agent AND unregister_time > 0)"
    " ON CONFLICT DO UPDATE SET"
    f" {_if_newer('last_seen_time', 'lease_end_time', 'last_seen_time')},"
    f" {_if_newer('state_time', 'status_text', 'reported', 'sends_heartbeats', 'state_time')},"
    f" {_if_newer('work_time', 'working_end_time', 'work_time')}"
)


def run(
    db: sqlite3.Connection,
    commands: Sequence[store.Command[Any]],
    now: int,
    store_now: int | None = None,
    order: int | None = None,
    remembered: Remembered | None = None,
) -> store.Commit:
    """Run commands in order, within the caller's transaction. Returns their Commit.

    Args:
        now: the wall clock's time, in microseconds since the Unix epoch.
        store_now: the same moment on the store's clock; None: equal to `now`.
        order: the same moment as an order time; None: equal to `now`.
        remembered: see Remembered; None: nothing is remembered.
    """
    if remembered is None:
        remembered = Remembered()
    remembered.begin(db)
    facts = gather(db, needs(commands), remembered, now, now if store_now is None else store_now)
    batch = decide(commands, facts)
    _write(db, batch, now if order is None else order, remembered)
    remembered.written(batch)
    return batch.commit


def _write(db: sqlite3.Connection, batch: Batch, order: int, remembered: Remembered) -> None:
    changes, commit, now = batch.changes, batch.commit, batch.facts.now
    _write_threads(db, changes, order)
    _write_entries(db, commit, changes, order)
    if changes.addressed or changes.quiet:
        _write_addressed(db, changes)
    if changes.asked:
        asked.write(db, changes)
    if changes.requests:
        _insert_requests(db, changes.requests)
    _write_participants(db, changes, now)
    if changes.presence:
        _save_presence(db, changes.presence, batch.facts.store_now)
    if changes.positions:
        _save_positions(db, changes.positions)
    _write_agents(db, changes, now)
    if changes.tokens or changes.token_uses:
        tokens.write(db, changes, now)
    if changes.purge:
        leftovers.purge(db)
    if changes.servers or changes.removed_servers:
        servers.write(db, changes, batch.facts.store_now)
    appended = [head.thread_id for head in commit.heads.values()]
    activity.touch(db, appended, order, remembered.active_times)
    if changes.removals or changes.forgotten:
        compact.write(db, changes, remembered)


def _write_threads(db: sqlite3.Connection, changes: Changes, order: int) -> None:
    for thread_id in changes.deleted_threads - changes.created_threads.keys():
        _delete_thread(db, thread_id)
    for thread_id, thread in changes.created_threads.items():
        body = bodies.thread_body(thread)
        db.execute(
            "INSERT INTO thread (id, name, epoch, state, sync_mode, active_time, body, retained)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(thread_id, thread.name, thread.epoch, thread.state, thread.sync_mode),
                *(order, body, thread.HasField("retention")),
            ),
        )
        if thread_id in changes.deleted_threads:
            _delete_thread(db, thread_id)  # before another one of its name is created
    for thread_id, thread in changes.changed_threads.items():
        db.execute(
            "UPDATE thread SET state = ?, sync_mode = ?, body = ?, retained = ? WHERE id = ?",
            (
                *(thread.state, thread.sync_mode, bodies.thread_body(thread)),
                *(thread.HasField("retention"), thread_id),
            ),
        )


def _delete_thread(db: sqlite3.Connection, thread_id: int) -> None:
    db.execute("DELETE FROM thread WHERE id = ?", (thread_id,))
    db.execute("INSERT INTO purge (thread_id) VALUES (?)", (thread_id,))


def _write_entries(
    db: sqlite3.Connection, commit: store.Commit, changes: Changes, order: int
) -> None:
    rows = [
        (commit.heads[name].thread_id << 32 | seq, order, sender, body)
        for name, entries in commit.entries.items()
        for seq, (sender, body) in entries.items()
    ]
    _insert(db, rows, _MESSAGE_ROW, _MESSAGE_ROWS)
    for (thread_id, seq), edit_of in changes.large.items():
        db.execute("INSERT INTO entry VALUES (?, ?, 0)", (thread_id << 32 | seq, edit_of))
    for name, edited in commit.edited.items():
        thread_id = commit.heads[name].thread_id
        db.executemany(
            "INSERT INTO entry VALUES (?, 0, ?)"
            " ON CONFLICT DO UPDATE SET edit_seq = excluded.edit_seq",
            [(thread_id << 32 | seq, edit_seq) for seq, edit_seq in edited.items()],
        )


def _write_addressed(db: sqlite3.Connection, changes: Changes) -> None:
    db.executemany(
        "INSERT INTO addressed (thread_id, agent, wakes, seq) VALUES (?, ?, ?, ?)",
        changes.addressed,
    )
    db.executemany(
        _QUIET_ROW,
        [
            {"thread": thread_id, "seq": seq, "wakes": wakes}
            for (thread_id, seq), wakes in changes.quiet.items()
        ],
    )


def _insert_requests(
    db: sqlite3.Connection, requests: Mapping[tuple[int, str, str], Request]
) -> None:
    rows = [(*key, request.seq, request.post_hash) for key, request in requests.items()]
    _insert(db, rows, _REQUEST_ROW, _REQUEST_ROWS)


def _insert(
    db: sqlite3.Connection, rows: Sequence[tuple[object, ...]], one: str, many: str
) -> None:
    """Insert rows. `one` and `many`: the statements for one row and for ROWS."""
    whole = len(rows) - len(rows) % ROWS
    for at in range(0, whole, ROWS):
        db.execute(many, list(itertools.chain(*rows[at : at + ROWS])))
    db.executemany(one, rows[whole:])


def _write_participants(db: sqlite3.Connection, changes: Changes, now: int) -> None:
    if changes.removed:
        remove = "DELETE FROM participant WHERE thread_id = ? AND agent = ?"
        db.executemany(remove, changes.removed)
    if changes.added:
        db.executemany(
            "INSERT INTO participant (thread_id, agent, read_seq, join_time) VALUES (?, ?, ?, ?)",
            [(*key, read, now) for key, read in changes.added.items()],
        )
    if changes.raised:
        db.executemany(
            "UPDATE participant SET read_seq = ? WHERE thread_id = ? AND agent = ?",
            [(read, *key) for key, read in changes.raised.items()],
        )


def _save_presence(
    db: sqlite3.Connection, found: Collection[store.PresenceRow], store_now: int
) -> None:
    # Not with json_each, which would truncate a text at a NUL.
    db.executemany(
        _SAVE_PRESENCE,
        [
            {
                "agent": row.agent,
                "text": row.status_text,
                "seen": row.last_seen_time,
                "lease": row.lease_end_time,
                "state_time": row.state_time,
                "reported": row.reported,
                "work_time": row.work_time,
                "working_end": row.working_end_time,
                "beats": row.sends_heartbeats,
                "now": store_now + TOLERANCE,
            }
            for row in found
        ],
    )


def _save_positions(
    db: sqlite3.Connection, positions: Mapping[tuple[str, str, str], store.Position]
) -> None:
    rows = [(*key, *position[1:]) for key, position in positions.items()]
    db.execute(
        "WITH new AS MATERIALIZED (SELECT t.id AS thread_id, n.value ->> 0 AS agent,"
        " n.value ->> 3 AS delivered_seq, n.value ->> 4 AS read_seq,"
        " n.value ->> 5 AS passed_over FROM json_each(?) AS n"
        " JOIN thread AS t ON t.name = n.value ->> 1 AND t.epoch = n.value ->> 2)"
        " UPDATE participant SET delivered_seq = max(participant.delivered_seq, new.delivered_seq),"
        " read_seq = max(participant.read_seq, iif(new.read_seq > 0, new.read_seq, -1)),"
        " passed_over = max(participant.passed_over, new.passed_over) FROM new"
        " WHERE participant.thread_id = new.thread_id AND participant.agent = new.agent",
        (json.dumps(rows),),
    )


def _write_agents(db: sqlite3.Connection, changes: Changes, now: int) -> None:
    for agent in changes.registered.values():
        db.execute(
            "INSERT INTO agent (name, kind, unregister_time, body) VALUES (?, ?, 0, ?)",
            (agent.name, agent.kind, bodies.agent_body(agent)),
        )
    for agent in changes.registered_again.values():
        db.execute(
            "UPDATE agent SET kind = ?, unregister_time = 0, body = ? WHERE name = ?",
            (agent.kind, bodies.agent_body(agent), agent.name),
        )
    for agent in changes.changed_agents.values():
        body = bodies.agent_body(agent)
        db.execute("UPDATE agent SET body = ? WHERE name = ?", (body, agent.name))
    for name in changes.unregistered:
        db.execute("UPDATE agent SET unregister_time = ? WHERE name = ?", (now, name))
        for table in ("participant", "presence"):
            db.execute(f"DELETE FROM {table} WHERE agent = ?", (name,))  # noqa: S608
