"""The store's clock: never adjusted, and shared by all servers on the file, across restarts.

Wall clocks are adjusted: by NTP, by hand, when a virtual machine resumes. Leases, the expire times
of rotated tokens and the order of signs of life must not depend on that. They are in microseconds
of this clock: the system's monotonic clock, which all processes of a machine share, plus a base.
The base is kept in the store until the machine reboots. Then the clock starts from the
wall clock, or from the newest sign of life in the store if the wall clock is behind that.
"""

import time
from pathlib import Path

#: Microseconds. If the difference to the wall clock changes by more than this, the wall clock was
#: set; less may be the time between two system calls.
STEP = 100_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreClock:
    """A clock in microseconds that only goes forward."""

    def __init__(self, base: int) -> None:
        """`base`: microseconds by which it is ahead of the system's monotonic clock."""
        self.base = base
        #: Microseconds by which the wall clock is ahead; 0 until `wall` is first called.
        self._ahead = 0

    @classmethod
    def starting_at(cls, moment: int) -> "StoreClock":
        """Returns a clock whose time is now `moment`, in microseconds."""
        return cls(moment - _monotonic())

    def now(self) -> int:
        """Returns the current time, in microseconds. Safe to call from any thread."""
        return self.base + _monotonic()

    def wall(self, moment: int) -> int:
        """Converts a time of this clock to microseconds since the epoch on the wall clock."""
        ahead = wall_time() - self.now()
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


def wall_time() -> int:
    """Returns the wall clock's time in microseconds since the epoch."""
    return time.time_ns() // 1000
