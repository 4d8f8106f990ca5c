"""Outgoing frames, counted against a budget until gRPC has sent them."""

from collections.abc import Awaitable, Callable

from bus_server.budget import SMALL, Budget
from bus_server.statistics import MethodStatistics

Write = Callable[[bytes], Awaitable[None]]


class FrameWriter:
    """A writer of the frames of one call. Call `release` when the call ends.

    gRPC keeps a frame, and a copy of it, until the caller's flow control window admits it.
    """

    __slots__ = ("_budget", "_caller", "_counted", "_reserved", "_write", "count", "size")

    def __init__(
        self, budget: Budget, caller: str, write: Write, counted: MethodStatistics
    ) -> None:
        """
        Args:
            caller: the fairness key to charge.
            write: the `write` of the call's context.
            counted: counts the frames.
        """
        self._counted = counted
        self._budget = budget
        self._caller = caller
        self._write = write
        self._reserved = 0
        #: Number and bytes of the frames that were to be sent.
        self.count = self.size = 0

    @property
    def timeout(self) -> float:
        """Seconds that `reserve` waits by default."""
        return self._budget.timeout

    async def reserve(self, size: int, timeout: float | None = None) -> None:
        """Wait for room for a frame of about `size` bytes, unless some is reserved already.

        Frames of up to SMALL bytes need none. Raises StoreBusy as `Budget.take` does; `timeout` is
        in seconds; None: the default; math.inf: it waits for as long as it takes.
        """
        if size > SMALL and not self._reserved:
            await self._budget.take(self._caller, size, timeout)
            self._reserved = size

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a serialised frame. Returns an awaitable, done when gRPC accepts the next frame.

        It raises StoreBusy if there is no room in time.
        """
        self._counted.sent += 1
        self.count += 1
        self.size += len(frame)
        if not self._reserved and len(frame) <= SMALL:
            return self._write(frame)
        return self._send_counted(frame)

    async def _send_counted(self, frame: bytes) -> None:
        await self.reserve(len(frame))
        if len(frame) != self._reserved:
            self._budget.change(self._caller, len(frame) - self._reserved)
            self._reserved = len(frame)
        try:
            await self._write(frame)
        finally:
            self.release()

    def release(self) -> None:
        """Release the room that is reserved."""
        if self._reserved:
            self._budget.give(self._caller, self._reserved)
            self._reserved = 0
