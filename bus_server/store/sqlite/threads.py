"""Creates, joins, changes and deletes threads."""

import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from bus_server import store
from bus_server.errors import ThreadExists, ThreadNotFound
from bus_server.store.sqlite import participants, reads
from bus_server.store.sqlite.transaction import Transaction
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, PRIORITY_NORMAL, Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    THREAD_STATE_OPEN,
    SyncMode,
    Thread,
    ThreadState,
)

#: Maximum rows and bytes of deleted threads that one Purge deletes: a few milliseconds of the
#: writer.
PURGE_ROWS = 500
PURGE_BYTES = 1024 * 1024


def create_thread(tx: Transaction, command: store.CreateThread) -> Thread:
    thread = command.thread
    try:
        tx.head(thread.name)
    except ThreadNotFound:
        _create(tx, thread)
        return reads.threads(tx.db, [thread.name])[0]
    raise ThreadExists(thread.name)


def _create(tx: Transaction, thread: Thread) -> None:
    created = Thread(create_time=tx.create_time)
    created.MergeFrom(thread)
    tx.db.execute(
        "INSERT INTO thread (name, epoch, state, sync_mode, active_time, body)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            created.name,
            secrets.token_hex(8),
            THREAD_STATE_OPEN,
            created.sync_mode or SYNC_MODE_OFF,
            tx.order,
            reads.thread_body(created),
        ),
    )


def join_thread(tx: Transaction, command: store.JoinThread) -> store.Joined:
    name, created = command.thread.name, False
    similar: Sequence[str] = ()
    try:
        head = tx.head(name)
    except ThreadNotFound as missing:
        if not command.create:
            raise
        _create(tx, command.thread)
        head, created, similar = tx.head(name), True, missing.similar
    after = 0 if command.from_first else head.seq
    if command.agent is not None:
        row = tx.db.execute(
            "SELECT read_seq FROM participant WHERE thread_id = ? AND agent = ?",
            (head.thread_id, command.agent),
        ).fetchone()
        if row is not None:
            after = row[0]
        else:
            tx.add_participant(head.thread_id, command.agent, after)
    return store.Joined(head.thread_id, created, after, similar)


def entrance(
    db: sqlite3.Connection, join: store.JoinThread, joined: store.Joined, now: int = 0
) -> store.Entrance | None:
    """Returns the rest of a JoinThread response, or None if the thread has been deleted since."""
    name, context = join.thread.name, []
    with reads.snapshot(db):
        head = reads.head(db, name)
        if head is None or head.thread_id != joined.thread_id:
            return None
        thread = reads.threads(db, [name])[0]
        own = [] if join.agent is None else [join.agent]  # the caller is always listed
        _, present = participants.participants(
            db, name, first=own, limit=join.participant_limit, now=now
        )
        if join.context_limit:
            before = joined.after_seq + 1
            limit, size = join.context_limit, join.context_bytes
            newest = reads.excerpt(db, name, 0, before, limit, size, newest=True)
            context = [Message.FromString(body) for _, body in newest.rows]
    present.sort(key=lambda participant: participant.agent)
    return store.Entrance(thread, context, present)


def set_thread_state(tx: Transaction, command: store.SetThreadState) -> Thread:
    head = tx.head(command.name)
    if head.state != command.state:
        state = ThreadState.Name(command.state).removeprefix("THREAD_STATE_").lower()
        _append_entry(tx, command, head._replace(state=command.state), f"state to {state}")
        tx.db.execute("UPDATE thread SET state = ? WHERE id = ?", (command.state, head.thread_id))
    return reads.threads(tx.db, [command.name])[0]


def update_thread(tx: Transaction, command: store.UpdateThread) -> Thread:
    head = tx.head(command.name)
    thread = reads.threads(tx.db, [command.name])[0]
    before = Thread()
    before.CopyFrom(thread)
    FieldMask(paths=command.fields).MergeMessage(
        command.settings, thread, replace_repeated_field=True
    )
    changes = [
        f"{field} to {_setting(thread, field) or 'none'}"
        for field in command.fields
        if getattr(thread, field) != getattr(before, field)
    ]
    if changes:
        _append_entry(tx, command, head._replace(sync_mode=thread.sync_mode), " and ".join(changes))
        tx.db.execute(
            "UPDATE thread SET sync_mode = ?, body = ? WHERE id = ?",
            (thread.sync_mode, reads.thread_body(thread), head.thread_id),
        )
    return reads.threads(tx.db, [command.name])[0]


def _setting(thread: Thread, field: str) -> str:
    """Returns the text of a setting for THREAD entries; "" if it is unset."""
    value: Any = getattr(thread, field)
    if field == "labels":
        return ", ".join(f"{key}={value[key]}" for key in sorted(value))
    if field == "sync_mode":
        return SyncMode.Name(value).removeprefix("SYNC_MODE_").lower()
    return f"“{value}”" if value else ""


def _append_entry(
    tx: Transaction,
    command: store.SetThreadState | store.UpdateThread,
    head: store.Head,
    change: str,
) -> None:
    """Append the THREAD entry of a change. `head`: the thread's head after the change."""
    entry = Message()
    entry.CopyFrom(command.entry)
    entry.thread = command.name
    entry.kind = MESSAGE_KIND_THREAD
    entry.priority = PRIORITY_NORMAL
    entry.content = f"{entry.sender} set the thread's {change}"
    tx.append(entry)
    read = store.read_in(command.position, head.epoch)
    tx.raise_read_seq(head.thread_id, entry.sender, entry.seq, read)
    tx.flush()  # the thread is read next, with its head
    tx.set_head(command.name, head._replace(seq=entry.seq))


def delete_thread(tx: Transaction, command: store.DeleteThread) -> None:
    thread_id = tx.head(command.name).thread_id
    tx.db.execute("DELETE FROM thread WHERE id = ?", (thread_id,))
    tx.db.execute("INSERT INTO purge (thread_id) VALUES (?)", (thread_id,))
    tx.record_deletion(command.name)


def purge(tx: Transaction, command: store.Purge) -> bool:
    row = tx.db.execute("SELECT thread_id FROM purge LIMIT 1").fetchone()
    if row is None:
        return False
    (thread_id,) = row
    size, upto = 0, thread_id << 32
    rows = tx.db.execute(
        "SELECT id, length(body) FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (thread_id << 32, thread_id << 32 | store.MAX_SEQ, PURGE_ROWS),
    ).fetchall()
    for upto, length in rows:  # noqa: B007 - its last value counts
        size += length
        if size > PURGE_BYTES:
            break
    bounds = {"thread": thread_id, "low": thread_id << 32, "upto": upto, "rows": PURGE_ROWS}
    if sum(tx.db.execute(clear, bounds).rowcount for clear in _CLEAR) == 0:
        tx.db.execute("DELETE FROM purge WHERE thread_id = ?", (thread_id,))
    return True


_CLEAR = (
    "DELETE FROM message WHERE id BETWEEN :low AND :upto",
    "DELETE FROM entry WHERE id BETWEEN :low AND :upto",
    "DELETE FROM request WHERE (thread_id, sender, request_id) IN"
    " (SELECT thread_id, sender, request_id FROM request WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM participant WHERE (thread_id, agent) IN"
    " (SELECT thread_id, agent FROM participant WHERE thread_id = :thread LIMIT :rows)",
)
