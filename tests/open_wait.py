"""A wait that is read continuously, and what it received."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import grpc

from tests.callers import Caller
from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor, Message

WaitCall = grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]


class OpenWait:
    """A WaitMessages call; a task reads its frames as they arrive."""

    def __init__(self, call: WaitCall) -> None:
        self.frames: list[WaitMessagesResponse] = []
        self.messages: list[Message] = []
        self._call = call
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for frame in self._call:
                self.frames.append(frame)
                self.messages += frame.messages.messages
                self._news.set()
        finally:
            self._news.set()

    def seqs(self, thread: str) -> list[int]:
        """Returns the seqs of a thread's messages, in order of arrival."""
        return [message.seq for message in self.messages if message.thread == thread]

    def kinds(self) -> list[str | None]:
        """Returns the kind of each frame, in order of arrival."""
        return [frame.WhichOneof("frame") for frame in self.frames]

    async def until(self, state: Callable[[], bool], *, within: float = 20.0) -> None:
        """Return once `state()` is true after a frame.

        Raises the error that ends the wait before.
        """
        async with asyncio.timeout(within):
            while not state():
                if self._reading.done():
                    await self._reading
                    raise AssertionError(f"the wait ended before that: {self.kinds()}")
                self._news.clear()
                await self._news.wait()

    async def until_started(self) -> None:
        """Return once the wait is open."""
        await self.until(lambda: bool(self.frames))

    async def ended(self, *, within: float = 20.0) -> WaitEnding:
        """Returns how the wait ended. Raises AioRpcError if it failed."""
        async with asyncio.timeout(within):
            await self._reading
        assert await self._call.code() == grpc.StatusCode.OK
        assert self.kinds()[-1] == "ending"
        return self.frames[-1].ending

    async def close(self) -> None:
        """Cancel the call, as a client that leaves."""
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await self._reading


def wait_request(
    threads: Mapping[str, int] | Iterable[str], *, keepalive: float = 300.0
) -> WaitMessagesRequest:
    """Returns an open-ended request on threads, after the given seqs or from the first."""
    after = threads if isinstance(threads, Mapping) else dict.fromkeys(threads, 0)
    cursors = [Cursor(thread=name, after_seq=seq) for name, seq in after.items()]
    request = WaitMessagesRequest(threads=cursors)
    request.keepalive_interval.FromMilliseconds(round(keepalive * 1000))
    return request


@contextlib.asynccontextmanager
async def open_waits(
    bus: BusStub,
    requests: Iterable[WaitMessagesRequest],
    *,
    metadata: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[list[OpenWait]]:
    """Waits, all open once the block starts."""
    waits = [OpenWait(bus.WaitMessages(request, metadata=metadata)) for request in requests]
    try:
        for wait in waits:
            await wait.until_started()
        yield waits
    finally:
        for wait in waits:
            await wait.close()


@contextlib.asynccontextmanager
async def open_wait(
    bus: BusStub,
    *threads: str,
    keepalive: float = 300.0,
    metadata: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[OpenWait]:
    """One wait from the threads' first messages, open once the block starts."""
    request = wait_request(threads, keepalive=keepalive)
    async with open_waits(bus, [request], metadata=metadata) as waits:
        yield waits[0]


async def admitted(bus: BusStub, agent: Caller, thread: str) -> bool:
    """Returns whether the server lets this agent open a wait."""
    call = bus.WaitMessages(wait_request([thread]), metadata=agent.metadata)
    try:
        return await call.read() is not grpc.aio.EOF
    except grpc.aio.AioRpcError:
        return False
    finally:
        call.cancel()
