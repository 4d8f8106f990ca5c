"""A proxy that responds to gRPC calls itself: in place of the server, or with an HTTP error."""

import asyncio
import contextlib
import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from google.protobuf.message import Message

from threadbus.v1.bus_service_pb2 import GetServerInfoResponse

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM = _ACK = 1
_END_HEADERS = 4


class HttpError(NamedTuple):
    """A response without gRPC; `page` is its HTML, if any."""

    status: int
    page: bytes = b""


Respond = Callable[[bytes], Message | HttpError]


@contextlib.asynccontextmanager
async def http_proxy(respond: Respond) -> AsyncIterator[str]:
    """Run a proxy on a free port; yields its address.

    `respond` gets the body of each call's request, and returns the response.
    """
    serve = functools.partial(_serve, respond)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()
        yield f"{host}:{port}"


class RefusingProxy:
    """Responds to the first call, which is GetServerInfo, and refuses those after it."""

    def __init__(self, status: int) -> None:
        self.address = ""
        self.status = status
        #: How many calls it refused.
        self.refused = 0
        self._greeted = False

    def respond(self, _: bytes) -> Message | HttpError:
        """Returns the response to a call."""
        if self._greeted:
            self.refused += 1
            return HttpError(self.status)
        self._greeted = True
        return GetServerInfoResponse(agent="anonymous")


@contextlib.asynccontextmanager
async def refusing_proxy(status: int) -> AsyncIterator[RefusingProxy]:
    """A proxy on a free port that refuses calls with this HTTP status."""
    proxy = RefusingProxy(status)
    async with http_proxy(proxy.respond) as proxy.address:
        yield proxy


async def _serve(
    respond: Respond, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
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
                    writer.write(_response(stream, respond(bodies.pop(stream))))
    writer.close()


def _response(stream: int, response: Message | HttpError) -> bytes:
    if isinstance(response, HttpError):
        return _http_error(stream, response)
    message = response.SerializeToString()
    head = _header(b":status", b"200") + _header(b"content-type", b"application/grpc")
    trailers = _header(b"grpc-status", b"0")
    return (
        _frame(_HEADERS, _END_HEADERS, stream, head)
        + _frame(_DATA, 0, stream, b"\0" + len(message).to_bytes(4) + message)
        + _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, trailers)
    )


def _http_error(stream: int, error: HttpError) -> bytes:
    head = _header(b":status", str(error.status).encode()) + _header(b"content-type", b"text/html")
    if not error.page:
        return _frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, head)
    page = _frame(_DATA, _END_STREAM, stream, error.page)
    return _frame(_HEADERS, _END_HEADERS, stream, head) + page


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3]))
    return head[3], head[4], int.from_bytes(head[5:]), payload


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _header(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes one that is in no table."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value
