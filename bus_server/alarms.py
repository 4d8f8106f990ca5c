"""Times at which waits must run, on one timer of the event loop."""

import asyncio
import heapq
from typing import Protocol

#: While there are more cancelled alarms than this, and more than others, they are removed.
MAX_CANCELLED = 100
#: Seconds after an alarm's time at which the timer is set.
ROUNDING = 0.0005


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


class Alarms:
    """All alarms of a server. Use it on the event loop only.

    They share one timer: each timer of uvloop takes 570 bytes, and there may be ten thousand idle
    waits.
    """

    def __init__(self) -> None:
        #: A heap. Some of the alarms in it were cancelled.
        self._alarms: list[Alarm] = []
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float, sleeper: Sleeper) -> Alarm:
        """Call `sleeper.ring` at a time on the event loop's clock. Returns the alarm."""
        alarm = Alarm(at, sleeper)
        heapq.heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self._set_timer(at)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Do not call the sleeper of an alarm that has not rung. Call it once at most."""
        alarm.sleeper = None
        self._cancelled += 1
        if self._cancelled > max(MAX_CANCELLED, len(self._alarms) // 2):
            # Their times may be minutes away, and a caller can open and end many waits until then.
            self._alarms = [each for each in self._alarms if each.sleeper is not None]
            heapq.heapify(self._alarms)
            self._cancelled = 0

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # uvloop rounds to milliseconds, and so may run a timer half a millisecond too early.
        self._timer = asyncio.get_running_loop().call_at(at + ROUNDING, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._alarms and self._alarms[0].at <= now:
            sleeper = heapq.heappop(self._alarms).sleeper
            if sleeper is None:
                self._cancelled -= 1
            else:
                sleeper.ring()
        if self._alarms and self._timer is None:
            self._set_timer(self._alarms[0].at)
