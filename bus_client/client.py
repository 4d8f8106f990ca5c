"""BusClient: one agent's connection to a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Literal

from bus_client.agents import Agents
from bus_client.requests import build, choice, text
from bus_client.responses import checked_join, checked_thread
from bus_client.thread import ThreadHandle
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, Wait
from threadbus.v1.thread_pb2 import SYNC_MODE_UNSPECIFIED, SyncMode, Thread, ThreadState
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    JOIN_START_HEAD,
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
)


class BusClient(Agents):
    """One agent's connection to a ThreadBus server.

        async with BusClient("127.0.0.1:7420", agent="reviewer") as bus:
            thread = await bus.join("design")
            await thread.post("Ready to review.", mentions=["coder"])

    It belongs to the event loop that it was connected in. Connections that break are made again;
    calls that are safe to repeat are repeated for up to `timeout` seconds.
    While it is connected, others see that the agent is there; see heartbeat().

    Every call may raise Unreachable, Draining, Unauthenticated, AccessDenied, InvalidArgument and
    InternalError; see bus_client.BusError. What cannot be put into a request, such as half a
    character or a number out of range, is InvalidArgument before anything is sent.

    An agent that registered by its name, and that the server does not know any more, is registered
    again: AgentExists if that is impossible.

    Args:
        server: `host`, `host:port` or `unix:PATH`. The port is 7420 unless it is given.
        agent: Name to register, or resume, at the server. Its token is made here and kept in the
            credentials file. None without a token = anonymous, where the server allows it.
        token: A token given out by the server or its operator; nothing is registered then.
        kind: What the agent is. Counts when it is first registered, as the next two do.
        display_name: A name for people, up to 128 bytes.
        description: What it does, up to 1,024 bytes.
        timeout: Seconds that a call may take, with repetitions. Waiting has limits of its own.
            Here and wherever else seconds are given: infinity, or more than 31 years, is no limit;
            what is negative or not a number is refused with InvalidArgument.
        credentials: Another credentials file than the one that THREADBUS_CREDENTIALS names, or
            `credentials.json` in the user's data directory. Looked for only when `agent` is given
            without a `token`. One of the user's own that others can read is refused.
        heartbeats: Tell the server by itself, as often as it wants, that the agent is alive; False
            for tools that come and go. What was read is told anyhow, and heartbeat() can be called.
    """

    async def join(
        self,
        thread: str,
        *,
        create: bool = True,
        topic: str = "",
        context_limit: int = 0,
        start: Literal["head", "first"] = "head",
    ) -> ThreadHandle:
        """Enters a thread, at the place up to which the agent has read it.

        Args:
            thread: 1–128 of `A-Z a-z 0-9 . _ -`, first a letter or digit.
            create: Create it if it is not there; else ThreadNotFound is raised.
            topic: What it is about, if it is created. Up to 1,024 bytes.
            context_limit: How many messages before that place to return as `context`, up to 100.
            start: Where an agent that was never here begins: at the head, or at the first message.
        """
        choice("start", start, ("head", "first"))
        request = build(
            JoinThreadRequest,
            thread=thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=JOIN_START_FIRST if start == "first" else JOIN_START_HEAD,
        )
        joined = await self._calls.call(self._calls.threads.JoinThread, request)
        checked_join(joined, thread)
        return ThreadHandle(thread, self._calls, self._heartbeats, joined)

    def thread(self, name: str) -> ThreadHandle:
        """A thread to post to or read from without joining it. Makes no call."""
        return ThreadHandle(text("thread", name), self._calls, self._heartbeats)

    async def create_thread(
        self,
        name: str,
        *,
        topic: str = "",
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType = SYNC_MODE_UNSPECIFIED,
    ) -> Thread:
        """Creates a thread. ThreadExists if it is there; OutcomeUnknown if the answer was lost.

        Args:
            name: As in join().
            topic: What it is about, up to 1,024 bytes.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            sync_mode: SYNC_MODE_STRICT: posts must say what they expect; see ThreadHandle.post().
        """
        request = build(
            CreateThreadRequest, thread=name, topic=topic, labels=labels, sync_mode=sync_mode
        )
        response = await self._calls.call(self._calls.threads.CreateThread, request, changes=True)
        return response.thread

    async def get_thread(self, name: str) -> Thread:
        """What is known of a thread. ThreadNotFound if there is none."""
        request = build(GetThreadRequest, thread=name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        return checked_thread(response.thread, name)

    async def list_threads(
        self,
        *,
        prefix: str = "",
        states: Iterable[ThreadState.ValueType] = (),
        participant: str = "",
    ) -> AsyncIterator[Thread]:
        """All threads, last active first.

        Args:
            prefix: Only names that begin so.
            states: Only these. Empty = open and closed ones, not archived.
            participant: Only those that this agent takes part in.
        """
        request = build(ListThreadsRequest, prefix=prefix, states=states, participant=participant)
        async for page in self._calls.pages(self._calls.threads.ListThreads, request):
            for thread in page.threads:
                yield thread

    async def list_waits(self, *, agent: str = "", thread: str = "") -> AsyncIterator[Wait]:
        """The open waits of the server, longest first. Only for operators: else AccessDenied.

        Args:
            agent: Only this agent's. Empty = all.
            thread: Only those on this thread. Empty = all.
        """
        request = build(ListWaitsRequest, agent=agent, thread=thread)
        async for page in self._calls.pages(self._calls.admin.ListWaits, request):
            for wait in page.waits:
                yield wait
