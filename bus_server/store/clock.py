"""The store's clock: never adjusted, shared by all servers on the file, and kept across restarts.

Wall clocks are adjusted: by NTP, by hand, when a virtual machine resumes. Leases, the expire times
of rotated tokens and the order of signs of life must not depend on such adjustments. They use this
clock: the system's monotonic clock, which all processes of a machine share, plus a base, in
microseconds. The store keeps the base until the machine reboots. After a reboot the clock starts
from the wall clock, or from the newest sign of life in the store if that is later.
"""

import time
from pathlib import Path

#: Microseconds. If the difference to the wall clock changes by more than this, the wall clock was
#: set. A smaller change may be the time between two system calls.
STEP = 100_000

#: Microseconds by which evidence of another server may be in the future: on PostgreSQL, servers
#: know the database's clock only to within milliseconds.
TOLERANCE = 1_000_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreClock:
    """A clock in microseconds that never goes back."""

    def __init__(self, base: int) -> None:
        """`base`: microseconds by which this clock is ahead of the system's monotonic clock."""
        self.base = base
        #: Microseconds by which the wall clock is ahead of this one; 0 until `wall` is called.
        self._ahead = 0

    @classmethod
    def starting_at(cls, moment: int) -> "StoreClock":
        """Returns a clock whose time is now `moment`, in microseconds."""
        return cls(moment - _monotonic())

    def now(self) -> int:
        """Returns the current time, in microseconds. Thread-safe."""
        return self.base + _monotonic()

    def time(self) -> int:
        """Returns the current time of the clock that messages get their times from.

        In microseconds since the Unix epoch.
        """
        return wall_time()

    def wall(self, moment: int) -> int:
        """Returns a time of this clock as wall-clock time, in microseconds since the Unix epoch.

        Equal times give equal results until the wall clock is set.
        """
        ahead = wall_time() - self.now()
        if abs(ahead - self._ahead) > STEP:
            self._ahead = ahead
        return moment + self._ahead


def boot_id() -> str:
    """Returns the system's id of the machine's current boot; empty if the system has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


def wall_time() -> int:
    """Returns the wall clock's time in microseconds since the Unix epoch."""
    return time.time_ns() // 1000
