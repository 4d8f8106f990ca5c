"""Outgoing frames, counted against a budget until gRPC has sent them."""

from collections.abc import Awaitable, Callable

from bus_server.budget import SMALL, Budget

Write = Callable[[bytes], Awaitable[None]]


class FrameWriter:
    """Sends the frames of one call. Release it when the call ends.

    gRPC keeps a frame, and a copy of it, until the caller's flow control window admits it.
    """

    __slots__ = ("_budget", "_caller", "_reserved", "_write")

    def __init__(self, budget: Budget, caller: str, write: Write) -> None:
        self._budget = budget
        self._caller = caller
        self._write = write
        self._reserved = 0

    @property
    def timeout(self) -> float:
        """Seconds after which to stop waiting for room."""
        return self._budget.timeout

    async def reserve(self, size: int, timeout: float | None = None) -> None:
        """Returns once there is room for a frame of about `size` bytes.

        Raises StoreBusy if there was none within `timeout` seconds. None: the budget's timeout;
        infinite: never.
        """
        if size > SMALL and not self._reserved:
            await self._budget.take(self._caller, size, timeout)
            self._reserved = size

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a frame. Completes when gRPC accepts the next one. Raises StoreBusy without room."""
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
        """Release what was reserved."""
        if self._reserved:
            self._budget.give(self._caller, self._reserved)
            self._reserved = 0
