"""Reads and writes of requests."""

import heapq
import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from bus_server import store
from bus_server.store.batch import Changes
from bus_server.store.bodies import BEGINNING, traceparent_of
from bus_server.store.facts import Facts, Needs
from bus_server.store.sqlite import reads
from threadbus.v1.request_pb2 import RequestState

_COLUMNS = (
    "a.thread_id, a.seq, a.agent, a.asker, a.state, a.create_time, a.open_time, a.due, a.reply_seq,"
    " a.noticed"
)
_SELECT = f"SELECT {_COLUMNS} FROM asked AS a WHERE"  # noqa: S608
_OPEN_OF_AGENT = f"{_SELECT} a.agent = ? AND a.thread_id = ? AND a.state = 1"
_OPEN_IN_THREAD = f"{_SELECT} a.thread_id = ? AND a.state = 1"
_OPEN_BETWEEN = f"{_SELECT} a.thread_id = ? AND a.seq BETWEEN ? AND ? AND +a.state = 1"
_OF_MESSAGE = f"{_SELECT} a.thread_id = ? AND a.seq = ?"
_ONE = f"{_OF_MESSAGE} AND a.agent = ?"
_COUNT_OPEN = (
    "SELECT count(*) FROM"
    " (SELECT 1 FROM asked WHERE agent = ? AND thread_id = ? AND state = 1 LIMIT ?)"
)
_SAVE = (
    "INSERT INTO asked (thread_id, seq, agent, asker, state, create_time, open_time, due,"
    " reply_seq, noticed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " state = excluded.state, reply_seq = excluded.reply_seq, noticed = excluded.noticed"
)
_READ = (
    "(SELECT max(read_seq, passed_over) FROM participant"
    " WHERE thread_id = a.thread_id AND agent = a.agent)"
)
_PREFIXED = (
    "EXISTS (SELECT 1 FROM json_each(:prefixes) WHERE substr(t.name, 1, length(value)) = value)"
)


def gather(db: sqlite3.Connection, needs: Needs, facts: Facts) -> None:
    """Gather the needed requests, once the heads of their threads are known."""
    ids = {name: head.thread_id for name, head in facts.heads.items()}
    for thread, agent in needs.asked:
        if thread in ids:
            _add(facts, db.execute(_OPEN_OF_AGENT, (agent, ids[thread])))
    for thread, seq in needs.asking:
        if thread in ids and seq <= store.MAX_SEQ:
            _add(facts, db.execute(_OF_MESSAGE, (ids[thread], seq)))
    for thread_id, front in facts.fronts.items():
        if front:
            _add(facts, db.execute(_OPEN_BETWEEN, (thread_id, front[0].seq, front[-1].seq)))
    for thread_id, seq in {key[:2] for key in facts.asked}:
        if traceparent := _traceparent(db, thread_id << 32 | seq):
            facts.traceparents[thread_id, seq] = traceparent
    for thread in needs.closing & ids.keys():  # these get no notices
        _add(facts, db.execute(_OPEN_IN_THREAD, (ids[thread],)))
    for thread, agent in needs.asks:
        if thread in ids:
            ((count,),) = db.execute(_COUNT_OPEN, (agent, ids[thread], store.MAX_OPEN_REQUESTS))
            facts.open_requests[ids[thread], agent] = count


def _traceparent(db: sqlite3.Connection, message_id: int) -> str:
    """Returns the traceparent of a message; "" if it has none, or is not kept any more."""
    if db.execute("SELECT 1 FROM message WHERE id = ?", (message_id,)).fetchone() is None:
        return ""
    with db.blobopen("message", "body", message_id, readonly=True) as body:  # reads no more pages
        return traceparent_of(body.read(BEGINNING))


def has_open(db: sqlite3.Connection, thread_id: int, agent: str) -> bool:
    """Returns whether an agent has open requests in a thread."""
    return db.execute(f"{_OPEN_OF_AGENT} LIMIT 1", (agent, thread_id)).fetchone() is not None


def gather_one(db: sqlite3.Connection, key: store.AskedKey, facts: Facts) -> None:
    """Gather a request, if there is one with this key."""
    _add(facts, db.execute(_ONE, key))


def _add(facts: Facts, rows: Iterable[tuple[Any, ...]]) -> None:
    for thread_id, seq, agent, *rest in rows:
        facts.asked[store.AskedKey(thread_id, seq, agent)] = _asked(*rest)


def _asked(asker: str, state: int, *rest: int) -> store.Asked:
    """Returns a request from its columns."""
    return store.Asked(asker, RequestState.ValueType(state), *rest)


def write(db: sqlite3.Connection, changes: Changes) -> None:
    """Write the changes of requests."""
    db.executemany(_SAVE, [(*key, *asked) for key, asked in changes.asked.items()])


def requests(
    db: sqlite3.Connection,
    wanted: store.RequestsWanted,
    limit: int,
    before: store.RequestPageKey,
) -> list[store.StoredRequest]:
    """Returns requests, newest first, as Store.requests does."""
    matches = ["a.asker = :asker"] if wanted.asker else []
    matches += ["a.agent = :agent"] if wanted.agent else []
    matches += ["t.name = :thread"] if wanted.thread else []
    matches += [_PREFIXED] if wanted.prefixes else []
    first, then, state = "asked AS a", "thread AS t", "a.state"
    if wanted.thread:  # + : not by the index of all requests in a state
        first, then, state = "thread AS t", "asked AS a", "+a.state"
    query = (
        f"SELECT t.name, t.epoch, {_READ}, {_COLUMNS} FROM {first} CROSS JOIN {then}"  # noqa: S608
        f" ON t.id = a.thread_id WHERE {state} = :state"
        f" AND (a.open_time, a.thread_id, a.seq, a.agent) < (:time, :thread_id, :seq, :last)"
        f"{''.join(f' AND {match}' for match in matches)}"
        " ORDER BY a.open_time DESC, a.thread_id DESC, a.seq DESC, a.agent DESC LIMIT :limit"
    )
    arguments = {
        "asker": wanted.asker,
        "agent": wanted.agent,
        "thread": wanted.thread,
        "prefixes": json.dumps(wanted.prefixes),
        "limit": limit,
    } | dict(zip(("time", "thread_id", "seq", "last"), before, strict=True))
    # Each state by itself: together, they are in no order that an index has.
    with reads.snapshot(db):
        found = [
            [
                store.StoredRequest(
                    name, epoch, store.AskedKey(*columns[:3]), _asked(*columns[3:]), read_seq
                )
                for name, epoch, read_seq, *columns in db.execute(
                    query, arguments | {"state": state}
                )
            ]
            for state in set(wanted.states)
        ]
    merged = heapq.merge(*found, key=lambda request: request.page_key, reverse=True)
    return list(merged)[:limit]
