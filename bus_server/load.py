"""How busy the event loop is."""

import contextlib
import os
import time
from pathlib import Path

#: Two numbers of nanoseconds first: how long the thread that opens it has run, and how long it was
#: ready to run but waited for a core. https://docs.kernel.org/scheduler/sched-stats.html
_STATISTICS = Path("/proc/thread-self/schedstat")
#: Measurements over which the load is smoothed.
_SMOOTHING = 8


class Load:
    """The load of the thread that creates it: 0 = it has only slept, 1 = it always had work.

    It includes the time for which other threads and processes kept it from running. That is not
    known without Linux's statistics of the scheduler, which some kernels show as zeros. Close it.
    """

    def __init__(self) -> None:
        self._statistics: int | None = None
        with contextlib.suppress(OSError):
            self._statistics = os.open(_STATISTICS, os.O_RDONLY | os.O_CLOEXEC)
        if not self._seconds_active():
            self.close()
        self._load = 0.0
        self._time, self._active = time.monotonic(), self._seconds_active()

    def measure(self) -> float:
        """Returns the load, smoothed over the last measurements. Takes 2 µs."""
        now, active = time.monotonic(), self._seconds_active()
        if now > self._time:
            # More than all of it if the thread was kept from running between the two readings.
            share = min((active - self._active) / (now - self._time), 1.0)
            self._load += (share - self._load) / _SMOOTHING
            self._time, self._active = now, active
        return self._load

    def close(self) -> None:
        """Close the file of statistics."""
        if self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None

    def _seconds_active(self) -> float:
        if self._statistics is None:
            return time.thread_time()
        ran, waited, _ = os.pread(self._statistics, 100, 0).split()
        return (int(ran) + int(waited)) / 1e9
