"""Lists threads by their last activity.

A thread's last activity is the order time (order.py) of its newest entry, or of its creation while
it has none. It can be looked up in the message table, thread by thread, but a list of all threads
needs an index. If each post updated an indexed column, it would have to write another page. So
active_time, the indexed column, may be out of date by up to a second, and is updated at most once
a second:

    active_time <= last activity < active_time + GRANULARITY

While a thread has no entry, active_time is exact.

The list is read from that index, latest active_time first. The exact time of each thread is looked
up, until no remaining thread can come before those found.
"""

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

from bus_server import store
from bus_server.store.sqlite import reads
from threadbus.v1.thread_pb2 import Thread

#: Resolution of active_time, in microseconds.
GRANULARITY = 1_000_000

#: If a filter matches at most this many threads, all of them are read, in a few milliseconds. If it
#: matches more, walking the index soon finds enough of them, unless all of them have long been
#: idle.
FEW = 1_000

#: Greater than every order time.
_END = 1 << 62

#: SQL: whether thread t matches the filters other than the state, and can come after the key.
_MATCHES = (
    "t.active_time <= :active AND t.name >= :prefix AND t.name < :prefix_end"
    " AND (:participant = '' OR EXISTS (SELECT 1 FROM participant AS p"
    " WHERE p.thread_id = t.id AND p.agent = :participant))"
)
#: SQL for all threads in one state that match.
_WALK = (
    "SELECT t.active_time, t.id FROM thread AS t INDEXED BY thread_active"  # noqa: S608
    f" WHERE t.state = :state AND {_MATCHES} ORDER BY t.active_time DESC"
)
#: SQL for those threads of a list of ids that are in one of the states and match.
_AMONG = (
    "SELECT t.active_time, t.id FROM thread AS t"  # noqa: S608
    " WHERE t.id IN (SELECT value FROM json_each(:ids))"
    " AND +t.state IN (SELECT value FROM json_each(:states))"
    f" AND {_MATCHES} ORDER BY t.active_time DESC"
)


def touch(
    db: sqlite3.Connection, thread_ids: Iterable[int], now: int, stored: dict[int, int]
) -> None:
    """Record that entries were appended to threads at the order time `now`.

    Writes nothing for a thread whose active_time is less than a second before `now`.

    Args:
        stored: the known active_times, by thread id. Updated.
    """
    since = now - GRANULARITY + 1
    due = [thread_id for thread_id in thread_ids if not since <= stored.get(thread_id, -1) <= now]
    if not due:
        return
    update = db.executemany(
        "UPDATE thread SET active_time = ? WHERE id = ? AND active_time NOT BETWEEN ? AND ?",
        [(now, thread_id, since, now) for thread_id in due],
    )
    if update.rowcount == len(due):  # otherwise some rows were not updated: their times are unknown
        stored |= dict.fromkeys(due, now)


def list_threads(
    db: sqlite3.Connection,
    states: Sequence[int],
    prefix: str,
    participant: str,
    limit: int,
    after: store.ThreadPageKey | None,
) -> list[tuple[Thread, store.ThreadPageKey]]:
    """Returns threads after a key, most recently active first, as Store.list_threads does."""
    start = after or store.ThreadPageKey(_END, 0)
    asked = {
        "active": start.active,
        "prefix": prefix,
        "prefix_end": f"{prefix}\U0010ffff",  # greater than any character of a name
        "participant": participant,
    }
    with reads.snapshot(db):
        keys = _first(db, start, limit, _candidates(db, asked, set(states)))
        threads = reads.threads_by_id(db, [key.thread_id for key in keys])
    return [(threads[key.thread_id], key) for key in keys]


def _candidates(
    db: sqlite3.Connection, asked: dict[str, Any], states: Collection[int]
) -> Iterable[tuple[int, int]]:
    """Returns (active_time, id) of threads that can come after a key, latest active_time first."""
    ids = _few(db, asked)
    if ids is not None:
        few = {"ids": json.dumps(ids), "states": json.dumps(list(states))}
        return db.execute(_AMONG, asked | few)
    walks = [db.execute(_WALK, asked | {"state": state}) for state in states]
    return heapq.merge(*walks, key=itemgetter(0), reverse=True)


def _few(db: sqlite3.Connection, asked: dict[str, Any]) -> list[int] | None:
    """Returns a superset of the ids of matching threads.

    Returns None if there may be more than FEW: neither filter is set, or each one that is set
    matches more.
    """
    narrow = {
        "participant": "SELECT thread_id FROM participant WHERE agent = :participant",
        "prefix": "SELECT id FROM thread WHERE name >= :prefix AND name < :prefix_end",
    }
    for name, query in narrow.items():
        if asked[name]:
            rows = db.execute(f"{query} LIMIT {FEW + 1}", asked).fetchall()
            if len(rows) <= FEW:
                return [thread_id for (thread_id,) in rows]
    return None


def _first(
    db: sqlite3.Connection,
    start: store.ThreadPageKey,
    limit: int,
    candidates: Iterable[tuple[int, int]],
) -> list[store.ThreadPageKey]:
    """Returns the keys of the first `limit` candidates after `start`, in order."""
    first: list[store.ThreadPageKey] = []  # a heap; the last in order is at index 0
    for active_time, thread_id in candidates:
        if len(first) == limit and first[0].active >= active_time + GRANULARITY:
            break  # neither this nor any later candidate can come before those found
        row = db.execute(
            "SELECT time FROM message WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            (thread_id << 32, thread_id << 32 | store.MAX_SEQ),
        ).fetchone()
        key = store.ThreadPageKey(row[0] if row else active_time, thread_id)
        if key < start:
            heapq.heappush(first, key)
            if len(first) > limit:
                heapq.heappop(first)
    return sorted(first, reverse=True)
