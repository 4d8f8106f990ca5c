"""HTTP/1.1 as a console speaks it: uvicorn's, with limits for those that ask for nothing."""

from __future__ import annotations

import asyncio
import math

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for a request's headers to arrive, and then for the rest of what was not read; and for
#: a client to take something of a response.
_PATIENCE = 10.0


class Http(H11Protocol):
    """A connection of a browser.

    uvicorn keeps one that sends nothing, or sends slowly, for as long as the client likes. Here it
    is cut off, and at once when there are too many connections: so those that have logged in are
    served however many others there are.
    """

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # since when it has had no request, on the loop's clock
    _unsent: float = math.inf  # bytes of responses at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) >= (self.limit_concurrency or math.inf):
            others = [each for each in self.connections if isinstance(each, Http)]
            if idle := [each for each in others if each is not self and not each._busy]:
                min(idle, key=lambda each: each._since)._cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self._busy:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if not self._busy:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """See uvicorn, which fails if a request is being handled, or a response was begun."""
        if self._busy:
            self.cycle.disconnected = True  # what it responds is dropped
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self._cut_off()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._stop_waiting()
        self._since, self._unsent = self.loop.time(), math.inf
        self._timer = self.loop.call_later(_PATIENCE, self._look)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Cut it off, unless the client still takes responses."""
        unsent = self.transport.get_write_buffer_size()
        if not 0 < unsent < self._unsent:
            self._cut_off()
            return
        self._unsent = unsent
        self._timer = self.loop.call_later(_PATIENCE, self._look)

    def _cut_off(self) -> None:
        self.connections.discard(self)
        self.transport.abort()
