"""The connections of a client: one for unary calls, others for its streams."""

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

# Maximum number of streams on a connection, unless the server allows fewer, and of concurrent unary
# calls of a client. Proxies usually allow at least 100. It is well below the default limit of a
# server, near which calls may be refused because finished ones still count.
_MAX_STREAMS = 100

_READY = grpc.ChannelConnectivity.READY

# Seconds after a failed attempt before the server is asked for its limits again.
_ASK_AGAIN = 5.0

_lock = threading.Lock()
#: Number of open streams of this process, by server and connection number. Guarded by `_lock`.
_streams: Counter[tuple[str, int]] = Counter()

Stream = TypeVar("Stream", bound=grpc.aio.Call)


@dataclass(slots=True)
class _StreamChannel:
    channel: grpc.aio.Channel
    bus: BusServiceAsyncStub
    streams: int = 0


class Connections:
    """The channels of one client to one server.

    A server or proxy allows a limited number of concurrent calls on one connection; gRPC silently
    queues the rest. A stream may stay open for days. So streams are kept off the connection of
    the unary calls, and another connection is opened when the existing ones are full.

    Clients of one process share connections that have the same number: a thousand agents in one
    process need about a dozen connections. Belongs to the event loop in which it was created.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        #: The channel of the unary calls. Connects with the first call.
        self.unary = open_channel(server)
        self._unary_slots = asyncio.Semaphore(_MAX_STREAMS)
        #: The channels of the streams, by connection number, from 1. A channel without streams is
        #: kept for the next stream.
        self._channels: dict[int, _StreamChannel] = {}
        self._max_streams = _MAX_STREAMS
        self._ask_again = 0.0  # when to ask the server again, on the loop's clock
        self._learning = asyncio.Lock()

    async def learn_limits(self, ask: Callable[[], Awaitable[GetServerInfoResponse]]) -> None:
        """Learn how many calls the server allows on a connection. No-op once it is known.

        If `ask` raises BusError, the error is ignored: 100 are assumed for at least 5 s, after
        which the next call of this method asks again.

        Args:
            ask: A function that calls GetServerInfo. Errors other than BusError are raised.
        """
        clock = asyncio.get_running_loop().time
        async with self._learning:
            if clock() < self._ask_again:
                return
            self._ask_again = math.inf
            try:
                limits = (await ask()).limits
                allowed = limits.max_streams
                self._max_streams = min(allowed, _MAX_STREAMS) if allowed > 0 else _MAX_STREAMS
            except BusError:
                self._ask_again = clock() + _ASK_AGAIN
            except BaseException:
                self._ask_again = 0.0
                raise

    async def acquire(self, deadline: float) -> bool:
        """Wait until a unary call can be sent. Returns whether it can.

        True: call release() after the call. False: `deadline` has passed, or the connections are
        closed.

        Args:
            deadline: When to give up, on the loop's clock.

        Raises:
            RuntimeError: The process was forked; see refuse_fork().
        """
        refuse_fork()
        try:
            if not self._unary_slots.locked() and self.unary.get_state() == _READY:
                await self._unary_slots.acquire()  # at once, so no timeout has to be set up
                return True
            async with asyncio.timeout_at(deadline):
                await self._unary_slots.acquire()
                try:
                    await self.unary.channel_ready()
                except BaseException:
                    self.release()
                    raise
        except (TimeoutError, grpc.aio.UsageError):  # UsageError: the channel is closed
            return False
        return True

    def release(self) -> None:
        """Free the slot that acquire() took."""
        self._unary_slots.release()

    def open_stream(self, start: Callable[[BusServiceAsyncStub], Stream]) -> Stream:
        """Open a stream with `start` on a connection with room for it, and return the stream.

        Raises:
            RuntimeError: The process was forked; see refuse_fork().
        """
        refuse_fork()
        with _lock:
            number = next(
                number
                for number in chain(self._channels, count(1))
                if _streams[self._server, number] < self._max_streams
            )
            _streams[self._server, number] += 1
        if number not in self._channels:
            channel = open_channel(self._server, connection=number)
            self._channels[number] = _StreamChannel(channel, BusServiceStub(channel))
        used = self._channels[number]
        used.streams += 1

        def ended(_: Any) -> None:
            if used.streams:  # otherwise close() has released it
                used.streams -= 1
                self._release_streams(number, 1)

        try:
            stream = start(used.bus)
        except BaseException:
            ended(None)
            raise
        stream.add_done_callback(ended)
        return stream

    async def close(self) -> None:
        """Close all channels, which cancels every call and stream."""
        channels, self._channels = self._channels, {}
        for number, used in channels.items():
            streams, used.streams = used.streams, 0
            self._release_streams(number, streams)
        for channel in (self.unary, *(used.channel for used in channels.values())):
            await channel.close()

    def _release_streams(self, number: int, streams: int) -> None:
        with _lock:
            _streams[self._server, number] -= streams
            if not _streams[self._server, number]:
                del _streams[self._server, number]
