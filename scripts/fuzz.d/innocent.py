"""An innocent agent before, during and after the calls: its messages must all be stored once."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

import grpc
from cast import Cast
from google.protobuf.duration_pb2 import Duration
from sender import describe

from tests.polling import until
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

#: Seconds between two posts, and the deadline of each call.
PAUSE, TIMEOUT = 0.05, 30.0


class Innocent:
    """An agent that posts to its own thread, and waits on it."""

    def __init__(self, channel: grpc.aio.Channel, cast: Cast) -> None:
        self._name, self._thread = f"innocent{cast.seed}", f"Innocent{cast.seed}"
        self._token = cast.token(self._name)
        self._agents, self._threads = AgentServiceStub(channel), ThreadServiceStub(channel)
        self._bus = BusServiceStub(channel)
        self._operator = cast.operator
        self._metadata = (("authorization", f"Bearer {self._token}"),)
        self._posted: list[tuple[int, str]] = []
        self._waited: list[tuple[int, str]] = []
        #: The findings: what went wrong.
        self.faults: list[str] = []

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Post before, during and after the block, then compare the posts with the thread."""
        await self._enter()
        waiting = asyncio.create_task(self._wait())
        posting = asyncio.create_task(self._post_on())
        try:
            yield
            posting.cancel()
            await asyncio.wait([posting])
            await self._post_some()
            await self._check(waiting)
        except grpc.aio.AioRpcError as error:
            self.faults.append(f"the innocent's reading: {describe(error)}")
        finally:
            for task in (waiting, posting):
                task.cancel()
            await asyncio.gather(waiting, posting, return_exceptions=True)

    async def _enter(self) -> None:
        """Register, create the thread and post the first messages."""
        request = RegisterAgentRequest(agent=self._name, token=self._token)
        await self._agents.RegisterAgent(request, metadata=self._operator, timeout=TIMEOUT)
        create = CreateThreadRequest(thread=self._thread)
        await self._threads.CreateThread(create, metadata=self._metadata, timeout=TIMEOUT)
        await self._post_some()

    async def _post_on(self) -> None:
        while True:
            post = asyncio.create_task(self._post())
            try:
                await asyncio.shield(post)
            except asyncio.CancelledError:
                await post
                raise
            await asyncio.sleep(PAUSE)

    async def _post_some(self) -> None:
        for _ in range(20):
            await self._post()

    async def _post(self) -> None:
        content = f"message {len(self._posted)}"
        try:
            done = await self._bus.PostMessage(
                PostMessageRequest(thread=self._thread, content=content),
                metadata=self._metadata,
                timeout=TIMEOUT,
            )
        except grpc.aio.AioRpcError as error:
            self.faults.append(f"the innocent's post: {describe(error)}")
        else:
            self._posted.append((done.seq, content))

    async def _wait(self) -> None:
        request = WaitMessagesRequest(threads=[Cursor(thread=self._thread)])
        try:
            async for frame in self._bus.WaitMessages(request, metadata=self._metadata):
                self._waited += [(m.seq, m.content) for m in frame.messages.messages]
                if frame.HasField("ending"):
                    self.faults.append(f"the innocent's wait ended: {frame.ending}")
        except grpc.aio.AioRpcError as error:
            self.faults.append(f"the innocent's wait: {describe(error)}")

    async def _check(self, waiting: "asyncio.Task[None]") -> None:
        with contextlib.suppress(TimeoutError):
            await until(
                lambda: len(self._waited) >= len(self._posted) or waiting.done(), within=TIMEOUT
            )
        self._hold("a wait that was open during the whole run", self._waited)
        self._hold("reading the thread", await self._read())
        self._hold("a wait from the start", await self._replay())
        if [seq for seq, _ in self._posted] != list(range(1, len(self._posted) + 1)):
            self.faults.append("the innocent's posts did not get the seqs 1, 2, 3 …")

    async def _read(self) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        request = ListMessagesRequest(thread=self._thread, limit=1_000)
        while True:
            page = await self._bus.ListMessages(request, metadata=self._metadata, timeout=TIMEOUT)
            found += [(m.seq, m.content) for m in page.messages]
            if not page.has_more:
                return found
            request.after_seq = page.next_after_seq

    async def _replay(self) -> list[tuple[int, str]]:
        request = WaitMessagesRequest(
            threads=[Cursor(thread=self._thread)],
            min_messages=len(self._posted),
            max_wait=Duration(seconds=round(TIMEOUT)),
        )
        frames = self._bus.WaitMessages(request, metadata=self._metadata, timeout=TIMEOUT)
        return [(m.seq, m.content) async for frame in frames for m in frame.messages.messages]

    def _hold(self, how: str, found: Sequence[tuple[int, str]]) -> None:
        if list(found) != self._posted:
            pairs = itertools.zip_longest(found, self._posted)
            other, posted = next(pair for pair in pairs if pair[0] != pair[1])
            self.faults.append(
                f"the innocent posted {len(self._posted)} messages; {how} gives {len(found)}, with "
                f"{other} in place of {posted}"
            )
