"""Those who post and wait in a test: anyone, or an agent."""

import uuid
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from tests.callers import Caller, register
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import BOUND, Frames, messages_in, waiting
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessageResponse
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import ThreadState
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    SetThreadStateRequest,
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One who posts and waits: `anonymous`, unless it is a caller with a token."""

    bus: BusStub
    caller: Caller | None = None

    @property
    def name(self) -> str:
        """What its messages are sent by."""
        return self.caller.name if self.caller else "anonymous"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What its calls carry."""
        return self.caller.metadata if self.caller else ()

    def post(
        self, thread: str, content: str = "hello", **fields: Any
    ) -> Awaitable[PostMessageResponse]:
        """Post a message."""
        request = PostMessageRequest(thread=thread, content=content, **fields)
        return self.bus.PostMessage(request, timeout=BOUND, metadata=self.metadata)

    async def post_all(self, thread: str, *contents: str) -> list[int]:
        """Post several, one after the other; their seqs."""
        return [(await self.post(thread, content)).seq for content in contents]

    def wait(self, *threads: Cursor | str, **fields: Any) -> AbstractAsyncContextManager[Frames]:
        """Open a wait; see wait_frames.waiting."""
        return waiting(self.bus, *threads, metadata=self.metadata, **fields)

    async def read(self, *threads: Cursor | str, **fields: Any) -> list[Message]:
        """All that is there, by a wait that ends at once."""
        async with self.wait(*threads, max_wait=0, **fields) as frames:
            return messages_in(await frames.rest())


async def registered(agents: AgentStub, bus: BusStub, name: str) -> Peer:
    """An agent of a fresh name that begins with `name`."""
    return Peer(bus, await register(agents, f"{name}-{uuid.uuid4().hex[:8]}"))


async def set_state(
    threads: ThreadStub, thread: str, state: ThreadState.ValueType, by: Peer | None = None
) -> None:
    """Open, close or archive a thread, as anyone or as somebody."""
    request = SetThreadStateRequest(thread=thread, state=state)
    await threads.SetThreadState(request, timeout=BOUND, metadata=by.metadata if by else ())


async def make_anew(threads: ThreadStub, thread: str) -> str:
    """Delete a thread and create one of its name; the new one's epoch."""
    await threads.DeleteThread(DeleteThreadRequest(thread=thread), timeout=BOUND)
    created = await threads.CreateThread(CreateThreadRequest(thread=thread), timeout=BOUND)
    return created.thread.epoch
