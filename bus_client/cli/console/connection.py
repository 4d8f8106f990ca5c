"""A console's connection to the bus, which may be down when the console starts."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import bus_client
from bus_client import credentials
from bus_client.cli.agents import register_with_token
from bus_client.cli.resolving import resolution_error

if TYPE_CHECKING:
    from bus_client import BusClient
    from bus_client.cli.session import Session

_AGAIN = 1.0  # seconds between two attempts to reach a server
_GOODBYE = 0.5  # seconds to end the person's session
_HUMAN = bus_client.AgentKind.AGENT_KIND_HUMAN


class Connection:
    """The client of a console: it acts for one agent, or with an operator's token.

    Attributes:
        server: The server's address for users, under which tokens are kept.
        agent: For whom it acts; until a server has answered, the name that was given, or "".
        kind: `human`, `agent` or `operator`; "" until a server has answered.
        ready: Set once a server has answered.
    """

    def __init__(self, session: Session, known_as: str) -> None:
        self.server = known_as
        self.agent = session.agent or ""
        self.kind = ""
        self.ready = asyncio.Event()
        self._session = session
        self._bus: BusClient | None = None

    @property
    def bus(self) -> BusClient:
        """The client. Raises Unreachable until a server has answered."""
        if self._bus is None:
            raise bus_client.Unreachable(f"{self.server} does not answer yet.", code="UNAVAILABLE")
        return self._bus

    async def run(self) -> None:
        """Connect, and stay connected until the task is cancelled; then end the person's session.

        Registers the person first, if the token is an operator's.

        Raises:
            BusError: The server has refused the agent or the token, or its host name is unknown.
        """
        async with self._client(await self._as_person()) as bus:
            self.agent = bus.agent
            if "admin" in (await bus.server_info()).scopes:
                self.kind = "operator"
            else:
                self.kind = "human" if (await bus.get_agent()).kind == _HUMAN else "agent"
            self._bus = bus
            self.ready.set()
            try:
                await asyncio.Event().wait()
            finally:
                if self.kind == "human":
                    with suppress(bus_client.BusError, TimeoutError):
                        async with asyncio.timeout(_GOODBYE):
                            await bus.end_session()

    async def _as_person(self) -> Session:
        """Returns the session of the agent, which is registered if the token is an operator's."""
        session = self._session
        if session.agent is None:
            return session
        if session.token is None:
            kept = credentials.default_path(), self.server, session.agent
            token = await asyncio.to_thread(credentials.kept_token, *kept)
            return dataclasses.replace(session, token=token)
        async with self._client(dataclasses.replace(session, agent=None)) as bus:
            if "admin" not in (await bus.server_info()).scopes:
                return session
            _, token = await register_with_token(
                bus, session.agent, {"kind": _HUMAN}, server=self.server
            )
        return dataclasses.replace(session, token=token)

    @asynccontextmanager
    async def _client(self, session: Session) -> AsyncIterator[BusClient]:
        """Yields a connected client, once a server answers."""
        client = session.client(kind=_HUMAN)
        while True:
            try:
                await client.connect()
                break
            except bus_client.TlsFailed:
                raise
            except bus_client.Unavailable as error:
                if why := await resolution_error(session.server):
                    raise bus_client.Unreachable(why, code=error.code) from error
            except bus_client.AccessDenied as error:
                raise bus_client.AccessDenied(
                    error.message, code=error.code, reason=error.reason, hint=_how(session.agent)
                ) from error
            await asyncio.sleep(_AGAIN)
        try:
            yield client
        finally:
            await client.close()


def _how(agent: str | None) -> str:
    return (
        "An operator registers people, with the token in the server's file: threadbus register "
        f"{agent} --human --token-file FILE"
    )
