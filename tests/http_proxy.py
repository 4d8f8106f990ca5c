"""A proxy that answers calls with an HTTP status of its own, and passes nothing on."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

from threadbus.v1.bus_service_pb2 import GetServerInfoResponse

#: Of HTTP/2 as much as is needed.
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_STATUS = ":status"


class Proxy:
    """It lets the first call pass, which is GetServerInfo, and refuses those that follow."""

    def __init__(self, status: int) -> None:
        self.address = ""
        self.status = status
        self._greeted = False
        #: How many calls it refused.
        self.refused = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(_PREFACE)
            _send(writer, _SETTINGS, 0, 0)
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == _SETTINGS and not flags & _ACK:
                    _send(writer, _SETTINGS, _ACK, 0)
                elif kind == _PING and not flags & _ACK:
                    _send(writer, _PING, _ACK, 0, payload)
                elif kind == _HEADERS:
                    self._answer(writer, stream)
        writer.close()

    def _answer(self, writer: asyncio.StreamWriter, stream: int) -> None:
        if self._greeted:
            self.refused += 1
            status = _header(_STATUS, str(self.status))
            _send(writer, _HEADERS, _END_HEADERS | _END_STREAM, stream, status)
        else:
            self._greeted = True
            info = GetServerInfoResponse(agent="anonymous").SerializeToString()
            headers = _header(_STATUS, "200") + _header("content-type", "application/grpc")
            _send(writer, _HEADERS, _END_HEADERS, stream, headers)
            _send(writer, _DATA, 0, stream, b"\0" + struct.pack(">I", len(info)) + info)
            _send(writer, _HEADERS, _END_HEADERS | _END_STREAM, stream, _header("grpc-status", "0"))


def _header(name: str, value: str) -> bytes:
    """A header field without compression."""
    return b"".join([b"\0", *(bytes([len(text)]) + text.encode() for text in (name, value))])


def _send(
    writer: asyncio.StreamWriter, kind: int, flags: int, stream: int, payload: bytes = b""
) -> None:
    length = struct.pack(">I", len(payload))[1:]
    writer.write(length + struct.pack(">BBI", kind, flags, stream) + payload)


@contextlib.asynccontextmanager
async def proxy_that_says(status: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port that answers every call so."""
    proxy = Proxy(status)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()
        proxy.address = f"{host}:{port}"
        yield proxy
