"""The store's clock: nobody sets it, and all servers on the file share it, over their restarts.

A wall clock is set: by NTP, by hand, when a virtual machine resumes. Leases, the end of a rotated
token and the order of signs of life must not depend on that. They are kept in microseconds of this
clock: the system's monotonic clock, which all processes of a machine share, plus a base. The base
is in the store, and holds until the machine boots again. Then the clock goes on from the wall
clock, or from the last sign of life in the store where the wall clock is behind that.
"""

import sqlite3
import time
from pathlib import Path

from threadbus.limits import MAX_GRACE

#: Microseconds. The wall clock was set if it differs from what it should be by more than this;
#: less is taken for the time between two system calls.
STEP = 100_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: The last sign of life in the store.
_NEWEST = "SELECT coalesce(max(last_seen_time), 0) FROM presence"
#: No rotated token works for longer than it can be granted.
_CUT = "UPDATE token SET expire_time = :latest WHERE expire_time > :latest"


class StoreClock:
    """Microseconds that only ever go forward."""

    def __init__(self, base: int) -> None:
        self._base = base
        #: What the wall clock is ahead; 0 until it is set.
        self._ahead = 0

    @classmethod
    def of(cls, db: sqlite3.Connection, boot: str) -> "StoreClock":
        """The clock of a store, by which no token in it works for longer than the longest grace.

        The caller must hold the write lock.
        """
        known = db.execute("SELECT base FROM clock WHERE boot = ?", (boot,)).fetchone()
        (newest,) = db.execute(_NEWEST).fetchone()
        # Where the system does not tell one boot from another, a clock that went back tells it.
        if known is None or (not boot and known[0] + _monotonic() < newest):
            known = (max(_wall(), newest) - _monotonic(),)
            db.execute("DELETE FROM clock")
            db.execute("INSERT INTO clock (boot, base) VALUES (?, ?)", (boot, *known))
        clock = cls(*known)
        db.execute(_CUT, {"latest": clock.now() + round(MAX_GRACE * 1e6)})
        return clock

    def now(self) -> int:
        """This moment. Safe to call from any thread."""
        return self._base + _monotonic()

    def wall(self, moment: int) -> int:
        """A moment of this clock in microseconds since the epoch, as the wall clock stands now."""
        ahead = _wall() - self.now()
        if abs(ahead - self._ahead) > STEP:
            self._ahead = ahead
        return moment + self._ahead


def boot_id() -> str:
    """What the system calls this boot of the machine; empty where it has no name for it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


def _wall() -> int:
    return time.time_ns() // 1000
