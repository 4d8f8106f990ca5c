"""Retry policies: how long to pause before a retry, and when to give up."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator

from bus_client.errors import (
    BusError,
    Draining,
    StoreBusy,
    StoreFailed,
    Unreachable,
    strip_traceback,
)
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse

_CONNECT_TIMEOUT = 2.0  # seconds for a finite wait to reach the server, however short it is
_MIN_PAUSE, _MAX_PAUSE = 0.05, 2.0  # seconds between two streams of a wait
_MIN_ATTEMPT = 0.02  # seconds: a shorter attempt would only hide why earlier ones failed
_STABLE_AFTER = 1.0  # seconds: a stream that caught up and lasted this long restarts the backoff
#: The maximum number of frames without progress that are read in a second, and one per thread.
_MAX_IDLE_FRAMES = 50
_MAX_FAILING = 60.0  # seconds that a wait without a deadline may fail without progress
#: Failures for want of a server that can answer: they do not count towards _MAX_FAILING.
_DISCONNECTIONS = {Unreachable, Draining, StoreBusy}


def backoff(first: float, longest: float) -> Iterator[float]:
    """Yields the pauses between retries, in seconds: from `first`, doubling up to `longest`.

    Each pause is shortened by up to a half, at random, so that clients do not retry in step.
    """
    step = first
    while True:
        yield step * random.uniform(0.5, 1.0)  # noqa: S311
        step = min(step * 2, longest)


class WaitRetry:
    """The retry policy of one wait, over all streams of the wait.

    The caller reports each stream, frame and failure; the policy decides how long to pause, when to
    stop and which error to raise. For one task only.

    A frame is progress if it moves the cursor, as messages do, adds or removes a thread, or is the
    first `caught_up` of its stream. `started` and keepalives are not progress: a server that cannot
    read the thread sends them, too.

    Attributes:
        retry_until: When to stop retrying, on `clock`: the deadline, or 2 s after the start if that
            is later and there was no progress yet.
    """

    def __init__(self, clock: Callable[[], float], deadline: float) -> None:
        """`deadline` is a time of `clock`, in seconds; math.inf for a wait without one."""
        self._clock = clock
        self._deadline = deadline
        self.retry_until = max(deadline, clock() + _CONNECT_TIMEOUT)
        self._pauses = backoff(_MIN_PAUSE, _MAX_PAUSE)
        self._failing_since: float | None = None
        self._failure: BusError | None = no_answer()
        self._delivered = self._caught_up = False
        # Of the current stream:
        self._opened_at = 0.0
        self._frames = 0
        self._stream_caught_up = False
        # Number of frames without progress in the second that began at _idle_since.
        self._idle, self._idle_since = 0, -math.inf

    def stream_opened(self) -> None:
        """Record that a stream was opened."""
        self._opened_at = self._clock()
        self._frames, self._stream_caught_up = 0, False

    def frame_received(self, frame: WaitMessagesResponse, *, moved: bool, delivered: bool) -> bool:
        """Record a frame. Returns whether it is idle: not progress, and not an `ending`.

        Args:
            frame: The frame, after it was checked.
            moved: Whether it moved a cursor, or added or removed a thread.
            delivered: Whether it has messages for the caller.

        Raises:
            Unreachable: `retry_until` has passed, and the frame is idle, not a resync, and not the
                first of its stream.
        """
        self._frames += 1
        caught_up = frame.HasField("caught_up") and not self._stream_caught_up
        if frame.HasField("started"):
            # If the head is past the cursor, there is more to read.
            here = frame.started.threads
            self._caught_up &= all(each.head_seq <= each.cursor.after_seq for each in here)
        if caught_up:
            self._stream_caught_up = self._caught_up = True
        self._delivered |= delivered
        if moved:
            self._pauses = backoff(_MIN_PAUSE, _MAX_PAUSE)
        if moved or caught_up:
            self._failing_since, self.retry_until = None, self._deadline
            return False
        if frame.HasField("ending"):
            return False
        if self._frames > 1 and self._clock() >= self.retry_until and not frame.HasField("resync"):
            raise never_ended()
        return True

    async def throttle(self, threads: int) -> None:
        """Record an idle frame of a wait on so many threads.

        After more than 50 in a second, and one per thread, sleep until the second is over. A server
        may send the participants of each thread once a second.
        """
        now = self._clock()
        if now - self._idle_since >= 1.0:
            self._idle, self._idle_since = 0, now
        self._idle += 1
        if self._idle > _MAX_IDLE_FRAMES + threads:
            end = min(self._idle_since + 1.0, max(self.retry_until, now))
            await asyncio.sleep(end - now)

    def stream_failed(self, error: BusError) -> None:
        """Record that a stream ended early. Keeps the error, without its traceback.

        Raises:
            BusError: `error` itself: a wait without a deadline has failed for a minute without
                progress. Failures for want of a server that can answer do not count.
        """
        self._failure = strip_traceback(error)
        if isinstance(error, StoreBusy | StoreFailed):
            self._caught_up = False  # the server does not know what the thread has now
        now = self._clock()
        if self._stream_caught_up and now - self._opened_at >= _STABLE_AFTER:
            self._pauses = backoff(_MIN_PAUSE, _MAX_PAUSE)
        if type(error) in _DISCONNECTIONS:
            return
        if self._failing_since is None:
            self._failing_since = now
        if self._deadline == math.inf and now - self._failing_since >= _MAX_FAILING:
            self._failure = None
            try:
                raise error
            finally:
                del error  # see strip_traceback()

    def next_pause(self, at_least: float) -> float:
        """Returns the seconds to pause before the next stream, at least `at_least`.

        If the pause would leave too little time for another stream, returns all remaining time.
        """
        wanted = max(next(self._pauses), at_least)
        left = max(self.retry_until - self._clock(), 0.0)
        return wanted if wanted <= left - _MIN_ATTEMPT else left

    def expired(self) -> bool:
        """Returns whether too little time is left for another stream."""
        return self._clock() > self.retry_until - _MIN_ATTEMPT

    def raise_if_unread(self) -> None:
        """Raises the last failure of an expired wait if there may be messages that were not read.

        Raises:
            BusError: The last failure: no message was delivered, and the end of the thread was not
                reached.
        """
        failure, self._failure = self._failure, None
        try:
            if failure is not None and not (self._delivered or self._caught_up):
                raise failure
        finally:
            del failure  # see strip_traceback()


def no_answer() -> Unreachable:
    """Returns the error for a wait that never reached the server."""
    return Unreachable("The server did not answer.", code="UNAVAILABLE")


def never_ended() -> Unreachable:
    """Returns the error for a wait that the server keeps open past its deadline."""
    return Unreachable("The server did not end the wait.", code="DEADLINE_EXCEEDED")
