"""A connection that sends requests without finishing them, and reads only as much as it likes."""

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

#: As much of HTTP/2 as needed.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_CANCEL = 8
_MAX_STREAMS, _INITIAL_WINDOW = 3, 4
_PIECE = 16_384
_WIDE = 2**30


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(path: str, token: str) -> bytes:
    pairs = {
        **{":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"},
        **{"te": "trailers", "content-type": "application/grpc"},
        **({"authorization": f"Bearer {token}"} if token else {}),
    }
    return b"".join(
        b"\0" + bytes([len(key)]) + key.encode() + bytes([len(value)]) + value.encode()
        for key, value in pairs.items()
    )


class RawConnection:
    """Obeys the server's flow control and responds to pings, but opens no window of its own."""

    def __init__(self, address: str, *, window: int = 0) -> None:
        """`window`: bytes of each response that the server may send."""
        self._address = address
        self._own_window = window
        self._window = self._stream_window = 65_535
        #: What is still to be sent on each stream, and how much of it the server accepts now.
        self._bodies: dict[int, bytearray] = {}
        self._windows: dict[int, int] = {}
        self._next = 1
        self._settled = asyncio.Event()
        #: Streams that are open, those that have ended, and bytes of bodies that were sent.
        self.open: set[int] = set()
        #: Streams on which the server has started to respond.
        self.answered: set[int] = set()
        self.ended: deque[int] = deque()
        self.sent = 0
        #: The calls that the server lets a connection have open.
        self.max_streams = 0
        #: Pings sent, pings acknowledged, and the error code of the server's GOAWAY.
        self.pings = self.pongs = 0
        self.farewell: int | None = None

    async def __aenter__(self) -> Self:
        host, _, port = self._address.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, self._own_window))
        wide = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDE))
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + wide)
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(10):
            await self._settled.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._reading, self._writer.wait_closed(), return_exceptions=True)

    def begin(self, path: str, body: bytes, *, announced: int, token: str = "") -> int:
        """Begin a call whose request is announced as longer than what is sent of it."""
        stream = self._start(path, token)
        self._bodies[stream] = bytearray(b"\0" + struct.pack(">I", announced) + body)
        self._send()
        return stream

    def call(self, path: str, body: bytes, *, token: str = "") -> int:
        """Make a call; its request must fit the first window."""
        stream = self._start(path, token)
        message = b"\0" + struct.pack(">I", len(body)) + body
        self._writer.write(_frame(_DATA, _END_STREAM, stream, message))
        return stream

    def cancel(self, stream: int) -> None:
        """Reset a call."""
        self._writer.write(_frame(_RST_STREAM, 0, stream, struct.pack(">I", _CANCEL)))
        self.open.discard(stream)
        self._bodies.pop(stream, None)

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._reading.done()

    def ping(self) -> None:
        """Send a ping."""
        self.pings += 1
        self._writer.write(_frame(_PING, 0, 0, bytes(8)))

    async def reset_many(self, path: str, count: int) -> None:
        """Begin calls and reset each at once."""
        for _ in range(0, count, 100):
            for _ in range(100):
                self.cancel(self._start(path, ""))
            await self._writer.drain()

    def _start(self, path: str, token: str) -> int:
        stream, self._next = self._next, self._next + 2
        self._writer.write(_frame(_HEADERS, _END_HEADERS, stream, _headers(path, token)))
        self._windows[stream] = self._stream_window
        self.open.add(stream)
        return stream

    def _send(self) -> None:
        for stream, body in list(self._bodies.items()):
            while body and (size := min(_PIECE, len(body), self._windows[stream], self._window)):
                self._writer.write(_frame(_DATA, 0, stream, bytes(body[:size])))
                del body[:size]
                self._windows[stream] -= size
                self._window -= size
                self.sent += size

    async def _read(self) -> None:
        async for kind, flags, stream, payload in self._frames():
            if kind == _HEADERS:
                self.answered.add(stream)
            if kind == _SETTINGS and not flags & _ACK:
                for key, value in struct.iter_unpack(">HI", payload):
                    if key == _INITIAL_WINDOW:
                        for each in self._windows:
                            self._windows[each] += value - self._stream_window
                        self._stream_window = value
                    elif key == _MAX_STREAMS:
                        self.max_streams = value
                self._writer.write(_frame(_SETTINGS, _ACK, 0))
                self._settled.set()
            elif kind == _PING and flags & _ACK:
                self.pongs += 1
            elif kind == _GOAWAY:
                self.farewell = int.from_bytes(payload[4:8], "big")
            elif kind == _PING:
                self._writer.write(_frame(_PING, _ACK, 0, payload))
            elif kind == _WINDOW_UPDATE and not stream:
                self._window += struct.unpack(">I", payload)[0]
            elif kind == _WINDOW_UPDATE and stream in self._windows:
                self._windows[stream] += struct.unpack(">I", payload)[0]
            elif kind == _RST_STREAM or (flags & _END_STREAM and kind in (_DATA, _HEADERS)):
                if stream in self.open:
                    self.open.remove(stream)
                    self.ended.append(stream)
                self._bodies.pop(stream, None)
            self._send()

    async def _frames(self) -> AsyncIterator[tuple[int, int, int, bytes]]:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                yield head[3], head[4], int.from_bytes(head[5:], "big"), payload
