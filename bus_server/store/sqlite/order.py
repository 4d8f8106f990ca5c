"""Order times: they only increase, although the wall clock may go back.

An order time is the wall clock's time at a commit, with the number of times that the clock went
back before in the bits above. A later commit has a greater one, and the wall clock's time can be
read from it.
"""

import sqlite3

from threadbus.v1.thread_pb2 import ThreadState

#: Added each time the clock goes back. The bits below it hold microseconds until 2255.
BACK = 1 << 53
#: The bits of the wall clock's time.
WALL = BACK - 1
#: The maximum number of times that it is added, so that no order time exceeds 1 << 62. After that,
#: the order is that of the wall clock.
MOST = 511

#: The newest activity in the store, to the second: see activity.py.
_NEWEST = "SELECT coalesce(max(active_time), 0) FROM thread WHERE state = ?"


class Order:
    """Assigns the order times of a store's commits."""

    def __init__(self) -> None:
        self._newest = 0
        #: Others may have committed: read the newest order time from the store first.
        self.unsure = True

    def next(self, db: sqlite3.Connection, wall: int) -> int:
        """Returns the order time of a commit at this time of the wall clock, in microseconds.

        The caller must be in a write transaction, which keeps other servers out.
        """
        wall = min(max(wall, 0), WALL)
        if self.unsure:
            for state in ThreadState.values():
                self._newest = max(self._newest, *db.execute(_NEWEST, (state,)).fetchone())
            self.unsure = False
        back = self._newest & ~WALL
        if back | wall < self._newest and back < MOST * BACK:
            back += BACK
        self._newest = back | wall
        return self._newest
