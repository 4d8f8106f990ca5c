"""Outgoing frames, counted against a budget until gRPC has sent them."""

from collections.abc import Awaitable, Callable

from bus_server.budget import SMALL, Budget

Write = Callable[[bytes], Awaitable[None]]


class Outlet:
    """The outgoing frames of one call. Close it when the call ends.

    gRPC keeps a frame, and a copy of it, until the caller's flow control window admits it.
    """

    __slots__ = ("_budget", "_caller", "_held", "_write")

    def __init__(self, budget: Budget, caller: str, write: Write) -> None:
        self._budget = budget
        self._caller = caller
        self._write = write
        self._held = 0

    @property
    def patience(self) -> float:
        """Seconds after which to stop waiting for room."""
        return self._budget.timeout

    async def room(self, size: int, timeout: float | None = None) -> None:
        """Return once there is room for a frame of about so many bytes.

        Raises StoreBusy when there was none within `timeout` seconds (None: as usual, infinite:
        never).
        """
        if size > SMALL and not self._held:
            await self._budget.take(self._caller, size, timeout)
            self._held = size

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a frame; completes when gRPC takes the next one. Raises StoreBusy without room."""
        if not self._held and len(frame) <= SMALL:
            return self._write(frame)
        return self._send_counted(frame)

    async def _send_counted(self, frame: bytes) -> None:
        await self.room(len(frame))
        if len(frame) != self._held:
            self._budget.change(self._caller, len(frame) - self._held)
            self._held = len(frame)
        try:
            await self._write(frame)
        finally:
            self.close()

    def close(self) -> None:
        """Release what is reserved."""
        if self._held:
            self._budget.give(self._caller, self._held)
            self._held = 0
