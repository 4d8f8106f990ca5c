"""Read queries. Each is a function of a connection, to be called on the connection's OS thread."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from bus_server import store
from bus_server.errors import ThreadNotFound
from bus_server.store import bodies
from bus_server.store.sqlite.order import WALL
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState

#: SQL for the seq of the newest entry of thread t: one look-up in the message table. If none is
#: kept, first_seq is the next one.
HEAD = (
    "coalesce((SELECT max(id) FROM message WHERE id BETWEEN t.id << 32 AND t.id << 32 | 4294967295)"
    " & 4294967295, t.first_seq - 1)"
)
#: Maximum number of similar names that are returned, and of names for which they are looked up.
SIMILAR, LOOKED_AT = 5, 20
#: The columns that _thread reads.
_THREAD = (
    f"t.name, t.epoch, {HEAD}, t.state, t.sync_mode, t.body, t.first_seq,"  # noqa: S608
    f" coalesce((SELECT time FROM message WHERE id = t.id << 32 | {HEAD}),"
    f" iif(t.first_seq > 1, t.active_time, NULL)) & {WALL}"
)


#: The columns that `to_head` reads after the name.
HEAD_COLUMNS = f"t.name, t.id, t.epoch, {HEAD}, t.state, t.sync_mode, t.first_seq"
_HEADS = f"SELECT {HEAD_COLUMNS} FROM thread AS t"  # noqa: S608


def head(db: sqlite3.Connection, name: str) -> store.Head | None:
    """Returns a thread's head; None if there is no such thread."""
    row = db.execute(f"{_HEADS} WHERE t.name = ?", (name,)).fetchone()
    return None if row is None else to_head(*row[1:])


def heads(db: sqlite3.Connection, names: Iterable[str]) -> dict[str, store.Head]:
    """Returns the heads of threads by name; those that do not exist are left out."""
    rows = db.execute(
        f"{_HEADS} WHERE t.name IN (SELECT value FROM json_each(?))",  # noqa: S608
        (json.dumps(list(names)),),
    )
    return {row[0]: to_head(*row[1:]) for row in rows}


def participations(
    db: sqlite3.Connection, agent: str, names: Iterable[str]
) -> dict[str, store.Head]:
    """Returns the heads of those threads of which an agent is a participant, by name."""
    rows = db.execute(
        f"{_HEADS} WHERE t.name IN (SELECT value FROM json_each(?))"  # noqa: S608
        " AND EXISTS (SELECT 1 FROM participant AS m WHERE m.thread_id = t.id AND m.agent = ?)",
        (json.dumps(list(names)), agent),
    )
    return {row[0]: to_head(*row[1:]) for row in rows}


def to_head(
    thread_id: int, epoch: str, seq: int, state: int, mode: int, first_seq: int
) -> store.Head:
    """Returns a head. Takes the columns of HEAD_COLUMNS after the name."""
    return store.Head(
        thread_id, epoch, seq, ThreadState.ValueType(state), SyncMode.ValueType(mode), first_seq
    )


def similar(db: sqlite3.Connection, names: Iterable[str]) -> list[str]:
    """Returns at most SIMILAR names of threads that differ from one of `names` only by case.

    Only the first LOOKED_AT names are looked up. NOCASE folds only ASCII, which suffices for names.
    """
    found: dict[str, None] = {}
    for name in itertools.islice(names, LOOKED_AT):
        rows = db.execute(
            "SELECT name FROM thread WHERE name = ? COLLATE NOCASE AND name <> ?"
            " ORDER BY name LIMIT ?",
            (name, name, SIMILAR),
        )
        found |= dict.fromkeys(name for (name,) in rows)
    return list(found)[:SIMILAR]


def read(
    db: sqlite3.Connection, thread_id: int, after: int, upto: int, max_bytes: int
) -> list[store.Row]:
    """Returns the rows of a thread with after < seq <= upto, ascending.

    At most `max_bytes` bytes of them, but always the first one. Returns [] if the thread was
    deleted, or the first one removed.
    """
    rows = db.execute(
        f"SELECT m.sender, {_BODY} WHERE m.id > ? AND m.id <= ?"  # noqa: S608
        " AND EXISTS (SELECT 1 FROM thread WHERE id = ? AND first_seq <= ?) ORDER BY m.id",
        (thread_id << 32 | after, thread_id << 32 | upto, thread_id, after + 1),
    )
    return _until_full(rows, max_bytes)


#: The columns that _until_full reads after the sender, and their tables.
_BODY = "m.body, e.edit_seq FROM message AS m LEFT JOIN entry AS e ON e.id = m.id"


def _until_full(rows: Iterable[tuple[str, bytes, int | None]], max_bytes: int) -> list[store.Row]:
    """Returns the first rows, at most `max_bytes` bytes of them but always the first one."""
    run: list[store.Row] = []
    size = 0
    for sender, body, edit_seq in rows:
        size += len(body)
        if run and size > max_bytes:
            break
        if edit_seq or body[0] != bodies.FIRST:  # a call for each row would take 0.1 µs
            body = bodies.message_of(body, edit_seq)
        run.append((sender, body))
    return run


def excerpt(
    db: sqlite3.Connection,
    name: str,
    after: int,
    before: int,
    limit: int,
    max_bytes: int,
    newest: bool,
) -> store.Excerpt:
    """Returns what Store.excerpt does, in one snapshot. Raises ThreadNotFound."""
    with snapshot(db):
        end = head(db, name)
        if end is None:
            raise ThreadNotFound([name], similar(db, [name]))
        last = min(before - 1, end.seq) if before else end.seq
        rows = db.execute(
            f"SELECT m.sender, {_BODY} WHERE m.id > ? AND m.id <= ? ORDER BY m.id DESC LIMIT ?"
            if newest
            else f"SELECT m.sender, {_BODY} WHERE m.id > ? AND m.id <= ? ORDER BY m.id LIMIT ?",
            (end.thread_id << 32 | min(after, end.seq), end.thread_id << 32 | last, limit),
        )
        run = _until_full(rows, max_bytes)
    if newest:
        run.reverse()
    first = max(after + 1, end.first_seq)
    return store.Excerpt(end, last - len(run) + 1 if newest else first, run)


def senders(db: sqlite3.Connection, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
    """Returns the senders of a thread's messages, by seq; missing messages are left out."""
    rows = db.execute(
        "SELECT id & 4294967295, sender FROM message WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([thread_id << 32 | seq for seq in seqs]),),
    )
    return dict(rows)


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Run several reads on one snapshot (context manager). Does nothing within a transaction."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def threads(db: sqlite3.Connection, names: Sequence[str]) -> list[Thread]:
    """Returns the threads with these names, in any order; missing ones are left out."""
    rows = db.execute(
        f"SELECT {_THREAD} FROM thread AS t"  # noqa: S608
        " WHERE t.name IN (SELECT value FROM json_each(?))",
        (json.dumps(names),),
    )
    return [_thread(row) for row in rows]


def threads_by_id(db: sqlite3.Connection, thread_ids: Sequence[int]) -> dict[int, Thread]:
    """Returns the threads with these ids, by id; missing ones are left out."""
    rows = db.execute(
        f"SELECT {_THREAD}, t.id FROM thread AS t"  # noqa: S608
        " WHERE t.id IN (SELECT value FROM json_each(?))",
        (json.dumps(thread_ids),),
    )
    return {row[-1]: _thread(row[:-1]) for row in rows}


def _thread(row: tuple[str, str, int, int, int, bytes, int, int | None]) -> Thread:
    name, epoch, head_seq, state, mode, body, first_seq, time = row
    return bodies.thread_of(
        body,
        name=name,
        epoch=epoch,
        head_seq=head_seq,
        state=state,
        sync_mode=mode,
        update_time=time,
        first_seq=first_seq,
    )


def agent(db: sqlite3.Connection, name: str, now: int = 0) -> Agent | None:
    """Returns a registered agent; None if there is none. `now` is :now of STATE."""
    row = db.execute(f"SELECT {_AGENT} AND a.name = :name", {"name": name, "now": now}).fetchone()
    return None if row is None else _agent(row)


def list_agents(db: sqlite3.Connection, limit: int, after: str, now: int = 0) -> list[Agent]:
    """Returns up to `limit` registered agents with names after `after`, sorted by name.

    `now` is :now of STATE.
    """
    rows = db.execute(
        f"SELECT {_AGENT} AND a.name > :after ORDER BY a.name LIMIT :limit",
        {"after": after, "limit": limit, "now": now},
    )
    return [_agent(row) for row in rows]


#: SQL for the time of the newest evidence in a row of presence.
EVIDENCE_TIME = "max(last_seen_time, state_time, work_time)"
#: SQL for the presence (threadbus.v1.Presence) that follows from row p of presence at :now, in
#: microseconds on the store's clock. Open waits are not known.
STATE = (
    "CASE WHEN p.agent IS NULL THEN 0 WHEN p.reported = 6 THEN 6"
    " WHEN p.reported > 0 AND p.state_time >= p.work_time AND p.lease_end_time > :now"
    " THEN p.reported"
    " WHEN p.working_end_time > :now"
    " AND (p.lease_end_time > :now OR NOT p.sends_heartbeats) THEN 2"
    " WHEN p.lease_end_time <= :now THEN 5 ELSE 3 END"
)
_AGENT = (
    f"a.name, a.kind, a.body, {STATE}, coalesce(p.status_text, ''), coalesce(p.last_seen_time, 0)"
    " FROM agent AS a LEFT JOIN presence AS p ON p.agent = a.name WHERE a.unregister_time = 0"
)


def _agent(row: tuple[str, int, bytes, int, str, int]) -> Agent:
    name, kind, body, state, text, last_seen_time = row
    return bodies.agent_of(
        body,
        name=name,
        kind=kind,
        presence=state,
        status_text=text,
        last_seen_time=last_seen_time,
    )
