"""BusClient: one agent's connection to a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import nullcontext
from typing import Literal, Self

from bus_client import credentials as stored
from bus_client.calls import Calls
from bus_client.channel import forked, refuse_fork
from bus_client.connections import Connections
from bus_client.heartbeats import Heartbeats
from bus_client.identity import ANONYMOUS, Identity
from bus_client.requests import build, choice, seconds, text
from bus_client.responses import checked_join, checked_thread
from bus_client.thread import ThreadHandle
from threadbus.v1 import admin_service_pb2, agent_service_pb2, thread_service_pb2
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_UNSPECIFIED,
    Agent,
    AgentKind,
    Presence,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    HeartbeatRequest,
    HeartbeatResponse,
)
from threadbus.v1.thread_pb2 import SYNC_MODE_UNSPECIFIED, SyncMode, Thread, ThreadState


class BusClient:
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

    def __init__(
        self,
        server: str = "127.0.0.1:7420",
        *,
        agent: str | None = None,
        token: str | None = None,
        kind: AgentKind.ValueType = AGENT_KIND_AGENT,
        display_name: str = "",
        description: str = "",
        timeout: float = 30.0,
        credentials: str | os.PathLike[str] | None = None,
        heartbeats: bool = True,
    ) -> None:
        self._timeout = seconds("timeout", timeout)
        self._identity = Identity(
            server=server,
            agent=agent,
            token=token,
            kind=kind,
            display_name=display_name,
            description=description,
            credentials=credentials,
        )
        self._timed = heartbeats
        self._agent = agent or ANONYMOUS
        self._created = False
        self._opened: tuple[Calls, Heartbeats] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connects and registers. `async with` does it.

        Raises:
            Unreachable: No server answered within `timeout`.
            AgentExists: The agent's name belongs to another token.
            Unauthenticated: The token is unknown, or belongs to another agent.
            CredentialsError: The agent's token cannot be read or kept in the credentials file.
            RuntimeError: The process was forked from one in which a client had connected: gRPC
                cannot be forked. Start it with the method `spawn`.
        """
        refuse_fork()
        if self._opened is not None:
            return
        connections = Connections(self._identity.server)
        calls = Calls(connections, identity=self._identity, timeout=self._timeout)
        try:
            self._agent = await calls.introduce()
            self._created = calls.created
        except BaseException:
            await calls.close()
            raise
        anonymous = self._agent == ANONYMOUS
        self._opened = calls, Heartbeats(calls, anonymous=anonymous, timed=self._timed)

    async def close(self) -> None:
        """Reports what was read last, at most 2 s long, and disconnects. Ends all open calls.

        It says no goodbye: others see the agent until its lease ends; see end_session().
        """
        opened, self._opened = self._opened, None
        if opened is None or forked():  # another process's: it goes on with it
            return
        calls, heartbeats = opened
        try:
            await heartbeats.close()
        finally:
            await calls.close()

    @property
    def agent(self) -> str:
        """The caller as the server sees it; "anonymous" without an agent."""
        return self._agent

    @property
    def created(self) -> bool:
        """Connecting registered the agent: nobody had its name before. Is it misspelt?"""
        return self._created

    @property
    def server(self) -> str:
        """The server's address."""
        return self._identity.server

    async def server_info(self) -> GetServerInfoResponse:
        """What the server is, its limits, and who the caller is."""
        return await self._calls.call(self._calls.bus.GetServerInfo, GetServerInfoRequest())

    async def heartbeat(
        self,
        *,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Tells others now what the agent does; `unread` of the answer, what there is to read.

        What was said holds until it is said anew: the client's own heartbeats carry it on, even
        if this call fails, unless with InvalidArgument. Does nothing for an anonymous client.

        Args:
            state: PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE or PRESENCE_AWAITING_HUMAN.
                Unspecified = leave it as it is.
            status_text: What it does, for people, up to 256 bytes. None = leave it as it is.
            lease: Seconds from now for which silence is no bad sign, such as those of a long model
                turn that blocks the event loop; the server may lower it (to 1 h). 0 = no more than
                its agent_timeout, as without any; None = leave it as it is.
        """
        build(HeartbeatRequest, state=state, status_text="" if status_text is None else status_text)
        lease = None if lease is None else seconds("lease", lease)
        self._heartbeats.resume()
        return await self._heartbeats.beat(state, status_text=status_text, lease=lease)

    async def register_agent(
        self,
        name: str,
        *,
        kind: AgentKind.ValueType = AGENT_KIND_AGENT,
        display_name: str = "",
        description: str = "",
        labels: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> tuple[Agent, str]:
        """Registers another agent; the agent and its token, which nobody will tell again.

        Where tokens are required only an operator may. An agent of one's own is registered by
        giving its name to BusClient.

        Args:
            name: 1–63 of `a-z 0-9 . _ -`, first a letter or digit.
            kind: What it is: AGENT_KIND_AGENT, or AGENT_KIND_HUMAN.
            display_name: A name for people, up to 128 bytes.
            description: What it does, up to 1,024 bytes.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            token: Its secret, 32–128 of `A-Z a-z 0-9 _ -`. None = a new one.

        Raises:
            AgentExists: The name is registered with another token.
        """
        request = build(
            agent_service_pb2.RegisterAgentRequest,
            agent=name,
            kind=kind,
            display_name=display_name,
            description=description,
            labels=labels,
            token=stored.new_token() if token in (None, "") else token,
        )
        response = await self._calls.call(self._calls.agents.RegisterAgent, request)
        return response.agent, response.token

    async def get_agent(self, name: str = "") -> Agent:
        """What is known of an agent, the caller by default. AgentNotFound if there is none."""
        request = build(agent_service_pb2.GetAgentRequest, agent=name)
        response = await self._calls.call(self._calls.agents.GetAgent, request)
        return response.agent

    async def list_agents(
        self, *, presences: Iterable[Presence.ValueType] = ()
    ) -> AsyncIterator[Agent]:
        """All agents, by name.

        Args:
            presences: Only those with one of these; PRESENCE_UNSPECIFIED are those that were never
                seen. Empty = all.
        """
        request = build(agent_service_pb2.ListAgentsRequest, presences=presences)
        async for page in self._calls.pages(self._calls.agents.ListAgents, request):
            for agent in page.agents:
                yield agent

    async def update_agent(
        self,
        name: str = "",
        *,
        display_name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Agent:
        """Changes what others see of an agent: the caller, or for operators anyone.

        Args:
            name: The agent. Empty = the caller.
            display_name: Its new name for people, up to 128 bytes. None = as before.
            description: What it does, up to 1,024 bytes. None = as before.
            labels: All its labels. None = as before.

        Raises:
            AgentNotFound: There is none of this name.
        """
        changes = {"display_name": display_name, "description": description, "labels": labels}
        given = {field: value for field, value in changes.items() if value is not None}
        request = build(
            agent_service_pb2.UpdateAgentRequest,
            agent=name,
            update_mask={"paths": list(given)},
            **given,
        )
        response = await self._calls.call(self._calls.agents.UpdateAgent, request)
        return response.agent

    async def unregister_agent(self, name: str = "") -> None:
        """Takes an agent out for ever: the caller, or for operators anyone.

        Its tokens and its open waits end, it leaves its threads; what it wrote stays. Nobody can
        register its name again.

        Args:
            name: The agent. Empty = the caller.

        Raises:
            AgentNotFound: There is none of this name.
            OutcomeUnknown: The answer was lost.
        """
        request = build(agent_service_pb2.UnregisterAgentRequest, agent=name)
        itself = name in ("", self.agent)
        async with self._heartbeats.goodbye() if itself else nullcontext():
            await self._calls.call(self._calls.agents.UnregisterAgent, request)

    async def rotate_token(self, *, grace: float = 60.0) -> str:
        """Gives the caller a new token in place of the one it calls with.

        The client goes on with the new one; its own open waits are opened anew. If it is kept in
        the credentials file, the new one is there before anything is done with it, and other
        clients that registered by name with that file find it when they need it.

        Args:
            grace: Seconds that the old one still works, up to 1 h. Without any, a lost answer
                loses the agent.

        Returns:
            The new token, which nobody will tell again.

        Raises:
            OutcomeUnknown: The answer was lost. Within `grace`, call it again.
        """
        request = agent_service_pb2.RotateTokenRequest()
        request.grace.FromMicroseconds(int(seconds("grace", grace) * 1e6))
        return await self._calls.rotate_token(request)

    async def end_session(self) -> None:
        """Says goodbye for the agent: others see at once that it is gone (PRESENCE_OFFLINE).

        Ends the open waits of the agent, also those of its other processes: their follow() ends as
        when the thread is closed. Any later call of the agent brings it back. So this client's
        own heartbeats rest, until the next heartbeat(), acknowledge(), follow() or wait(); what was
        read is reported before the goodbye. Does nothing for an anonymous client.
        """
        counted = nullcontext() if self.agent == ANONYMOUS else self._calls.goodbyes.saying()
        async with counted, self._heartbeats.goodbye():
            await self._calls.call(
                self._calls.agents.EndSession, agent_service_pb2.EndSessionRequest()
            )

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
            thread_service_pb2.JoinThreadRequest,
            thread=thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=thread_service_pb2.JOIN_START_FIRST
            if start == "first"
            else thread_service_pb2.JOIN_START_HEAD,
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
            thread_service_pb2.CreateThreadRequest,
            thread=name,
            topic=topic,
            labels=labels,
            sync_mode=sync_mode,
        )
        response = await self._calls.call(self._calls.threads.CreateThread, request)
        return response.thread

    async def get_thread(self, name: str) -> Thread:
        """What is known of a thread. ThreadNotFound if there is none."""
        request = build(thread_service_pb2.GetThreadRequest, thread=name)
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

        One that gets an entry while the list is read may be left out, or listed twice.

        Args:
            prefix: Only names that begin so.
            states: Only these. Empty = open and closed ones, not archived.
            participant: Only those that this agent takes part in.
        """
        request = build(
            thread_service_pb2.ListThreadsRequest,
            prefix=prefix,
            states=states,
            participant=participant,
        )
        async for page in self._calls.pages(self._calls.threads.ListThreads, request):
            for thread in page.threads:
                yield thread

    async def list_waits(self, *, agent: str = "", thread: str = "") -> AsyncIterator[Wait]:
        """The open waits of the server, longest first. Only for operators: else AccessDenied.

        Args:
            agent: Only this agent's. Empty = all.
            thread: Only those on this thread. Empty = all.
        """
        request = build(admin_service_pb2.ListWaitsRequest, agent=agent, thread=thread)
        async for page in self._calls.pages(self._calls.admin.ListWaits, request):
            for wait in page.waits:
                yield wait

    @property
    def _calls(self) -> Calls:
        return self._open[0]

    @property
    def _heartbeats(self) -> Heartbeats:
        return self._open[1]

    @property
    def _open(self) -> tuple[Calls, Heartbeats]:
        if self._opened is None:
            raise RuntimeError("Not connected: use it as a context manager, or call connect().")
        return self._opened
