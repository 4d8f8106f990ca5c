"""When one wait is retried, when it ends, and with which error."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from bus_client.calls import backoff
from bus_client.errors import BusError, Draining, StoreBusy, Unreachable, bare
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse

_CONNECT = 2.0  # seconds that a finite wait may take to reach the server, however short it is
_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts
_SHORTEST = 0.02  # seconds for an attempt: a shorter one only hides why those before it failed
_SETTLED = 1.0  # seconds that a stream lives which is not just cut off each time
_MOST_IDLE = 50  # frames without progress that are read in a second
_MOST_FAILING = 60.0  # seconds that an endless wait may fail without progress
#: Failures that mean a lost connection or a busy server, however long they go on.
_DISCONNECTIONS = {Unreachable, Draining, StoreBusy}


class Attempts:
    """Retry policy of one wait: fed with its frames and failures, it says how long to pause.

    Progress is a cursor that moved, as it does with each message, or `caught_up`. `started` and
    keepalives are none: a server that cannot read the thread sends them, too.

    Attributes:
        give_up: When to stop retrying, on the clock: the deadline; before any progress at least
            2 s from the start.
    """

    def __init__(self, clock: Callable[[], float], deadline: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self.give_up = max(deadline, clock() + _CONNECT)
        self._pauses = backoff(_PAUSE, _LONGEST_PAUSE)
        self._failing_since: float | None = None
        self._failure: BusError | None = no_answer()
        self._delivered = self._caught_up = False
        # Of the attempt under way:
        self._began = 0.0
        self._frames = 0
        self._told_caught_up = False
        # Frames without progress within a second.
        self._idle, self._idle_since = 0, -math.inf

    def begin(self) -> None:
        """To be called when a stream is opened."""
        self._began = self._clock()
        self._frames, self._told_caught_up = 0, False

    def received(self, frame: WaitMessagesResponse, *, moved: bool, delivered: bool) -> bool:
        """To be called with each frame: whether it moved the cursor, and delivers messages.

        Returns whether it is idle, that is without progress. Raises Unreachable for an idle frame
        after the deadline.
        """
        self._frames += 1
        caught_up = frame.HasField("caught_up") and not self._told_caught_up
        if frame.HasField("started"):
            # It may name a newer head: then there is more to read.
            here = frame.started.threads
            self._caught_up &= not here or here[0].head_seq <= here[0].cursor.after_seq
        if caught_up:
            self._told_caught_up = self._caught_up = True
        self._delivered |= delivered
        if moved:
            self._pauses = backoff(_PAUSE, _LONGEST_PAUSE)
        if moved or caught_up:
            self._failing_since, self.give_up = None, self._deadline
            return False
        if frame.HasField("ending"):
            return False
        if self._frames > 1 and self._clock() >= self.give_up and not frame.HasField("resync"):
            raise never_ending()
        return True

    async def slow_down(self) -> None:
        """To be awaited after each idle frame: bounds how many of them are read in a second."""
        now = self._clock()
        if now - self._idle_since >= 1.0:
            self._idle, self._idle_since = 0, now
        self._idle += 1
        if self._idle > _MOST_IDLE:
            end = min(self._idle_since + 1.0, max(self.give_up, now))
            await asyncio.sleep(end - now)

    def failed(self, error: BusError) -> None:
        """To be called when a stream ended early. Keeps the error, without its traceback.

        Raises `error` if a wait without a deadline has failed for a minute without progress, and
        not only for want of a connection.
        """
        self._failure = bare(error)
        now = self._clock()
        if self._told_caught_up and now - self._began >= _SETTLED:
            self._pauses = backoff(_PAUSE, _LONGEST_PAUSE)
        if type(error) in _DISCONNECTIONS:
            return
        if self._failing_since is None:
            self._failing_since = now
        if self._deadline == math.inf and now - self._failing_since >= _MOST_FAILING:
            self._failure = None
            try:
                raise error
            finally:
                del error  # see bare()

    def pause(self, delay: float) -> float:
        """Seconds until the next attempt: `delay`, which the server asked for, or longer.

        Until the end, if too little time would be left for that attempt.
        """
        wanted, left = max(next(self._pauses), delay), max(self.give_up - self._clock(), 0.0)
        return wanted if wanted <= left - _SHORTEST else left

    def is_over(self) -> bool:
        """Whether there is no time left for another attempt."""
        return self._clock() > self.give_up - _SHORTEST

    def end(self) -> None:
        """To be called when the time is over.

        Raises the last failure if nothing was delivered and the end of history was not reached:
        then nobody knows whether there is something to read.
        """
        failure, self._failure = self._failure, None
        try:
            if failure is not None and not (self._delivered or self._caught_up):
                raise failure
        finally:
            del failure  # see bare()


def no_answer() -> Unreachable:
    """The error of a wait that never reached the server."""
    return Unreachable("No answer came.", code="UNAVAILABLE")


def never_ending() -> Unreachable:
    """The error of a wait that the server does not end though its time is over."""
    return Unreachable("The server did not end the wait.", code="DEADLINE_EXCEEDED")
