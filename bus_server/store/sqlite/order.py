"""Order times: times of commits that do not decrease when the wall clock is set back.

The low bits of an order time are the wall clock's time at the commit, the high bits the number of
times that the clock had gone back before.
"""

import sqlite3

from threadbus.v1.thread_pb2 import ThreadState

#: What is added each time the clock goes back. The bits below hold microseconds until 2255.
BACK = 1 << 53
#: The bits of the wall clock's time, in microseconds since the Unix epoch.
WALL = BACK - 1
#: The maximum number of times that BACK is added, so that all order times are below 1 << 62. After
#: that, order times can decrease.
MOST = 511

#: The newest active_time of the threads in a state. It may be out of date by up to a second (see
#: activity.py), so a smaller step back of the clock may go unnoticed.
_NEWEST = "SELECT coalesce(max(active_time), 0) FROM thread WHERE state = ?"


class Order:
    """The source of the order times of a store's commits."""

    def __init__(self) -> None:
        self._newest = 0
        #: Whether other servers may have committed: `next` then first reads the newest time.
        self.unsure = True

    def next(self, db: sqlite3.Connection, wall: int) -> int:
        """Returns the order time of a commit.

        The caller must be in a write transaction, so that no other server commits before it does.

        Args:
            wall: the wall clock's time, in microseconds since the Unix epoch.
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
