"""The part of HTTP/2 that attacks need: a non-blocking connection and raw frames.

A gRPC library follows rules that an attacker breaks. This client respects the server's windows and
settings and acknowledges its pings, since the server would disconnect it otherwise.
"""

import socket
import struct
from collections import deque
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)
#: Bytes: the largest window, and the initial window of a connection.
WIDEST, FIRST_WINDOW = 2**31 - 1, 65_535
#: Bytes of a DATA frame that every server accepts.
_PIECE = 16_384
#: Bytes queued for the socket above which no more DATA is queued.
_BUFFERED = 256 * 1024
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 3, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: str) -> bytes:
    """Returns a header as an unindexed literal. Name and value must have at most 126 bytes."""
    key, text = name.encode(), value.encode()
    return b"\0" + bytes([len(key)]) + key + bytes([len(text)]) + text


def headers(path: str, token: str = "") -> bytes:
    """Returns the headers of a gRPC call."""
    pairs = [
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")),
        *(("te", "trailers"), ("content-type", "application/grpc")),
    ]
    if token:
        pairs.append(("authorization", f"Bearer {token}"))
    return b"".join(header(name, value) for name, value in pairs)


def message(body: bytes) -> bytes:
    """Returns a message with gRPC's 5-byte prefix."""
    return b"\0" + struct.pack(">I", len(body)) + body


@dataclass(frozen=True, slots=True)
class Call:
    """A call to send."""

    headers: bytes
    #: Sent as DATA.
    body: bytes | memoryview
    #: Whether the stream is half-closed after the body.
    finished: bool = True


class _Upload:
    """The body of a call that is being sent."""

    __slots__ = ("call", "sent", "window")

    def __init__(self, call: Call, window: int) -> None:
        self.call, self.sent, self.window = call, 0, window


class Connection:
    """A connection to a server on loopback. The caller polls its socket and closes it."""

    def __init__(self, port: int, *, window: int = WIDEST, acknowledge: bool = True) -> None:
        """
        Args:
            window: bytes that the server may send of each response; never increased. The window of
                the connection itself stays large.
            acknowledge: whether to acknowledge the server's settings, which a server enforces only
                then."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._acknowledge = acknowledge
        self._in = bytearray()
        self._out = bytearray(PREFACE)
        self._out += frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window))
        self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDEST - FIRST_WINDOW))
        self._taken = 0
        self._window = self._stream_window = FIRST_WINDOW
        self._uploads: dict[int, _Upload] = {}
        self._sendable: deque[int] = deque()
        self.next_stream = 1
        #: The streams of open calls.
        self.open: set[int] = set()
        #: The server's limit of concurrent streams.
        self.max_streams = 2**31
        #: Whether the server's settings were received.
        self.settled = False
        #: Whether the server accepts no more calls, or has closed the connection.
        self.ended = False
        #: Counts: bytes of bodies sent, calls with a response, calls that the server reset.
        self.uploaded = self.answers = self.resets = 0

    @property
    def pending(self) -> int:
        """Returns the number of bytes queued for the socket."""
        return len(self._out)

    def send(self, data: bytes | bytearray) -> None:
        """Queue frames for the socket."""
        self._out += data

    def start(self, call: Call) -> int:
        """Open a stream and send the call as the server's windows permit. Returns the stream id."""
        stream = self.next_stream
        self.next_stream += 2
        self.open.add(stream)
        empty = not call.body
        flags = END_HEADERS | (END_STREAM if empty and call.finished else 0)
        self._out += frame(HEADERS, flags, stream, call.headers)
        if not empty:
            self._uploads[stream] = _Upload(call, self._stream_window)
            self._sendable.append(stream)
        return stream

    def flush(self) -> None:
        """Write what the socket and the server's windows permit now."""
        while not self.ended:
            self._cut()
            if not self._out:
                return
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                return
            del self._out[:sent]

    @property
    def wants_to_write(self) -> bool:
        """Returns whether there is data to write that the server's windows permit."""
        return bool(self._out) or (bool(self._sendable) and self._window > 0)

    def receive(self) -> None:
        """Read what has arrived, and count the calls that have ended."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return
        self._in += data
        taken, at, size = self._in, 0, len(self._in)
        while size - at >= 9:
            end = at + 9 + (taken[at] << 16 | taken[at + 1] << 8 | taken[at + 2])
            if end > size:
                break
            kind, flags = taken[at + 3], taken[at + 4]
            stream = int.from_bytes(taken[at + 5 : at + 9], "big")
            if kind == RST_STREAM or (flags & END_STREAM and kind in (DATA, HEADERS)):
                if stream in self.open:
                    self.open.remove(stream)
                    self._uploads.pop(stream, None)
                    if kind == RST_STREAM:
                        self.resets += 1
                    else:
                        self.answers += 1
            elif kind not in (DATA, HEADERS):
                self._obey(kind, flags, stream, bytes(taken[at + 9 : end]))
            if kind == DATA:
                self._taken += end - at - 9
            at = end
        del taken[:at]
        if self._taken > WIDEST // 4:
            self._out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken))
            self._taken = 0

    def close(self) -> None:
        """Close the socket without GOAWAY."""
        self.ended = True
        self.socket.close()

    def _obey(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if not stream:
                self._window += more
            elif upload := self._uploads.get(stream):
                self._widen(stream, upload, more)
        elif kind == SETTINGS and not flags & ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == _INITIAL_WINDOW_SIZE:
                    more, self._stream_window = value - self._stream_window, value
                    for each, upload in self._uploads.items():
                        self._widen(each, upload, more)
                elif key == _MAX_CONCURRENT_STREAMS:
                    self.max_streams = value
            self.settled = True
            if self._acknowledge:
                self._out += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.ended = True

    def _widen(self, stream: int, upload: _Upload, more: int) -> None:
        if upload.window <= 0 < upload.window + more:
            self._sendable.append(stream)
        upload.window += more

    def _cut(self) -> None:
        """Split the bodies into frames, round-robin."""
        while self._sendable and self._window > 0 and len(self._out) < _BUFFERED:
            stream = self._sendable.popleft()
            upload = self._uploads.get(stream)
            if upload is None or upload.window <= 0:
                continue
            left = len(upload.call.body) - upload.sent
            size = min(_PIECE, left, upload.window, self._window)
            last = size == left
            flags = END_STREAM if last and upload.call.finished else 0
            self._out += struct.pack(">I", size)[1:] + struct.pack(">BBI", DATA, flags, stream)
            self._out += upload.call.body[upload.sent : upload.sent + size]
            upload.sent += size
            upload.window -= size
            self._window -= size
            self.uploaded += size
            if last:
                del self._uploads[stream]
            elif upload.window > 0:
                self._sendable.append(stream)
