"""HTTP/1.1 as a console speaks it: uvicorn's, with limits for clients that ask for nothing."""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for a connection to begin a request: the first with the handshake of TLS, the next ones
#: after a response, of which the client goes on to take something.
_PATIENCE = 10.0
#: Handshakes of TLS at a time, each of which takes 256 KiB of memory.
_MOST_HANDSHAKES = 200


class Http(H11Protocol):
    """A connection of a browser.

    uvicorn keeps one that sends nothing, or sends slowly, for as long as the client likes. Here it
    is cut off, and at once when there are too many connections: so those that have logged in are
    served however many others there are. For this, the handshake of TLS is made here, too.
    """

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # since when it has had no request, on the loop's clock
    _unsent: float = math.inf  # bytes of responses at the last look

    def __init__(self, *, tls: ssl.SSLContext | None, **arguments: Any) -> None:
        """Args:
        tls: For HTTPS. None = HTTP.
        arguments: Those of uvicorn.
        """
        super().__init__(**arguments)
        self._tls = tls
        self._handshake: asyncio.Task[None] | None = None
        #: What came since the handshake; None: there is none, or it is over.
        self._early: bytearray | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._wait()
        if self._tls is not None:
            transport.pause_reading()
            self._early = bytearray()
            self._handshake = self.loop.create_task(self._secure(transport, self._tls))
        self._make_room()

    def _make_room(self) -> None:
        """Cut off the connection that has had no request for the longest, if there are too many."""
        others = [each for each in self.connections if isinstance(each, Http) and each is not self]
        idle = [each for each in others if not each._busy]
        if len(self.connections) < (self.limit_concurrency or math.inf):
            idle = [each for each in idle if each._early is not None]
            if len(idle) < _MOST_HANDSHAKES:
                return
        if idle:
            min(idle, key=lambda each: each._since)._cut_off()

    async def _secure(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(transport, self, tls, server_side=True)
        except OSError:  # the client has gone, is cut off, or speaks no TLS
            secured = None
        early, self._early = self._early, None
        if secured is None or transport.is_closing():
            self._cut_off()
            return
        super().connection_made(secured)
        if early:
            self.data_received(bytes(early))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_waiting()
        if self._handshake is not None:
            self._handshake.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._early is not None:
            self._early += data  # until what responds to it is encrypted
            return
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
        if self._handshake is not None:
            self._handshake.cancel()
        self.transport.abort()
