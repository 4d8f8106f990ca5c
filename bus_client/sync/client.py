"""BusClient for programs without asyncio."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Self

from bus_client.client import BusClient as AsyncBusClient
from bus_client.sync.background import finish, iterate, run
from bus_client.sync.thread import ThreadHandle
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_UNSPECIFIED,
    Agent,
    AgentKind,
    Presence,
)
from threadbus.v1.bus_service_pb2 import GetServerInfoResponse, HeartbeatResponse
from threadbus.v1.thread_pb2 import SYNC_MODE_UNSPECIFIED, SyncMode, Thread, ThreadState


class BusClient:
    """One agent's connection to a ThreadBus server.

        with BusClient("127.0.0.1:7420", agent="reviewer") as bus:
            thread = bus.join("design")
            thread.post("Ready to review.", mentions=["coder"])

    Its arguments, its methods and what they raise are those of bus_client.BusClient, where they are
    described; bus_client.sync tells what it means that they block.
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
        self._client = AsyncBusClient(
            server,
            agent=agent,
            token=token,
            kind=kind,
            display_name=display_name,
            description=description,
            timeout=timeout,
            credentials=credentials,
            heartbeats=heartbeats,
        )

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connects and registers. `with` does it.

        See bus_client.BusClient.connect.
        """
        run(self._client.connect)

    def close(self) -> None:
        """Reports what was read last, at most 2 s long, and disconnects. Ends all open calls.

        See bus_client.BusClient.close.
        """
        finish(self._client.close)

    @property
    def agent(self) -> str:
        """The caller as the server sees it; "anonymous" without an agent."""
        return self._client.agent

    @property
    def created(self) -> bool:
        """Connecting registered the agent: nobody had its name before. Is it misspelt?"""
        return self._client.created

    @property
    def server(self) -> str:
        """The server's address."""
        return self._client.server

    def server_info(self) -> GetServerInfoResponse:
        """What the server is, its limits, and who the caller is."""
        return run(self._client.server_info)

    def heartbeat(
        self,
        *,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Tells others now what the agent does; `unread` of the answer, what there is to read.

        See bus_client.BusClient.heartbeat.
        """
        return run(self._client.heartbeat, state=state, status_text=status_text, lease=lease)

    def register_agent(
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

        See bus_client.BusClient.register_agent.
        """
        return run(
            self._client.register_agent,
            name,
            kind=kind,
            display_name=display_name,
            description=description,
            labels=labels,
            token=token,
        )

    def get_agent(self, name: str = "") -> Agent:
        """What is known of an agent, the caller by default. AgentNotFound if there is none."""
        return run(self._client.get_agent, name)

    def list_agents(self, *, presences: Iterable[Presence.ValueType] = ()) -> Iterator[Agent]:
        """All agents, by name.

        See bus_client.BusClient.list_agents.
        """
        return iterate(self._client.list_agents, presences=presences)

    def update_agent(
        self,
        name: str = "",
        *,
        display_name: str | None = None,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Agent:
        """Changes what others see of an agent: the caller, or for operators anyone.

        See bus_client.BusClient.update_agent.
        """
        return run(
            self._client.update_agent,
            name,
            display_name=display_name,
            description=description,
            labels=labels,
        )

    def unregister_agent(self, name: str = "") -> None:
        """Takes an agent out for ever: the caller, or for operators anyone.

        See bus_client.BusClient.unregister_agent.
        """
        run(self._client.unregister_agent, name)

    def rotate_token(self, *, grace: float = 60.0) -> str:
        """Gives the caller a new token in place of the one it calls with.

        See bus_client.BusClient.rotate_token.
        """
        return run(self._client.rotate_token, grace=grace)

    def end_session(self) -> None:
        """Says goodbye for the agent: others see at once that it is gone (PRESENCE_OFFLINE).

        See bus_client.BusClient.end_session.
        """
        run(self._client.end_session)

    def join(
        self,
        thread: str,
        *,
        create: bool = True,
        topic: str = "",
        context_limit: int = 0,
        start: Literal["head", "first"] = "head",
    ) -> ThreadHandle:
        """Enters a thread, at the place up to which the agent has read it.

        See bus_client.BusClient.join.
        """
        joined = run(
            self._client.join,
            thread,
            create=create,
            topic=topic,
            context_limit=context_limit,
            start=start,
        )
        return ThreadHandle(joined)

    def thread(self, name: str) -> ThreadHandle:
        """A thread to post to or read from without joining it. Makes no call."""
        return ThreadHandle(self._client.thread(name))

    def create_thread(
        self,
        name: str,
        *,
        topic: str = "",
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType = SYNC_MODE_UNSPECIFIED,
    ) -> Thread:
        """Creates a thread. ThreadExists if it is there; OutcomeUnknown if the answer was lost.

        See bus_client.BusClient.create_thread.
        """
        return run(
            self._client.create_thread, name, topic=topic, labels=labels, sync_mode=sync_mode
        )

    def get_thread(self, name: str) -> Thread:
        """What is known of a thread. ThreadNotFound if there is none."""
        return run(self._client.get_thread, name)

    def list_threads(
        self,
        *,
        prefix: str = "",
        states: Iterable[ThreadState.ValueType] = (),
        participant: str = "",
    ) -> Iterator[Thread]:
        """All threads, last active first.

        See bus_client.BusClient.list_threads.
        """
        return iterate(
            self._client.list_threads, prefix=prefix, states=states, participant=participant
        )

    def list_waits(self, *, agent: str = "", thread: str = "") -> Iterator[Wait]:
        """The open waits of the server, longest first. Only for operators: else AccessDenied.

        See bus_client.BusClient.list_waits.
        """
        return iterate(self._client.list_waits, agent=agent, thread=thread)
