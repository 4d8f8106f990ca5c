"""The connections of one client: one for unary calls, others for its streams."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from bus_client.channel import open_channel, refuse_fork
from bus_client.errors import BusError
from threadbus.v1.bus_service_pb2 import GetServerInfoResponse
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

if TYPE_CHECKING:
    from threadbus.v1.bus_service_pb2_grpc import BusServiceAsyncStub

# Streams on one connection, unless the server takes fewer, and unary calls of one client under way.
# Proxies take 100 or more; a server refuses calls while it still clears away as many as it takes.
_MOST_STREAMS = 100

# Seconds after which a server that did not say is asked again.
_ASK_AGAIN = 5.0

_lock = threading.Lock()
#: The open streams of this process, by server and number of the connection. Held with `_lock`.
_streams: Counter[tuple[str, int]] = Counter()

Stream = TypeVar("Stream", bound=grpc.aio.Call)


@dataclass(slots=True)
class _StreamChannel:
    channel: grpc.aio.Channel
    bus: BusServiceAsyncStub
    streams: int = 0


class Connections:
    """The channels of one client to one server.

    A server, or a proxy, takes so many calls at a time on one connection, and gRPC queues the
    others without a word. A stream may stay open for days: so none is opened on the connection
    of the unary calls, and another connection is opened when those there are hold enough.

    The clients of a process share connections of the same number, so that a thousand agents in
    one process need a dozen. Belongs to the event loop that it was made in.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        #: For unary calls. Connects with the first one.
        self.unary = open_channel(server)
        self._places = asyncio.Semaphore(_MOST_STREAMS)
        #: By number, from 1. One that is empty is kept for the next stream.
        self._channels: dict[int, _StreamChannel] = {}
        self._most = _MOST_STREAMS
        self._ask_again = 0.0  # when to ask for it, on the loop's clock
        self._learning = asyncio.Lock()

    async def learn_limits(self, ask: Callable[[], Awaitable[GetServerInfoResponse]]) -> None:
        """Asks the server once how many calls it takes on one connection.

        When it does not answer, it is taken for one that takes as many as usual, for some seconds.
        """
        clock = asyncio.get_running_loop().time
        async with self._learning:
            if clock() < self._ask_again:
                return
            self._ask_again = math.inf
            try:
                limits = (await ask()).limits
                told = limits.max_streams
                self._most = min(told, _MOST_STREAMS) if told > 0 else _MOST_STREAMS
            except BusError:
                self._ask_again = clock() + _ASK_AGAIN
            except BaseException:
                self._ask_again = 0.0
                raise

    async def enter(self, deadline: float) -> bool:
        """Wait until a unary call can be sent; say `leave` when it is answered.

        False: it cannot by `deadline`, on the loop's clock, or this is closed.
        """
        refuse_fork()
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
                try:
                    await self.unary.channel_ready()
                except BaseException:
                    self.leave()
                    raise
        except (TimeoutError, grpc.aio.UsageError):  # the latter when it is closed
            return False
        return True

    def leave(self) -> None:
        """A unary call is answered."""
        self._places.release()

    def open(self, start: Callable[[BusServiceAsyncStub], Stream]) -> Stream:
        """Starts a stream on a connection that has room for it; counted there until it ends."""
        refuse_fork()
        with _lock:
            number = next(
                number
                for number in chain(self._channels, count(1))
                if _streams[self._server, number] < self._most
            )
            _streams[self._server, number] += 1
        if number not in self._channels:
            channel = open_channel(self._server, connection=number)
            self._channels[number] = _StreamChannel(channel, BusServiceStub(channel))
        used = self._channels[number]
        used.streams += 1

        def ended(_: Any) -> None:
            if used.streams:  # else it was closed
                used.streams -= 1
                self._give_back(number, 1)

        try:
            stream = start(used.bus)
        except BaseException:
            ended(None)
            raise
        stream.add_done_callback(ended)
        return stream

    async def close(self) -> None:
        """Closes all channels, and with them every call under way."""
        channels, self._channels = self._channels, {}
        for number, used in channels.items():
            streams, used.streams = used.streams, 0
            self._give_back(number, streams)
        for channel in (self.unary, *(used.channel for used in channels.values())):
            await channel.close()

    def _give_back(self, number: int, streams: int) -> None:
        with _lock:
            _streams[self._server, number] -= streams
            if not _streams[self._server, number]:
                del _streams[self._server, number]
