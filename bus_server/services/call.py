"""The state of one RPC while it is handled, and the report after it has finished."""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import grpc

from bus_server.auth import Caller
from bus_server.budget import Budget
from bus_server.services.frame_writer import FrameWriter
from bus_server.services.request_reader import Context, PendingReads, RequestReader
from bus_server.statistics import MethodStatistics


class Call:
    """One RPC while it is handled: its caller, its requests and its frames.

    Its bytes count against the budgets of the server until they are handled or sent, or until the
    call is closed. The dispatcher creates and closes it.
    """

    __slots__ = (
        *("_frames", "_pending_reads", "_reader", "_released", "_unread"),
        *("caller", "context", "counted", "response_size"),
    )

    def __init__(
        self,
        context: Context,
        pending_reads: PendingReads,
        unread: Budget,
        counted: MethodStatistics,
    ) -> None:
        self.context = context
        #: Counts its messages.
        self.counted = counted
        #: None until the caller is authenticated, and for health and reflection.
        self.caller: Caller | None = None
        self._pending_reads = pending_reads
        self._unread = unread
        self._reader: RequestReader | None = None
        self._frames: FrameWriter | None = None
        #: Number and bytes of the requests of a reader that was released.
        self._released = 0, 0
        #: Bytes of the response of a unary call; None: it has none.
        self.response_size: int | None = None

    def reader(self, key: str, *, stream: bool = False) -> RequestReader:
        """Returns the reader of the call's requests. Call it once.

        Args:
            key: the fairness key that the bytes are charged to.
            stream: whether it is a client stream, whose requests may come at any interval.
        """
        self._reader = RequestReader(
            self._pending_reads, self.context, key, self.counted, stream=stream
        )
        return self._reader

    def frames(self, key: str) -> FrameWriter:
        """Returns the writer of the call's frames, charged to a fairness key. Call it once."""
        self._frames = FrameWriter(self._unread, key, self.context.write, self.counted)
        return self._frames

    def release_request(self) -> None:
        """Release the request's bytes, for a handler that keeps little of the request."""
        if self._reader is not None:
            self._reader.close()
            self._released = self._reader.count, self._reader.size
            self._reader = None

    def received(self) -> tuple[int, int]:
        """Returns how many requests were received, and their bytes."""
        reader = self._reader
        return self._released if reader is None else (reader.count, reader.size)

    def sent(self) -> tuple[int, int]:
        """Returns how many responses or frames were handed to gRPC, and their bytes.

        Without those that a handler writes to the context itself: Watch of the health service.
        """
        if self.response_size is not None:
            return 1, self.response_size
        return (0, 0) if self._frames is None else (self._frames.count, self._frames.size)

    def close(self) -> None:
        """Release the bytes that the call still holds. Call it when the call has ended."""
        if self._reader is not None:
            self._reader.close()
        if self._frames is not None:
            self._frames.release()


#: A handler of one call. Returns the serialised response, or writes frames and returns None. Raises
#: BusError.
Serve: TypeAlias = Callable[[Call], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Method:
    """A method that the dispatcher serves."""

    path: str
    """`/package.Service/Method`."""
    serve: Serve
    streaming: bool = False
    """Whether responses are a stream."""
    client_streaming: bool = False
    """Whether requests are a stream. Then responses are, too."""

    @property
    def kind(self) -> str:
        """What the metrics call its type."""
        if self.client_streaming:
            return "bidi_stream"
        return "server_stream" if self.streaming else "unary"


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """An RPC whose handler has finished, as an observer receives it."""

    method: str
    """`/package.Service/Method`; empty: a method that the server does not have."""
    peer: str
    """The connection, as gRPC writes it: `ipv4:127.0.0.1:40312`."""
    caller: Caller | None
    """None: the call was refused before its caller was known; or it is for health or reflection."""
    start_time: float
    """When the handler started, in seconds since the Unix epoch, by the clock at its end."""
    duration: float
    """Seconds until the handler finished. Does not include sending the status."""
    code: grpc.StatusCode
    """CANCELLED also if the client disconnected or its deadline passed."""
    reason: str
    """The ErrorReason without its prefix, such as `THREAD_NOT_FOUND`; empty: none."""
    requests: int = 0
    """How many requests were received."""
    request_bytes: int = 0
    """Their size, serialised."""
    responses: int = 0
    """How many responses or frames were handed to gRPC."""
    response_bytes: int = 0
    """Their size, serialised."""


class Observer(Protocol):
    """Gets each RPC when its handler has finished, on the event loop. Must not block or raise."""

    def wants(self, *, failed: bool) -> bool:
        """Returns whether to report a call: making the report takes about 5 µs."""

    def record(self, call: FinishedCall) -> None:
        """Take the report of a call."""
