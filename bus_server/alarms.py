"""Times at which waits must run, on one timer of the event loop."""

import asyncio
import heapq
from typing import Protocol


class Sleeper(Protocol):
    """The owner of an alarm."""

    def ring(self) -> None:
        """Called once, at the time of the alarm or soon after it. Must not raise."""


class Alarm:
    """A time on the event loop's clock, and the sleeper to call then; None: it was cancelled."""

    __slots__ = ("at", "sleeper")

    def __init__(self, at: float, sleeper: Sleeper) -> None:
        self.at = at
        self.sleeper: Sleeper | None = sleeper

    def __lt__(self, other: "Alarm") -> bool:
        return self.at < other.at

    def cancel(self) -> None:
        """Do not call the sleeper."""
        self.sleeper = None


class Alarms:
    """All alarms of a server. Use it on the event loop only.

    They share one timer: each timer of uvloop takes 570 bytes, and there may be ten thousand idle
    waits.
    """

    def __init__(self) -> None:
        #: A heap. Cancelled alarms stay in it until their time.
        self._alarms: list[Alarm] = []
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float, sleeper: Sleeper) -> Alarm:
        """Call `sleeper.ring` at a time on the event loop's clock. Returns the alarm."""
        alarm = Alarm(at, sleeper)
        heapq.heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self._set_timer(at)
        return alarm

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._alarms and self._alarms[0].at <= now:
            sleeper = heapq.heappop(self._alarms).sleeper
            if sleeper is not None:
                sleeper.ring()
        if self._alarms and self._timer is None:
            self._set_timer(self._alarms[0].at)
