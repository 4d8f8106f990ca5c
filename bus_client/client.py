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

    Belongs to the event loop in which it was connected; any number of calls may run at once.
    Broken connections are reopened. Calls that are safe to repeat are retried for up to `timeout`
    seconds. While the client is connected, others see that the agent is there; see heartbeat().

    Every call may raise Unreachable, Draining, StoreBusy, StoreFailed, Unauthenticated,
    AccessDenied, InvalidArgument, InternalError and ProtocolError; see bus_client.BusError.
    InvalidArgument is raised before anything is sent for an argument that does not fit into the
    request, such as a number out of range. A call of a client that is not connected, or is closed
    during the call, raises RuntimeError.

    If the server no longer knows an agent that registered by its name, the agent is registered
    again. A call raises AgentExists if that fails because its name is taken.

    Args:
        server: `host`, `host:port` or `unix:PATH`. The default port is 7420.
        agent: The name to register, or to resume. Its token is created here and kept in the
            credentials file. None without a token = anonymous, where the server allows it.
        token: A token given out by the server or its operator; nothing is registered then.
        kind: What the agent is. Used when it is first registered, like the next two.
        display_name: A name for people, up to 128 bytes.
        description: What it does, up to 1,024 bytes.
        timeout: Seconds for a call with its retries; follow(), wait() and post_many() have limits
            of their own. Here and for all other times: infinity, or more than 31 years, means no
            limit; a negative number or NaN raises InvalidArgument.
        credentials: Path of the credentials file. None = THREADBUS_CREDENTIALS, or else
            `credentials.json` in the user's data directory. Used only for an `agent` without a
            `token`. A file of the user that others can read is refused.
        heartbeats: Report automatically that the agent is alive, at the interval that the server
            asks for. With False, for short-lived tools, only heartbeat() does. Read positions are
            reported in either case.

    Raises:
        InvalidArgument: `server`, `token`, `timeout` or `credentials` is not valid. The other
            arguments are checked by connect().
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
        self._automatic_heartbeats = heartbeats
        self._agent = agent or ANONYMOUS
        self._created = False
        self._opened: tuple[Calls, Heartbeats] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connects and registers, as `async with` does. No-op if connected.

        Raises:
            Unreachable: No server answered within `timeout`.
            AgentExists: The agent's name belongs to another token.
            Unauthenticated: The token is unknown, or belongs to another agent.
            CredentialsError: The agent's token cannot be read from or kept in the credentials file.
            RuntimeError: The process was forked from one in which a client had connected, which
                gRPC does not survive. Start processes with the method `spawn`.
        """
        refuse_fork()
        if self._opened is not None:
            return
        connections = Connections(self._identity.server)
        calls = Calls(connections, identity=self._identity, timeout=self._timeout)
        try:
            self._agent = await calls.authenticate()
            self._created = calls.created
        except BaseException:
            await calls.close()
            raise
        anonymous = self._agent == ANONYMOUS
        heartbeats = Heartbeats(calls, anonymous=anonymous, automatic=self._automatic_heartbeats)
        self._opened = calls, heartbeats

    async def close(self) -> None:
        """Reports the last read positions, for at most 2 s, and disconnects. Ends all open calls.

        Does not end the agent's session: others see the agent until its lease expires; see
        end_session(). No-op if not connected.
        """
        opened, self._opened = self._opened, None
        if opened is None or forked():  # the parent process still uses the connection
            return
        calls, heartbeats = opened
        try:
            await heartbeats.close()
        finally:
            await calls.close()

    @property
    def agent(self) -> str:
        """The caller's name as the server sees it; "anonymous" without an agent."""
        return self._agent

    @property
    def created(self) -> bool:
        """Whether connect() registered the agent. If unexpected, the name may be misspelt."""
        return self._created

    @property
    def server(self) -> str:
        """The server's address, with its port."""
        return self._identity.server

    async def server_info(self) -> GetServerInfoResponse:
        """Returns the server's version and limits, and the caller's identity."""
        return await self._calls.call(self._calls.bus.GetServerInfo, GetServerInfoRequest())

    async def heartbeat(
        self,
        *,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Reports what the agent is doing. The response lists its unread threads in `unread`.

        The text and the lease hold until they are changed: automatic heartbeats repeat them, even
        if this call fails with an error other than InvalidArgument. The server ignores the
        heartbeats of an anonymous client.

        Args:
            state: PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE or PRESENCE_AWAITING_HUMAN.
                Unspecified = unchanged.
            status_text: What it is doing, for people, up to 256 bytes. None = unchanged.
            lease: Seconds from now for which the agent may be silent without counting as gone, for
                example during a long model call that blocks the event loop. The server may lower it
                (to 1 h). 0 = its agent_timeout, the default. None = unchanged.
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
        """Registers another agent. Returns it and its token, which cannot be retrieved later.

        Only for operators where the server requires tokens. To register the client's own agent,
        pass its name to BusClient.

        Args:
            name: 1–63 characters of `a-z 0-9 . _ -`, the first a letter or digit.
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
        """Returns an agent, the caller by default. Raises AgentNotFound if there is none."""
        request = build(agent_service_pb2.GetAgentRequest, agent=name)
        response = await self._calls.call(self._calls.agents.GetAgent, request)
        return response.agent

    async def list_agents(
        self, *, presences: Iterable[Presence.ValueType] = ()
    ) -> AsyncIterator[Agent]:
        """Yields all agents, by name.

        Args:
            presences: Only agents with one of these; PRESENCE_UNSPECIFIED is that of agents that
                were never seen. Empty = all.
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
        """Changes what others see of an agent, and returns it. Operators may change any agent.

        Args:
            name: The agent. Empty = the caller.
            display_name: Its new name for people, up to 128 bytes. None = unchanged.
            description: What it does, up to 1,024 bytes. None = unchanged.
            labels: Replaces all its labels. None = unchanged.

        Raises:
            AgentNotFound: There is no agent of this name.
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
        """Removes an agent permanently. Operators may remove any agent.

        Revokes its tokens, ends its open waits, and removes it from its threads. Its messages
        remain, and its name cannot be registered again.

        Args:
            name: The agent. Empty = the caller.

        Raises:
            AgentNotFound: There is no agent of this name.
            OutcomeUnknown: The response was lost.
        """
        request = build(agent_service_pb2.UnregisterAgentRequest, agent=name)
        itself = name in ("", self.agent)
        async with self._heartbeats.ending_session() if itself else nullcontext():
            await self._calls.call(self._calls.agents.UnregisterAgent, request)

    async def rotate_token(self, *, grace: float = 60.0) -> str:
        """Replaces the caller's token. Returns the new one, which cannot be retrieved later.

        The client uses the new token from now on, and reopens its own waits. If the old one was
        in the credentials file, the new one replaces it there first; other clients that use the
        file find it when they need it.

        Args:
            grace: Seconds for which the old token remains valid, up to 1 h. With 0 a lost response
                loses the agent.

        Raises:
            OutcomeUnknown: The response was lost. Call it again within `grace`.
            CredentialsError: The new token could not be kept in the file; the client uses it.
        """
        request = agent_service_pb2.RotateTokenRequest()
        request.grace.FromMicroseconds(int(seconds("grace", grace) * 1e6))
        return await self._calls.rotate_token(request)

    async def end_session(self) -> None:
        """Ends the agent's session: others see at once that it is gone (PRESENCE_OFFLINE).

        Reports the read positions first. Ends all open waits of the agent, including those of its
        other processes: their follow() ends as when the thread is closed. Any later call of the
        agent starts a new session, so this client sends no automatic heartbeats until the next
        heartbeat(), acknowledge(), follow() or wait(). No-op for an anonymous client.
        """
        anonymous = self.agent == ANONYMOUS
        ending = nullcontext() if anonymous else self._calls.session_generation.ending()
        async with ending, self._heartbeats.ending_session():
            request = agent_service_pb2.EndSessionRequest()
            await self._calls.call(self._calls.agents.EndSession, request)

    async def join(
        self,
        thread: str,
        *,
        create: bool = True,
        topic: str = "",
        context_limit: int = 0,
        start: Literal["head", "first"] = "head",
    ) -> ThreadHandle:
        """Joins a thread. Returns a handle at the position up to which the agent has read it.

        Args:
            thread: 1–128 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
            create: Create the thread if there is none.
            topic: What it is about, if it is created. Up to 1,024 bytes.
            context_limit: How many messages before that position to return as `context`, up to
                100.
            start: Where an agent that was never in the thread begins: at the head, or at the first
                message.

        Raises:
            ThreadNotFound: There is no such thread, and `create` is False.
        """
        choice("start", start, ("head", "first"))
        request = build(
            thread_service_pb2.JoinThreadRequest,
            thread=thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=(
                thread_service_pb2.JOIN_START_FIRST
                if start == "first"
                else thread_service_pb2.JOIN_START_HEAD
            ),
        )
        joined = await self._calls.call(self._calls.threads.JoinThread, request)
        checked_join(joined, thread)
        return ThreadHandle(thread, self._calls, self._heartbeats, joined)

    def thread(self, name: str) -> ThreadHandle:
        """Returns a handle to post to or read a thread without joining it. Makes no call."""
        return ThreadHandle(text("thread", name), self._calls, self._heartbeats)

    async def create_thread(
        self,
        name: str,
        *,
        topic: str = "",
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType = SYNC_MODE_UNSPECIFIED,
    ) -> Thread:
        """Creates a thread, and returns it.

        Args:
            name: As in join().
            topic: What it is about, up to 1,024 bytes.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            sync_mode: With SYNC_MODE_STRICT posts need expected_last_seq; see ThreadHandle.post().

        Raises:
            ThreadExists: There is a thread of this name.
            OutcomeUnknown: The response was lost.
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
        """Returns a thread. Raises ThreadNotFound if there is none of this name."""
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
        """Yields all threads, the last active first.

        A thread to which an entry is appended while the list is read may be missing, or listed
        twice.

        Args:
            prefix: Only threads whose names begin with it.
            states: Only threads in one of these. Empty = open and closed ones, not archived.
            participant: Only threads in which this agent participates.
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
        """Yields the open waits of the server, longest first. Only for operators.

        Args:
            agent: Only this agent's. Empty = all.
            thread: Only those on this thread. Empty = all.

        Raises:
            AccessDenied: The caller is not an operator.
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
