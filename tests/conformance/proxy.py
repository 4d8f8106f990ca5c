"""A proxy that responds itself: with an HTTP status and a page of HTML."""

import asyncio
import contextlib
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

from threadbus.v1.bus_service_pb2 import PostMessageResponse

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_ASKED_FOR = re.compile(rb"(http|h2)(?:-\d{3})+")
_PAGE = b"<html><head><title>No</title></head><body>no</body></html>"


class Proxy:
    """Answers a call whose request has `http-503-413` in its bytes with these statuses, one after
    the other, and then well, as it does all others. `h2-413`: without a page of HTML.

    Good answers are empty messages, which every method's response may be; and that of a post.
    """

    def __init__(self) -> None:
        self._answered: Counter[bytes] = Counter()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one HTTP/2 connection until its end."""
        bodies: dict[int, bytes] = defaultdict(bytes)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(_PREFACE))
            writer.write(_frame(_SETTINGS, 0, 0))
            while True:
                kind, flags, stream, payload = await _next_frame(reader)
                if kind == _SETTINGS and not flags & _ACK:
                    writer.write(_frame(_SETTINGS, _ACK, 0))
                elif kind == _PING and not flags & _ACK:
                    writer.write(_frame(_PING, _ACK, 0, payload))
                elif kind == _DATA:
                    bodies[stream] += payload
                    if flags & _END_STREAM:
                        writer.write(self._answer(stream, bodies.pop(stream)))
        writer.close()

    def _answer(self, stream: int, body: bytes) -> bytes:
        asked = _ASKED_FOR.search(body)
        statuses = asked[0].split(b"-")[1:] if asked else []
        number = self._answered[body]
        self._answered[body] += 1
        if asked and number < len(statuses):
            return _refused(stream, statuses[number], b"" if asked[1] == b"h2" else _PAGE)
        return _passed(stream, PostMessageResponse(seq=1) if asked else PostMessageResponse())


def _refused(stream: int, status: bytes, page: bytes) -> bytes:
    head = _header(b":status", status) + _header(b"content-type", b"text/html")
    if not page:
        return _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, head)
    return _frame(_HEADERS, _END_HEADERS, stream, head) + _frame(_DATA, _END_STREAM, stream, page)


def _passed(stream: int, response: PostMessageResponse) -> bytes:
    message = response.SerializeToString()
    head = _header(b":status", b"200") + _header(b"content-type", b"application/grpc")
    trailers = _header(b"grpc-status", b"0")
    return (
        _frame(_HEADERS, _END_HEADERS, stream, head)
        + _frame(_DATA, 0, stream, b"\0" + len(message).to_bytes(4) + message)
        + _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, trailers)
    )


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3]))
    return head[3], head[4], int.from_bytes(head[5:]), payload


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _header(name: bytes, value: bytes) -> bytes:
    """Encode a header as an HPACK literal."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


@contextlib.asynccontextmanager
async def proxy() -> AsyncIterator[str]:
    """Run one on a free port, and yield its address."""
    server = await asyncio.start_server(Proxy().accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
