"""The store's clock: that of the database's machine, as far as a server can know it."""

import time

from bus_server.store.clock import StoreClock


class DatabaseClock(StoreClock):
    """The database's clock, carried on by this machine's monotonic clock between its answers.

    All servers on the database have the same, up to the time of an answer. If the database's clock
    is set back, this one stands still until that has caught up.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._latest = 0

    def now(self) -> int:
        self._latest = max(self._latest, super().now())
        return self._latest

    def time(self) -> int:
        return self.now()

    def wall(self, moment: int) -> int:
        return moment  # the database's clock is a wall clock

    def observe(self, sent: int, told: int) -> None:
        """Adjust the clock to an answer of the database.

        Args:
            sent: when the question was sent, as `monotonic` returned it.
            told: the database's time, at some moment between then and now.
        """
        lowest, highest = told - monotonic(), told - sent
        self.base = min(max(self.base, lowest), highest)


def monotonic() -> int:
    """Returns the time of this machine's monotonic clock, in microseconds."""
    return time.monotonic_ns() // 1000
