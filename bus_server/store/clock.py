"""The store's clock: nobody sets it, and all servers on the file share it, over their restarts.

A wall clock is set: by NTP, by hand, when a virtual machine resumes. Leases, the end of a rotated
token and the order of signs of life must not depend on that. They are kept in microseconds of this
clock: the system's monotonic clock, which all processes of a machine share, plus a base. The base
is in the store, and holds until the machine boots again. Then the clock goes on from the wall
clock, or from the newest time in the store where the wall clock is behind that.
"""

import sqlite3
import time
from pathlib import Path

from bus_server.settings import MAX_GRACE

#: Microseconds. The wall clock was set if it differs from what it should be by more than this;
#: less is taken for the time between two system calls.
STEP = 100_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: Nothing in the store is from later than this.
_NEWEST = (
    "SELECT max(coalesce((SELECT max(last_seen_time) FROM presence), 0),"
    " coalesce((SELECT max(expire_time) FROM token), 0) - :grace)"
)


class StoreClock:
    """Microseconds that only ever go forward."""

    def __init__(self, base: int) -> None:
        self._base = base
        #: What the wall clock is ahead; 0 until it is set.
        self._ahead = 0

    @classmethod
    def of(cls, db: sqlite3.Connection, boot: str) -> "StoreClock":
        """The clock of a store; expects the caller to keep other servers out meanwhile."""
        known = db.execute("SELECT base FROM clock WHERE boot = ?", (boot,)).fetchone()
        if known is not None and boot:
            return cls(*known)
        (newest,) = db.execute(_NEWEST, {"grace": round(MAX_GRACE * 1e6)}).fetchone()
        # Where the system does not tell one boot from another, a clock that went back tells it.
        if known is None or known[0] + _monotonic() < newest:
            known = (max(_wall(), newest) - _monotonic(),)
            db.execute("DELETE FROM clock")
            db.execute("INSERT INTO clock (boot, base) VALUES (?, ?)", (boot, *known))
        return cls(*known)

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
