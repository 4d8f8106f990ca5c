"""The store's clock: never set, and shared by all servers on the file, over their restarts.

A wall clock is set: by NTP, by hand, when a virtual machine resumes. Leases, the expire times of
rotated tokens and the order of signs of life must not depend on that. They are in microseconds of
this clock: the system's monotonic clock, which all processes of a machine share, plus a base. The
base is in the store, and holds until the machine boots again. Then the clock starts from the wall
clock, or from the newest sign of life in the store if the wall clock is behind that.
"""

import sqlite3
import time
from pathlib import Path

from threadbus.limits import MAX_GRACE

#: Microseconds. A difference to the wall clock that changes by more than this means that the wall
#: clock was set; less is taken for the time between two system calls.
STEP = 100_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: The newest sign of life in the store.
_NEWEST = "SELECT coalesce(max(last_seen_time), 0) FROM presence"
#: No rotated token works for longer than the longest grace.
_CUT = "UPDATE token SET expire_time = :latest WHERE expire_time > :latest"


class StoreClock:
    """A clock in microseconds that only goes forward."""

    def __init__(self, base: int) -> None:
        self._base = base
        #: How far the wall clock is ahead; 0 until it is set.
        self._ahead = 0

    @classmethod
    def of(cls, db: sqlite3.Connection, boot: str) -> "StoreClock":
        """Returns the clock of a store. Stores its base if the machine booted since.

        Also bounds the expire times of tokens by the longest grace. The caller must hold the write
        lock. Raises sqlite3.Error.
        """
        known = db.execute("SELECT base FROM clock WHERE boot = ?", (boot,)).fetchone()
        (newest,) = db.execute(_NEWEST).fetchone()
        # Where boots have no ids, a clock that went back shows that there was one.
        if known is None or (not boot and known[0] + _monotonic() < newest):
            known = (max(_wall(), newest) - _monotonic(),)
            db.execute("DELETE FROM clock")
            db.execute("INSERT INTO clock (boot, base) VALUES (?, ?)", (boot, *known))
        clock = cls(*known)
        db.execute(_CUT, {"latest": clock.now() + round(MAX_GRACE * 1e6)})
        return clock

    def now(self) -> int:
        """Returns the time now. Safe to call from any thread."""
        return self._base + _monotonic()

    def wall(self, moment: int) -> int:
        """Returns a time of this clock in microseconds since the epoch, by the wall clock."""
        ahead = _wall() - self.now()
        if abs(ahead - self._ahead) > STEP:
            self._ahead = ahead
        return moment + self._ahead


def boot_id() -> str:
    """Returns the system's id of this boot of the machine; empty if it has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


def _wall() -> int:
    return time.time_ns() // 1000
