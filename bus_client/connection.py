"""A client's connection: who it is to the server, and from when until when."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Self

from bus_client.address import whole_address
from bus_client.calls import Calls
from bus_client.connections import Connections
from bus_client.forks import forked, refuse_fork
from bus_client.heartbeats import Heartbeats
from bus_client.identity import Identity
from bus_client.requests import build, refuse, seconds, text
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_UNSPECIFIED,
    AgentKind,
    Presence,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    HeartbeatRequest,
    HeartbeatResponse,
)

#: Who calls without a token.
ANONYMOUS = "anonymous"


class Connection:
    """What BusClient is connected with: its identity, its calls and its heartbeats."""

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
            server=_address(server),
            agent=agent,
            token=_token(token),
            kind=kind,
            display_name=display_name,
            description=description,
            credentials=_path(credentials),
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


def _address(server: str) -> str:
    try:
        return whole_address(text("server", server))
    except ValueError as error:
        refuse("server", str(error))


def _token(token: str | None) -> str | None:
    if token is not None and not re.fullmatch("[!-~]+", text("token", token)):
        refuse("token", "must be printable ASCII without blanks")  # it goes into a header
    return token


def _path(credentials: str | os.PathLike[str] | None) -> Path | None:
    if credentials is None:
        return None
    try:
        return Path(credentials)
    except TypeError:
        refuse("credentials", f"must be a path, not {type(credentials).__name__}")
