"""BusClient: one agent's connection to a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

from bus_client import credentials as stored
from bus_client.calls import Calls
from bus_client.channel import open_channel
from bus_client.errors import AgentExists, Unauthenticated
from bus_client.reporter import Reporter
from bus_client.thread import ThreadHandle
from threadbus.v1 import agent_service_pb2
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent, AgentKind
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, GetServerInfoResponse
from threadbus.v1.thread_pb2 import Thread, ThreadState
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    JOIN_START_HEAD,
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
)

_ANONYMOUS = "anonymous"


class BusClient:
    """One agent's connection to a ThreadBus server.

        async with BusClient("127.0.0.1:7420", agent="reviewer") as bus:
            thread = await bus.join("design")
            await thread.post("Ready to review.", mentions=["coder"])

    It belongs to the event loop that it was connected in. Connections that break are made again;
    calls that are safe to repeat are repeated for up to `timeout` seconds.

    Every call may raise Unreachable, Draining, Unauthenticated, AccessDenied, InvalidArgument and
    InternalError; see bus_client.BusError.

    Args:
        server: `host:port` or `unix:PATH`.
        agent: Name to register, or resume, at the server. Its token is made here and kept in the
            credentials file. None without a token = anonymous, where the server allows it.
        token: A token given out by the server or its operator; nothing is registered then.
        kind: What the agent is. Counts when it is first registered, as the next two do.
        display_name: A name for people, up to 128 bytes.
        description: What it does, up to 1,024 bytes.
        timeout: Seconds that a call may take, with repetitions. Waiting has limits of its own.
        credentials: Another credentials file than `credentials.json` in the user's data directory.
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
        credentials: Path | None = None,
    ) -> None:
        self._server = server
        self._name = agent
        self._token = token
        self._kind = kind
        self._display_name = display_name
        self._description = description
        self._timeout = timeout
        self._credentials = credentials or stored.default_path()
        self._agent = agent or _ANONYMOUS
        self._open_calls: Calls | None = None
        self._reporter: Reporter | None = None

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
        """
        if self._open_calls is not None:
            return
        calls = Calls(open_channel(self._server), server=self._server, timeout=self._timeout)
        try:
            self._agent = await self._identify(calls)
        except BaseException:
            await calls.close()
            raise
        self._open_calls = calls
        if self._agent != _ANONYMOUS:
            self._reporter = Reporter(calls)

    async def close(self) -> None:
        """Reports what was read last, at most 2 s long, and disconnects. Ends all open calls."""
        calls, reporter = self._open_calls, self._reporter
        self._open_calls = self._reporter = None
        try:
            if reporter is not None:
                await reporter.close()
        finally:
            if calls is not None:
                await calls.close()

    @property
    def agent(self) -> str:
        """The caller as the server sees it; "anonymous" without an agent."""
        return self._agent

    @property
    def server(self) -> str:
        """The server's address."""
        return self._server

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
        request = JoinThreadRequest(
            thread=thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=JOIN_START_FIRST if start == "first" else JOIN_START_HEAD,
        )
        joined = await self._calls.call(self._calls.threads.JoinThread, request)
        return ThreadHandle(thread, self._calls, self._reporter, joined)

    def thread(self, name: str) -> ThreadHandle:
        """A thread to post to or read from without joining it. Makes no call."""
        return ThreadHandle(name, self._calls, self._reporter)

    async def create_thread(
        self, name: str, *, topic: str = "", labels: Mapping[str, str] | None = None
    ) -> Thread:
        """Creates a thread. ThreadExists if it is there; OutcomeUnknown if the answer was lost."""
        request = CreateThreadRequest(thread=name, topic=topic, labels=labels)
        response = await self._calls.call(self._calls.threads.CreateThread, request, changes=True)
        return response.thread

    async def get_thread(self, name: str) -> Thread:
        """What is known of a thread. ThreadNotFound if there is none."""
        request = GetThreadRequest(thread=name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        return response.thread

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
        request = ListThreadsRequest(prefix=prefix, states=states, participant=participant)
        while True:
            page = await self._calls.call(self._calls.threads.ListThreads, request)
            for thread in page.threads:
                yield thread
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

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
        token = token or stored.new_token()
        request = agent_service_pb2.RegisterAgentRequest(
            agent=name,
            kind=kind,
            display_name=display_name,
            description=description,
            labels=labels,
            token=token,
        )
        response = await self._calls.call(self._calls.agents.RegisterAgent, request)
        return response.agent, response.token

    async def get_agent(self, name: str = "") -> Agent:
        """What is known of an agent, the caller by default. AgentNotFound if there is none."""
        request = agent_service_pb2.GetAgentRequest(agent=name)
        response = await self._calls.call(self._calls.agents.GetAgent, request)
        return response.agent

    async def list_agents(self) -> AsyncIterator[Agent]:
        """All agents, by name."""
        request = agent_service_pb2.ListAgentsRequest()
        while True:
            page = await self._calls.call(self._calls.agents.ListAgents, request)
            for agent in page.agents:
                yield agent
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def server_info(self) -> GetServerInfoResponse:
        """What the server is, its limits, and who the caller is."""
        return await self._calls.call(self._calls.bus.GetServerInfo, GetServerInfoRequest())

    @property
    def _calls(self) -> Calls:
        if self._open_calls is None:
            raise RuntimeError("Not connected: use `async with BusClient(…)`, or await connect().")
        return self._open_calls

    async def _identify(self, calls: Calls) -> str:
        """Says to the server who we are; returns who it takes us for."""
        if self._token is not None:
            calls.authorize(self._token)
        elif self._name is not None:
            return await self._register(calls, self._name)
        info = await calls.call(calls.bus.GetServerInfo, GetServerInfoRequest())
        if self._name is not None and info.agent != self._name:
            raise Unauthenticated(
                f"The token is that of {info.agent!r}, not of {self._name!r}.",
                code="UNAUTHENTICATED",
            )
        return info.agent

    async def _register(self, calls: Calls, name: str) -> str:
        # The token is saved before the server hears of it: a lost answer cannot lose the name.
        token = await asyncio.to_thread(stored.agent_token, self._credentials, self._server, name)
        request = agent_service_pb2.RegisterAgentRequest(
            agent=name,
            kind=self._kind,
            display_name=self._display_name,
            description=self._description,
            token=token,
        )
        try:
            response = await calls.call(calls.agents.RegisterAgent, request)
        except Unauthenticated:
            # Tokens are required here: an agent that is registered may repeat it, with its own.
            calls.authorize(token)
            response = await calls.call(calls.agents.RegisterAgent, request)
        except AgentExists as error:
            raise AgentExists(
                f"At {self._server} the name {name!r} belongs to another token than the one in "
                f"{self._credentials}. Pass the token it was registered with, or take another "
                "name. (Tokens are kept by address: `localhost` and `127.0.0.1` are two.)",
                code=error.code,
                reason=error.reason,
                metadata=error.metadata,
            ) from error
        calls.authorize(token)
        return response.agent.name
