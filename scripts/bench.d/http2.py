"""A minimal HTTP/2 client for gRPC: for load generators that must be faster than the servers.

It sends prepared bytes over plain TCP and decodes no headers: a call takes a third of the CPU time
that a bare grpc.aio server needs for it. It does not look at the gRPC status: a call without a
response message has failed.
"""

import socket
import struct
from collections import deque
from collections.abc import Sequence

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_MAX_STREAMS, _INITIAL_WINDOW = 3, 4  # settings
_LARGEST_FRAME = 16_384  # bytes
_FRAME = struct.Struct(">IBI")  # length and type, flags, stream
_HEAD = 9  # bytes
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WIDEST = 2**31 - 1


def message(request: bytes) -> bytes:
    """Returns a request as gRPC sends it: with its length before it."""
    return b"\0" + struct.pack(">I", len(request)) + request


def headers(address: str, method: str, metadata: Sequence[tuple[str, str]] = ()) -> bytes:
    """Returns the encoded headers of calls to a method, such as `threadbus.v1.BusService/Post`."""
    named = [("te", "trailers"), ("content-type", "application/grpc"), *metadata]
    return (
        b"\x83\x86"  # :method POST, :scheme http
        + b"\x04"  # :path
        + _text(f"/{method}")
        + b"\x01"  # :authority
        + _text(address)
        + b"".join(b"\x00" + _text(name) + _text(value) for name, value in named)
    )


def _text(value: str) -> bytes:
    """Returns a string of a header block, without Huffman coding."""
    data = value.encode("ascii")
    if len(data) >= 127:
        raise ValueError("the header is too long")
    return bytes([len(data)]) + data


class Connection:
    """One connection. Not thread-safe; its owner waits with select() until it is readable."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", _INITIAL_WINDOW, _WIDEST)
        self._out = bytearray(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDEST - 65_535))
        )
        self._in = b""
        self._next = 1
        self._open = 0
        self._max_streams = 2**31
        self._window = 65_535
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._settled = False
        self.flush()
        while not self._settled:
            self.receive()
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Returns the file descriptor, for select()."""
        return self._socket.fileno()

    def call(self, headers: bytes, message: bytes) -> int:
        """Start a call, or queue it if the server accepts no more at once. Returns its stream."""
        stream = self._next
        self._next += 2
        self._queue.append((stream, headers, message))
        self._send()
        return stream

    def flush(self) -> bool:
        """Write what is due. Returns whether all of it was written."""
        if self._out:
            try:
                del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                return False
        return not self._out

    def receive(self) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Read what has arrived. Returns (stream, data) of each data frame, and the ended streams.

        Raises:
            RuntimeError: The server closed the connection, or is about to.
        """
        try:
            got = self._socket.recv(1 << 18)
        except BlockingIOError:
            return [], []
        if not got:
            raise RuntimeError("the server closed the connection")
        data = self._in + got if self._in else got
        at, end = 0, len(data)
        found: list[tuple[int, bytes]] = []
        ended: list[int] = []
        while end - at >= _HEAD:
            first, flags, stream = _FRAME.unpack_from(data, at)
            kind, after = first & 255, at + _HEAD + (first >> 8)
            if after > end:
                break
            if kind == _DATA:
                if first >> 8:
                    found.append((stream, data[at + _HEAD : after]))
                if flags & _END_STREAM:
                    ended.append(stream)
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    ended.append(stream)
            elif kind == _RESET:
                ended.append(stream)
            else:
                self._control(kind, flags, stream, data[at + _HEAD : after])
            at = after
        self._in = data[at:]
        self._open -= len(ended)
        if self._queue:
            self._send()
        return found, ended

    def close(self) -> None:
        """Close the connection, and with it all calls."""
        self._socket.close()

    def _send(self) -> None:
        while self._queue:
            stream, head, body = self._queue[0]
            if self._open >= self._max_streams or self._window < len(body):
                return
            self._queue.popleft()
            self._open += 1
            self._window -= len(body)
            self._out += _frame(_HEADERS, _END_HEADERS, stream, head)
            self._out += _frame(_DATA, _END_STREAM, stream, body)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _MAX_STREAMS:
                    self._max_streams = value
            self._out += _frame(_SETTINGS, _ACK, 0, b"")
            self._settled = True
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _GOAWAY:
            raise RuntimeError(f"the server ends the connection: {payload[8:].decode()}")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    if len(payload) > _LARGEST_FRAME:
        raise ValueError("the message is too large for one frame")
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload
