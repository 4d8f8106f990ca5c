"""Peers that post and wait in a test: anonymous or an agent."""

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
    """A caller that posts and waits: `anonymous`, unless it has a token."""

    bus: BusStub
    caller: Caller | None = None

    @property
    def name(self) -> str:
        """The sender of its messages."""
        return self.caller.name if self.caller else "anonymous"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of its calls."""
        return self.caller.metadata if self.caller else ()

    def post(
        self, thread: str, content: str = "hello", **fields: Any
    ) -> Awaitable[PostMessageResponse]:
        """Post a message."""
        request = PostMessageRequest(thread=thread, content=content, **fields)
        return self.bus.PostMessage(request, timeout=BOUND, metadata=self.metadata)

    async def post_all(self, thread: str, *contents: str) -> list[int]:
        """Post several messages, one after the other; returns their seqs."""
        return [(await self.post(thread, content)).seq for content in contents]

    def wait(self, *threads: Cursor | str, **fields: Any) -> AbstractAsyncContextManager[Frames]:
        """Open a wait; see wait_frames.waiting."""
        return waiting(self.bus, *threads, metadata=self.metadata, **fields)

    async def read(self, *threads: Cursor | str, **fields: Any) -> list[Message]:
        """Returns all messages, by a wait that ends at once."""
        async with self.wait(*threads, max_wait=0, **fields) as frames:
            return messages_in(await frames.rest())


async def registered(agents: AgentStub, bus: BusStub, name: str) -> Peer:
    """Register an agent with a fresh name that starts with `name`."""
    return Peer(bus, await register(agents, f"{name}-{uuid.uuid4().hex[:8]}"))


async def set_state(
    threads: ThreadStub, thread: str, state: ThreadState.ValueType, by: Peer | None = None
) -> None:
    """Open, close or archive a thread, as anonymous or as a caller."""
    request = SetThreadStateRequest(thread=thread, state=state)
    await threads.SetThreadState(request, timeout=BOUND, metadata=by.metadata if by else ())


async def recreate(threads: ThreadStub, thread: str) -> str:
    """Delete a thread and create another with its name; returns the new epoch."""
    await threads.DeleteThread(DeleteThreadRequest(thread=thread), timeout=BOUND)
    created = await threads.CreateThread(CreateThreadRequest(thread=thread), timeout=BOUND)
    return created.thread.epoch
