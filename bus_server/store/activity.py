"""When threads were last active, and the list of them in that order.

A thread's last activity is the time of its newest entry, or of its creation while it has none: an
order time, which grows though the wall clock goes back. The message tree tells it, one look-up a
thread; what the list needs is an order over all threads, and a row that each post rewrites would
cost each post a page. So a thread's row knows its last activity to the second only, and is
rewritten at most once a second:

    active_time <= last activity < active_time + GRANULARITY

The list walks down the index on it, looks up the exact times of the threads it passes, and ends
where nobody below can be above those it has.
"""

import heapq
import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

from bus_server import store
from bus_server.store import reads
from threadbus.v1.thread_pb2 import Thread

#: Microseconds.
GRANULARITY = 1_000_000

#: Threads that a filter may leave to be looked at one by one: a few milliseconds. Where it leaves
#: more, the walk mostly meets enough of them soon; not where all of them have long been idle.
FEW = 1_000

#: Later than any time.
_ALWAYS = 1 << 62

#: Whether the thread t is one of those asked for, whatever its state, and was there at :as_of.
_MATCHES = (
    "t.create_time <= :as_of AND t.name >= :prefix AND t.name < :prefix_end"
    " AND (:participant = '' OR EXISTS (SELECT 1 FROM participant AS p"
    " WHERE p.thread_id = t.id AND p.agent = :participant))"
)
_WALK = (
    "SELECT t.active_time, t.create_time, t.id FROM thread AS t INDEXED BY thread_active"  # noqa: S608
    f" WHERE t.state = :state AND {_MATCHES}"
)
#: Threads that can come after a place; one that was active later, until :as_of, was before it.
_ONWARD = f"{_WALK} AND t.active_time <= :active ORDER BY t.active_time DESC"
#: Threads that got entries since :as_of: they can have been anywhere then.
_MOVED = f"{_WALK} AND t.active_time > :as_of ORDER BY t.active_time DESC"
#: All of these, out of a few threads.
_AMONG = (
    "SELECT t.active_time, t.create_time, t.id FROM thread AS t"  # noqa: S608
    " WHERE t.id IN (SELECT value FROM json_each(:ids))"
    " AND +t.state IN (SELECT value FROM json_each(:states))"
    f" AND {_MATCHES} AND (t.active_time <= :active OR t.active_time > :as_of)"
    " ORDER BY t.active_time DESC"
)


def touch(db: sqlite3.Connection, thread_ids: Iterable[int], now: int) -> None:
    """Entries of `now` were appended to these threads: note it where it is not known.

    The row of a thread that was active within the last second is only read.
    """
    known_since = now - GRANULARITY + 1
    db.executemany(
        "UPDATE thread SET active_time = ? WHERE id = ? AND active_time NOT BETWEEN ? AND ?",
        [(now, thread_id, known_since, now) for thread_id in thread_ids],
    )


def list_threads(
    db: sqlite3.Connection,
    states: Sequence[int],
    prefix: str,
    participant: str,
    limit: int,
    after: store.Place | None,
) -> list[tuple[Thread, store.Place]]:
    """Threads, last active first: the first page's order, whatever was posted since."""
    start = after or store.Place(_ALWAYS, _ALWAYS, 0)
    asked = {
        "as_of": start.as_of,
        "active": min(start.active, start.as_of),  # as it is, but in a token that somebody made up
        "prefix": prefix,
        "prefix_end": f"{prefix}\U0010ffff",  # a name's characters are all smaller
        "participant": participant,
    }
    with reads.snapshot(db):
        places = _first(db, start, limit, _candidates(db, asked, set(states)))
        threads = reads.threads_by_id(db, [place.thread_id for place in places])
    if after is None and places:
        newest = places[0].active
        places = [place._replace(as_of=newest) for place in places]
    return [(threads[place.thread_id], place) for place in places]


def _candidates(
    db: sqlite3.Connection, asked: dict[str, Any], states: Collection[int]
) -> Iterable[tuple[int, int, int]]:
    """active_time, create_time and id of what may come after a place, by active_time downward."""
    ids = _few(db, asked)
    if ids is not None:
        few = {"ids": json.dumps(ids), "states": json.dumps(list(states))}
        return db.execute(_AMONG, asked | few)
    return heapq.merge(
        *(db.execute(walk, asked | {"state": of}) for of in states for walk in (_MOVED, _ONWARD)),
        key=itemgetter(0),
        reverse=True,
    )


def _few(db: sqlite3.Connection, asked: dict[str, Any]) -> list[int] | None:
    """Threads among which are all that a filter leaves; None where these are many."""
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
    start: store.Place,
    limit: int,
    candidates: Iterable[tuple[int, int, int]],
) -> list[store.Place]:
    """Places of the first of these after a place, in order."""
    first: list[store.Place] = []  # a heap, the last one on top
    for active_time, create_time, thread_id in candidates:
        if len(first) == limit and first[0].active >= active_time + GRANULARITY:
            break  # neither it nor any that follows can come before those
        row = db.execute(
            "SELECT time FROM message WHERE id BETWEEN ? AND ? AND time <= ?"
            " ORDER BY id DESC LIMIT 1",
            (thread_id << 32, thread_id << 32 | store.MAX_SEQ, start.as_of),
        ).fetchone()
        place = store.Place(start.as_of, row[0] if row else create_time, thread_id)
        if place < start:
            heapq.heappush(first, place)
            if len(first) > limit:
                heapq.heappop(first)
    return sorted(first, reverse=True)
