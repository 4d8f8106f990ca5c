"""When threads were last active.

A thread's last activity is the time of its newest entry, or of its creation while it has none. The
message tree tells it, one look-up a thread; what the list needs is an order over all threads, and
a row that each post rewrites would cost each post a page. So a thread's row knows its last activity
to the second only, and is rewritten at most once a second:

    active_time <= last activity < active_time + GRANULARITY
"""

import sqlite3
from collections.abc import Iterable

#: Microseconds.
GRANULARITY = 1_000_000


def touch(db: sqlite3.Connection, thread_ids: Iterable[int], now: int) -> None:
    """Entries of `now` were appended to these threads: note it where it is not known.

    The row of a thread that was active within the last second is only read. One from which the
    clock has gone back is written, too.
    """
    known_since = now - GRANULARITY + 1
    db.executemany(
        "UPDATE thread SET active_time = ? WHERE id = ? AND active_time NOT BETWEEN ? AND ?",
        [(now, thread_id, known_since, now) for thread_id in thread_ids],
    )
