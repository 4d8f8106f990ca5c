"""Times that tell what came later, although the wall clock goes back.

An order time is what the wall clock said at a commit and, in the bits above that, how often the
clock went back before. What is committed later has a greater one, and the wall clock's time is
still in it, to be told.
"""

import sqlite3

from threadbus.v1.thread_pb2 import ThreadState

#: What one time that the clock went back adds. The bits below hold microseconds until 2255.
BACK = 1 << 53
#: The bits of the wall clock's time.
WALL = BACK - 1
#: So often: no order time is greater than 1 << 62. After that the order is the wall clock's.
MOST = 511

#: Of the newest entry in the store, or up to a second before: see activity.py.
_NEWEST = "SELECT coalesce(max(active_time), 0) FROM thread WHERE state = ?"


class Order:
    """Gives the commits of a store their order times."""

    def __init__(self) -> None:
        self._newest = 0
        #: Others may have committed: what was given last is to be found out.
        self.unsure = True

    def next(self, db: sqlite3.Connection, wall: int) -> int:
        """The order time of a commit at this time of the wall clock, in microseconds.

        Expects a transaction that keeps other servers out.
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
