"""An open wait, driven frame by frame. Every step has a time limit."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration

from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import ThreadPosition

if TYPE_CHECKING:
    WaitCall = grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]

#: Seconds. No step of a test takes longer, not even on a busy machine.
BOUND = 20.0


def seconds(number: float) -> Duration:
    """Returns this many seconds as a Duration."""
    duration = Duration()
    duration.FromMicroseconds(round(number * 1_000_000))
    return duration


class Frames:
    """The frames of one open wait, in order of arrival."""

    def __init__(self, call: "WaitCall") -> None:
        self._call = call
        #: All frames so far.
        self.received: list[WaitMessagesResponse] = []

    async def next(self) -> WaitMessagesResponse:
        """Returns the next frame. Raises AioRpcError if the wait ended with an error."""
        async with asyncio.timeout(BOUND):
            frame = await self._call.read()
        assert isinstance(frame, WaitMessagesResponse), "the wait is over"
        self.received.append(frame)
        return frame

    async def until(self, kind: str) -> WaitMessagesResponse:
        """Read until a frame of this kind; returns it."""
        async with asyncio.timeout(BOUND):
            while (frame := await self.next()).WhichOneof("frame") != kind:
                pass
        return frame

    async def messages(self, count: int) -> list[Message]:
        """Read until `count` more messages came; returns them."""
        found: list[Message] = []
        async with asyncio.timeout(BOUND):
            while len(found) < count:
                found += (await self.next()).messages.messages
        return found

    async def rest(self) -> list[WaitMessagesResponse]:
        """Read to the end: an `ending`, nothing after it, and the status OK."""
        before = len(self.received)
        await self.until("ending")
        async with asyncio.timeout(BOUND):
            assert await self._call.read() is grpc.aio.EOF
            assert await self._call.code() == grpc.StatusCode.OK
        return self.received[before:]

    async def ending(self) -> WaitEnding:
        """Read to the end; returns how it ended."""
        return (await self.rest())[-1].ending

    async def failure(self) -> None:
        """Read to the end, which must be an error: raises it."""
        while True:
            await self.next()

    def cancel(self) -> None:
        """Cancel the call, as a client that is killed does."""
        self._call.cancel()


@contextlib.asynccontextmanager
async def waiting(
    bus: BusStub,
    *threads: Cursor | str,
    max_wait: float | None = None,
    keepalive: float | None = None,
    timeout: float | None = None,
    metadata: Sequence[tuple[str, str]] = (),
    **fields: Any,
) -> AsyncIterator[Frames]:
    """Open a wait on threads or from cursors; it is cancelled at the end. Times are in seconds."""
    request = WaitMessagesRequest(
        threads=[Cursor(thread=at) if isinstance(at, str) else at for at in threads],
        max_wait=None if max_wait is None else seconds(max_wait),
        keepalive_interval=None if keepalive is None else seconds(keepalive),
        **fields,
    )
    call = bus.WaitMessages(request, timeout=timeout, metadata=tuple(metadata))
    try:
        yield Frames(call)
    finally:
        call.cancel()


def kinds(frames: Iterable[WaitMessagesResponse]) -> list[str]:
    """Returns the kind of each frame."""
    return [frame.WhichOneof("frame") or "unknown" for frame in frames]


def messages_in(frames: Iterable[WaitMessagesResponse]) -> list[Message]:
    """Returns all messages of these frames, in order of arrival."""
    return [message for frame in frames for message in frame.messages.messages]


def by_thread(messages: Iterable[Message]) -> dict[str, list[int]]:
    """Returns the seqs of messages by thread, in order of arrival."""
    found: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        found[message.thread].append(message.seq)
    return dict(found)


def positions_in(frame: WaitMessagesResponse) -> list[ThreadPosition]:
    """Returns every position that a frame carries, but for a batch's."""
    which = frame.WhichOneof("frame")
    if which == "caught_up":
        return [frame.caught_up]
    if which == "resync":
        return [frame.resync.position]
    if which in ("started", "keepalive", "ending"):
        return list(getattr(frame, which).threads)
    return []


def cursors_after(frames: Iterable[WaitMessagesResponse]) -> list[Cursor]:
    """Returns where a client resumes after these frames, the first of which is `started`."""
    latest: dict[str, Cursor] = {}
    for frame in frames:
        moved = [position.cursor for position in positions_in(frame)]
        if frame.WhichOneof("frame") == "messages":
            moved.append(frame.messages.cursor)
        latest |= {cursor.thread: cursor for cursor in moved}
    return list(latest.values())
