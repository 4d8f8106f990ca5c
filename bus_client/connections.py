"""The connections of a client: one for unary calls, others for its streams."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from bus_client.channel import open_channel, refuse_fork
from bus_client.errors import BusError, TlsFailed, Unreachable, strip_traceback
from bus_client.tls import Tls
from bus_client.tls_faults import tls_fault
from threadbus.v1.bus_service_pb2 import GetServerInfoResponse
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

if TYPE_CHECKING:
    from threadbus.v1.bus_service_pb2_grpc import BusServiceAsyncStub

# Maximum number of streams on a connection, unless the server allows fewer, and of concurrent unary
# calls of a client. Proxies usually allow at least 100. It is well below the default limit of a
# server, near which calls may be refused because finished ones still count.
_MAX_STREAMS = 100

_READY = grpc.ChannelConnectivity.READY
_FAILING = grpc.ChannelConnectivity.TRANSIENT_FAILURE

# Seconds after a failed attempt before the server is asked for its limits again.
_ASK_AGAIN = 5.0
# Seconds between two searches for the reason why no connection succeeds.
_SEARCH_INTERVAL = 2.0

_lock = threading.Lock()
#: Number of open streams of this process, by server and connection number. Guarded by `_lock`.
_streams: Counter[tuple[str, int]] = Counter()
#: When a fault of TLS was last searched for in vain, by server and files. Guarded by `_lock`.
_searched: dict[tuple[str, Tls], float] = {}

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
    process need about a dozen connections. With TLS, gRPC shares none, and each client has its own.
    Belongs to the event loop in which it was created.
    """

    def __init__(self, server: str, tls: Tls) -> None:
        """Reads the files of `tls` if the server's address is encrypted.

        Raises:
            InvalidArgument: A file cannot be read, or does not have what it should.
        """
        self._server = server
        self._tls = tls
        self._credentials = tls.credentials_for(server)
        #: The channel of the unary calls. Connects with the first call.
        self.unary = open_channel(server, self._credentials)
        self._unary_slots = asyncio.Semaphore(_MAX_STREAMS)
        #: The channels of the streams, by connection number, from 1. A channel without streams is
        #: kept for the next stream.
        self._channels: dict[int, _StreamChannel] = {}
        self._max_streams = _MAX_STREAMS
        #: Whether the server limits how often this client posts. False as long as it is not known.
        self.posts_limited = False
        self._ask_again = 0.0  # when to ask the server again, on the loop's clock
        self._learning = asyncio.Lock()

    async def learn_limits(self, ask: Callable[[], Awaitable[GetServerInfoResponse]]) -> None:
        """Learn how many calls the server allows on a connection, and whether it limits posts.

        No-op once that is known. If `ask` raises BusError, the error is ignored: 100 calls are
        assumed for at least 5 s, after which the next call of this method asks again.

        Args:
            ask: A function that calls GetServerInfo. TlsFailed, and errors other than BusError, are
                raised.
        """
        clock = asyncio.get_running_loop().time
        async with self._learning:
            if clock() < self._ask_again:
                return
            self._ask_again = math.inf
            try:
                info = await ask()
                allowed = info.limits.max_streams
                self._max_streams = min(allowed, _MAX_STREAMS) if allowed > 0 else _MAX_STREAMS
                self.posts_limited = info.limits.posts_per_minute > 0 and "admin" not in info.scopes
            except TlsFailed:
                self._ask_again = 0.0
                raise
            except BusError:
                self._ask_again = clock() + _ASK_AGAIN
            except BaseException:
                self._ask_again = 0.0
                raise

    async def acquire(self, deadline: float) -> Unreachable | None:
        """Wait until a unary call can be sent. Returns None, or why it cannot.

        None: call release() after the call. Else `deadline` has passed, TLS is a lasting obstacle,
        or the connections are closed.

        Args:
            deadline: When to give up, on the loop's clock.

        Raises:
            RuntimeError: The process was forked; see refuse_fork().
        """
        refuse_fork()
        try:
            if not self._unary_slots.locked() and self.unary.get_state() == _READY:
                await self._unary_slots.acquire()  # at once, so no timeout has to be set up
                return None
            async with asyncio.timeout_at(deadline):
                await self._unary_slots.acquire()
                try:
                    await self._connect()
                except BaseException:
                    self.release()
                    raise
        except (TimeoutError, grpc.aio.UsageError):  # UsageError: the channel is closed
            return Unreachable(f"{self._server} does not answer.", code="UNAVAILABLE")
        except TlsFailed as failure:
            return strip_traceback(failure)
        return None

    async def _connect(self) -> None:
        """Wait until the channel of the unary calls is connected. Raises TlsFailed, UsageError."""
        while (state := self.unary.get_state(try_to_connect=True)) != _READY:
            if state != _FAILING:
                await self.unary.wait_for_state_change(state)
                continue
            # The channel stays in this state until it is connected, which the search must not
            # delay.
            change = asyncio.ensure_future(self.unary.wait_for_state_change(state))
            search = asyncio.ensure_future(self.raise_tls_fault())
            try:
                await asyncio.wait([change, search], return_when=asyncio.FIRST_COMPLETED)
                if search.done():
                    search.result()
                    await asyncio.wait([change], timeout=_SEARCH_INTERVAL)
                if change.done():
                    change.result()
            finally:
                change.cancel()
                search.cancel()
                await asyncio.gather(change, search, return_exceptions=True)

    async def raise_tls_fault(self, within: float | None = None) -> None:
        """Raises TlsFailed if TLS is why connections fail.

        The clients of a process look at most every 2 s, for `within` seconds, or else for 5.
        """
        place, now = (self._server, self._tls), time.monotonic()
        with _lock:
            if now < _searched.get(place, -math.inf) + _SEARCH_INTERVAL:
                return
            _searched[place] = now
        fault = None
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                fault = await tls_fault(self._server, self._tls)
        if fault is not None:
            with _lock:
                _searched.pop(place, None)
            raise fault

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
            channel = open_channel(self._server, self._credentials, connection=number)
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
