"""Incoming requests: a byte budget, a time limit for each to arrive, and eviction.

gRPC buffers a request and reports it only once it is complete, so a request that is being read
counts as the largest there can be. Until it is read, flow control holds back all but its first
bytes.
"""

import asyncio
from collections import Counter
from typing import Any, TypeAlias

import grpc

from bus_server.budget import SMALL, Budget
from bus_server.errors import BusError, StoreBusy
from bus_server.settings import MAX_CALL_BYTES

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

#: A request of so many bytes costs this many times as many while it is handled: as it is parsed,
#: and as what becomes of it.
COPIES = 2
#: Seconds that a request may take to arrive though others wait: one of several of its caller, and
#: its only one. In one building the largest takes less.
PATIENCE, LONG = 0.1, 1.0
#: Seconds without a request after which a stream counts as idle, and makes room for others.
IDLE = 3.0


class Arrivals:
    """All requests that are being read."""

    def __init__(self, budget: Budget, timeout: float) -> None:
        """`timeout`: seconds that a request may take to arrive."""
        self.budget = budget
        self._timeout = timeout
        #: Those being read, the oldest first.
        self._reading: dict[Arrival, None] = {}
        #: Look for those that take too long; look for some that should make room.
        self._late: asyncio.TimerHandle | None = None
        self._crowded: asyncio.TimerHandle | None = None

    def add(self, arrival: "Arrival") -> float:
        """Track a request that is being read, until `remove`. Returns now, on the loop's clock."""
        self._reading[arrival] = None
        loop = asyncio.get_running_loop()
        if self._late is None:
            self._late = loop.call_later(self._timeout, self._refuse_late)
        return loop.time()

    def remove(self, arrival: "Arrival") -> None:
        """Stop tracking a request: it has arrived, or its call has ended."""
        del self._reading[arrival]

    def make_room(self) -> None:
        """Evict slow requests in favor of waiting callers; repeats while any caller waits.

        For a caller that holds nothing: the oldest idle stream, else the oldest request of the
        caller with the most, or one older than LONG. For any other caller: its own idle streams.
        """
        if self._crowded is not None:
            return
        loop = asyncio.get_running_loop()
        staying = [arrival for arrival in self._reading if arrival.refusal is None]
        waiting = self.budget.waiting
        for caller in waiting[len(self._reading) - len(staying) :]:
            arrival = self._in_no_hurry(staying, caller, loop.time())
            if arrival is not None:
                staying.remove(arrival)
                arrival.refuse("others waited for the room that this call took up")
            elif not self.budget.holds(caller):
                break  # nothing can be evicted for the remaining callers either
        if waiting:
            self._crowded = loop.call_later(PATIENCE, self._look_again)

    def _in_no_hurry(self, staying: "list[Arrival]", caller: str, now: float) -> "Arrival | None":
        """Returns the request to evict in favor of a caller, or None."""
        if self.budget.holds(caller):
            return next((a for a in staying if a.caller == caller and a.idle(now)), None)
        counts = Counter(arrival.caller for arrival in staying)
        most = max(counts.values(), default=0)
        slow = [
            arrival
            for arrival in staying
            if (arrival.since < now - PATIENCE and counts[arrival.caller] == most > 1)
            or arrival.since < now - LONG
        ]
        return next((a for a in staying if a.idle(now)), slow[0] if slow else None)

    def _look_again(self) -> None:
        self._crowded = None
        self.make_room()

    def _refuse_late(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._timeout
        self._late = None
        for arrival in self._reading:
            if arrival.stream or arrival.refusal:
                continue
            if arrival.since > latest:
                self._late = loop.call_at(arrival.since + self._timeout, self._refuse_late)
                return
            arrival.refuse(f"the request did not arrive within {self._timeout:g} s")


class Arrival:
    """The request of one call, or the requests of a stream. Close it when the call ends."""

    __slots__ = ("_arrivals", "_context", "_held", "_task", "caller", "refusal", "since", "stream")

    def __init__(
        self, arrivals: Arrivals, context: Context, caller: str, *, stream: bool = False
    ) -> None:
        self._arrivals = arrivals
        self._context = context
        self._held = 0
        self._task: asyncio.Task[Any] | None = None
        self.caller = caller
        #: A client stream: requests may come at any interval.
        self.stream = stream
        #: When the current read began, on the loop's clock.
        self.since = 0.0
        #: Why it was evicted, if it was.
        self.refusal: BusError | None = None

    def idle(self, now: float) -> bool:
        """Returns whether it is a stream without a request for IDLE seconds."""
        return self.stream and self.since < now - IDLE

    async def receive(self) -> bytes | None:
        """Read the next request. Returns None at the end of the stream.

        Raises:
            StoreBusy: there was no room for it, it took too long, or it was evicted.
        """
        arrivals, budget = self._arrivals, self._arrivals.budget
        if not budget.take_now(self.caller, MAX_CALL_BYTES):
            asyncio.get_running_loop().call_soon(arrivals.make_room)  # once this one waits
            await budget.take(self.caller, MAX_CALL_BYTES)
        self.since = arrivals.add(self)
        self._task = asyncio.current_task()
        size = 0
        try:
            data = await self._context.read()
            if data is grpc.aio.EOF:
                return None
            if len(data) > SMALL:
                size = len(data) * COPIES
                self._held += size
            received: bytes = data
            return received
        except asyncio.CancelledError:
            if self.refusal is None:
                raise
            if self._task is not None:
                self._task.uncancel()
            raise self.refusal from None
        finally:
            self._task = None
            arrivals.remove(self)
            budget.change(self.caller, size - MAX_CALL_BYTES)

    def handled(self, size: int) -> None:
        """Release a request of `size` bytes that has been handled."""
        if size > SMALL:
            self._held -= size * COPIES
            self._arrivals.budget.give(self.caller, size * COPIES)

    def close(self) -> None:
        """Release everything."""
        if self._held:
            self._arrivals.budget.give(self.caller, self._held)
            self._held = 0

    def refuse(self, why: str) -> None:
        """Stop reading: `receive` raises StoreBusy."""
        self.refusal = StoreBusy(why)
        if self._task is not None:
            self._task.cancel()
