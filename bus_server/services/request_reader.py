"""Reads requests: under a byte budget, with a timeout for each to arrive, and with eviction.

gRPC buffers a request and hands it over only once it is complete, so a request that is being read
is charged the maximum size of a request. Until the read begins, flow control holds back all but the
first bytes.
"""

import asyncio
from collections import Counter
from typing import Any, TypeAlias

import grpc

from bus_server.budget import SMALL, Budget
from bus_server.errors import BusError, StoreBusy
from bus_server.statistics import MethodStatistics
from threadbus.limits import MAX_CALL_BYTES

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

#: A request is charged this many times its size while it is handled: for its bytes, and for the
#: message parsed from them.
COPIES = 2
#: Seconds after which a request that is still being read may be evicted while other callers wait:
#: MIN_AGE for one of the caller that has the most of them, if it has several; MAX_AGE for any. On a
#: local network the largest request arrives sooner.
MIN_AGE, MAX_AGE = 0.1, 1.0
#: Seconds without a request after which a stream is idle, and may be evicted.
IDLE_AFTER = 3.0


class PendingReads:
    """All requests that are being read. Use it on the event loop only."""

    def __init__(self, budget: Budget, timeout: float) -> None:
        """
        Args:
            budget: bytes of requests being read or handled, over all callers.
            timeout: seconds that a request may take to arrive, unless it is one of a stream.
        """
        self.budget = budget
        self._timeout = timeout
        #: Oldest first.
        self._reading: dict[RequestReader, None] = {}
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._eviction_timer: asyncio.TimerHandle | None = None

    def limit_time(self, timeout: float) -> None:
        """Change how long a request may take to arrive, and how long calls wait for room.

        Both in seconds. It also applies to requests that are being read, but not to calls that
        wait for room.
        """
        self._timeout = self.budget.timeout = timeout
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._abort_late()

    def add(self, reader: "RequestReader") -> float:
        """Track a request that is being read, until `remove`. Returns the event loop's time."""
        self._reading[reader] = None
        loop = asyncio.get_running_loop()
        if self._deadline_timer is None:
            self._deadline_timer = loop.call_later(self._timeout, self._abort_late)
        return loop.time()

    def remove(self, reader: "RequestReader") -> None:
        """Stop tracking a request: it has arrived, or its call has ended."""
        del self._reading[reader]

    def evict(self) -> None:
        """Evict requests that are being read, if possible one for each waiting caller.

        For a caller that holds no bytes: the oldest idle stream; without one, the oldest request
        that is past MAX_AGE, or past MIN_AGE if its caller has the most requests and more than one.
        For a caller that holds bytes: its own oldest idle stream. Repeats this every MIN_AGE
        seconds while any caller waits.
        """
        if self._eviction_timer is not None:
            return
        loop = asyncio.get_running_loop()
        candidates = [reader for reader in self._reading if reader.refusal is None]
        waiting = self.budget.waiting
        for caller in waiting[len(self._reading) - len(candidates) :]:
            reader = self._choose_victim(candidates, caller, loop.time())
            if reader is not None:
                candidates.remove(reader)
                reader.abort("other callers needed the room that this call was using")
            elif not self.budget.holds(caller):
                break  # nothing can be evicted for the remaining callers either
        if waiting:
            self._eviction_timer = loop.call_later(MIN_AGE, self._evict_again)

    def _choose_victim(
        self, candidates: "list[RequestReader]", caller: str, now: float
    ) -> "RequestReader | None":
        """Returns the request to evict in favour of a caller, as `evict` says, or None."""
        if self.budget.holds(caller):
            return next((a for a in candidates if a.caller == caller and a.idle(now)), None)
        counts = Counter(reader.caller for reader in candidates)
        most = max(counts.values(), default=0)
        slow = [
            reader
            for reader in candidates
            if (reader.since < now - MIN_AGE and counts[reader.caller] == most > 1)
            or reader.since < now - MAX_AGE
        ]
        return next((a for a in candidates if a.idle(now)), slow[0] if slow else None)

    def _evict_again(self) -> None:
        self._eviction_timer = None
        self.evict()

    def _abort_late(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._timeout
        self._deadline_timer = None
        for reader in self._reading:
            if reader.stream or reader.refusal:
                continue
            if reader.since > latest:
                self._deadline_timer = loop.call_at(reader.since + self._timeout, self._abort_late)
                return
            reader.abort(f"the request did not arrive within {self._timeout:g} s")


class RequestReader:
    """A reader of one call's request, or of a stream of them. Close it when the call ends."""

    __slots__ = (
        *("_context", "_counted", "_held", "_pending", "_task"),
        *("caller", "count", "refusal", "since", "size", "stream"),
    )

    def __init__(
        self,
        pending_reads: PendingReads,
        context: Context,
        caller: str,
        counted: MethodStatistics,
        *,
        stream: bool = False,
    ) -> None:
        self._pending = pending_reads
        self._context = context
        self._counted = counted
        self._held = 0
        #: Number and bytes of the requests that were received.
        self.count = self.size = 0
        self._task: asyncio.Task[Any] | None = None
        #: The fairness key that the requests are charged to.
        self.caller = caller
        #: Whether it is a client stream, whose requests may come at any interval.
        self.stream = stream
        #: When the current read began, on the event loop's clock.
        self.since = 0.0
        #: Set when it is aborted: the error that `receive` raises.
        self.refusal: BusError | None = None

    def idle(self, now: float) -> bool:
        """Returns whether it is a stream that has had no request for IDLE_AFTER seconds."""
        return self.stream and self.since < now - IDLE_AFTER

    async def receive(self) -> bytes | None:
        """Returns the next request, serialised; None at the end of the stream.

        It is charged to the budget until `handled`, or `close`.

        Raises:
            StoreBusy: there was no room for the request, it took too long, or it was evicted.
        """
        pending_reads, budget = self._pending, self._pending.budget
        if not budget.take_now(self.caller, MAX_CALL_BYTES):
            asyncio.get_running_loop().call_soon(pending_reads.evict)  # once this reader waits
            await budget.take(self.caller, MAX_CALL_BYTES)
        self.since = pending_reads.add(self)
        self._task = asyncio.current_task()
        size = 0
        try:
            data = await self._context.read()
            if data is grpc.aio.EOF:
                return None
            self._counted.received += 1
            self.count += 1
            self.size += len(data)
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
            pending_reads.remove(self)
            budget.change(self.caller, size - MAX_CALL_BYTES)

    def handled(self, size: int) -> None:
        """Release the bytes of a request of this size, which has been handled."""
        if size > SMALL:
            self._held -= size * COPIES
            self._pending.budget.give(self.caller, size * COPIES)

    def close(self) -> None:
        """Release the bytes of all requests that were not `handled`."""
        if self._held:
            self._pending.budget.give(self.caller, self._held)
            self._held = 0

    def abort(self, why: str) -> None:
        """Stop reading: `receive` raises StoreBusy with `why` in its message."""
        self.refusal = StoreBusy(why)
        if self._task is not None:
            self._task.cancel()
