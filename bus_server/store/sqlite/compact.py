"""Reads and removes the oldest entries of threads."""

import sqlite3
from collections.abc import Iterator

from bus_server import store
from bus_server.store import bodies
from bus_server.store.batch import Changes
from bus_server.store.compact_commands import (
    COMPACT_BYTES,
    COMPACT_ROWS,
    FORGET_ROWS,
    FrontRow,
    Kept,
    Removal,
    forgettable,
)
from bus_server.store.facts import Facts, Needs
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.order import WALL
from bus_server.store.sqlite.remembered import Remembered

_FRONT = (
    "SELECT id & 4294967295, time, sender, body FROM message WHERE id BETWEEN ? AND ?"
    " ORDER BY id LIMIT ?"
)
_NEXT_AGENT = "SELECT min(agent) FROM addressed WHERE thread_id = ? AND agent >= ?"
_AGENT_AFTER = "SELECT min(agent) FROM addressed WHERE thread_id = ? AND agent > ?"
_ADDRESSED = "FROM addressed WHERE thread_id = :thread AND agent = :agent"
_COUNT_REMOVED = (
    f"SELECT count(*) FROM (SELECT 1 {_ADDRESSED} AND wakes IN (0, 1) AND seq < :first"  # noqa: S608
    f" LIMIT {FORGET_ROWS})"
)
_FORGET = (
    f"DELETE {_ADDRESSED} AND wakes = :wakes AND seq < min(:first, coalesce("
    f"(SELECT seq {_ADDRESSED} AND wakes = :wakes ORDER BY seq LIMIT 1 OFFSET {FORGET_ROWS}),"
    " :first))"
)
# The newest row is kept, with the number that the next ones go by.
_REMOVE = (
    "DELETE FROM message WHERE id BETWEEN :thread << 32 AND :upto",
    "DELETE FROM entry WHERE id BETWEEN :thread << 32 AND :upto",
    "DELETE FROM quiet WHERE thread_id = :thread AND seq < (SELECT max(seq) FROM quiet"
    " WHERE thread_id = :thread AND seq < :first)",
    "DELETE FROM asked WHERE thread_id = :thread AND seq < :first - :listed AND state <> 1",
)
_SET_FIRST = (
    "UPDATE thread SET first_seq = :first, active_time = CASE WHEN EXISTS (SELECT 1 FROM message"
    " WHERE id BETWEEN :thread << 32 AND :thread << 32 | 4294967295) THEN active_time"
    " ELSE :time END WHERE id = :thread"
)
_KEPT = (
    f"SELECT t.id, t.name, t.epoch, t.first_seq, {reads.HEAD}, coalesce(("  # noqa: S608
    f"SELECT time FROM message WHERE id = t.id << 32 | t.first_seq) & {WALL}, 0),"
    " iif(t.retained, t.body, NULL) FROM thread AS t WHERE t.id > ?"
)


def gather(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    """Gather the oldest entries of threads, and agents addressed in them."""
    for name in needs.fronts & facts.heads.keys():
        head = facts.heads[name]
        facts.fronts[head.thread_id] = _front(db, head)
    for name, agent in needs.addressees:
        if name in facts.heads:
            head = facts.heads[name]
            facts.addressees[head.thread_id] = forgettable(_addressees(db, head, agent))


def _front(db: sqlite3.Connection, head: store.Head) -> list[FrontRow]:
    rows: list[FrontRow] = []
    size = 0
    low = head.thread_id << 32
    for seq, time, sender, body in db.execute(
        _FRONT, (low | head.first_seq, low | store.MAX_SEQ, COMPACT_ROWS)
    ):
        size += len(body)
        if rows and size > COMPACT_BYTES:
            break
        row = FrontRow(seq, time & WALL, len(body), sender, bodies.request_id_of(body))
        rows.append(row)
    return rows


def _addressees(db: sqlite3.Connection, head: store.Head, agent: str) -> Iterator[tuple[str, int]]:
    """Yields what `forgettable` takes of a thread, from an agent on."""
    query = _NEXT_AGENT
    while True:
        ((agent,),) = db.execute(query, (head.thread_id, agent))
        if agent is None:
            return
        arguments = {"thread": head.thread_id, "agent": agent, "first": head.first_seq}
        ((removed,),) = db.execute(_COUNT_REMOVED, arguments)
        yield agent, removed
        query = _AGENT_AFTER


def write(db: sqlite3.Connection, changes: Changes, remembered: Remembered) -> None:
    """Remove entries, and what belongs to them."""
    for thread_id, removal in changes.removals.items():
        _remove(db, thread_id, removal)
        remembered.active_times.pop(thread_id, None)
    for thread_id, agent, first in changes.forgotten:
        for wakes in (0, 1):
            of_agent = {"thread": thread_id, "agent": agent, "wakes": wakes, "first": first}
            db.execute(_FORGET, of_agent)


def _remove(db: sqlite3.Connection, thread_id: int, removal: Removal) -> None:
    last = thread_id << 32 | removal.upto
    ((time,),) = db.execute("SELECT time FROM message WHERE id = ?", (last,))
    bounds = {
        "thread": thread_id,
        "upto": last,
        "first": removal.upto + 1,
        "time": time,
        "listed": store.LISTED_REQUESTS,
    }
    for delete in _REMOVE:
        db.execute(delete, bounds)
    db.executemany(
        "DELETE FROM request WHERE thread_id = ? AND sender = ? AND request_id = ? AND seq <= ?",
        [
            (thread_id, row.sender, row.request_id, removal.upto)
            for row in removal.rows
            if row.request_id
        ],
    )
    db.execute(_SET_FIRST, bounds)


def kept(db: sqlite3.Connection, after: int, limit: int, every: bool) -> list[Kept]:
    """Returns what threads keep, as Store.kept does."""
    which = "" if every else " AND t.retained = 1"
    rows = db.execute(f"{_KEPT}{which} ORDER BY t.id LIMIT ?", (after, limit))
    return [
        Kept._make([*row, None if body is None else bodies.retention_of(body)])
        for *row, body in rows
    ]


def sizes(db: sqlite3.Connection, thread_id: int, after: int, limit: int) -> tuple[int, int]:
    """Returns the size of some entries of a thread, as Store.sizes does."""
    low = thread_id << 32
    ((last, size),) = db.execute(
        "SELECT max(id) & 4294967295, sum(length(body)) FROM (SELECT id, body FROM message"
        " WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)",
        (low | after, low | store.MAX_SEQ, limit),
    )
    return last or after, size or 0
