"""Deletes the rows of deleted threads in small steps, so that posts do not wait for long."""

import sqlite3

from bus_server import store

#: Maximum rows that `purge` deletes from a table, and bytes of messages after which it stops: a few
#: milliseconds of work.
PURGE_ROWS = 500
PURGE_BYTES = 1024 * 1024

_DELETE = (
    "DELETE FROM message WHERE id BETWEEN :low AND :upto",
    "DELETE FROM entry WHERE id BETWEEN :low AND :upto",
    "DELETE FROM request WHERE (thread_id, sender, request_id) IN"
    " (SELECT thread_id, sender, request_id FROM request WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM addressed WHERE (thread_id, agent, wakes, seq) IN"
    " (SELECT thread_id, agent, wakes, seq FROM addressed WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM quiet WHERE (thread_id, seq) IN"
    " (SELECT thread_id, seq FROM quiet WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM asked WHERE (thread_id, seq, agent) IN"
    " (SELECT thread_id, seq, agent FROM asked WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM participant WHERE (thread_id, agent) IN"
    " (SELECT thread_id, agent FROM participant WHERE thread_id = :thread LIMIT :rows)",
)


def exist(db: sqlite3.Connection) -> bool:
    """Returns whether a deleted thread still has rows."""
    return db.execute("SELECT 1 FROM purge LIMIT 1").fetchone() is not None


def purge(db: sqlite3.Connection) -> None:
    """Delete some rows of a deleted thread, in the caller's transaction.

    Does nothing if there is no such thread.
    """
    row = db.execute("SELECT thread_id FROM purge LIMIT 1").fetchone()
    if row is None:
        return
    (thread_id,) = row
    size, upto = 0, thread_id << 32
    rows = db.execute(
        "SELECT id, length(body) FROM message WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (thread_id << 32, thread_id << 32 | store.MAX_SEQ, PURGE_ROWS),
    ).fetchall()
    for upto, length in rows:  # noqa: B007 - the last value is used below
        size += length
        if size > PURGE_BYTES:
            break
    bounds = {"thread": thread_id, "low": thread_id << 32, "upto": upto, "rows": PURGE_ROWS}
    if sum(db.execute(delete, bounds).rowcount for delete in _DELETE) == 0:
        db.execute("DELETE FROM purge WHERE thread_id = ?", (thread_id,))
