"""Who a client is to its server."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path

from bus_client import credentials as stored
from bus_client.address import whole_address
from bus_client.errors import (
    AgentExists,
    BusError,
    CredentialsError,
    InvalidArgument,
    Unauthenticated,
)
from bus_client.requests import build, refuse, text
from threadbus.v1.agent_pb2 import AgentKind
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest

#: The name that the server gives to callers without a token.
ANONYMOUS = "anonymous"


def took_no_token(error: BusError) -> bool:
    """Whether a registration was refused so that no server can have the token: the name is
    another's, or no name at all. Where another field is wrong, another process may be registered.
    """
    names = [field for field, _ in error.field_violations]
    return isinstance(error, AgentExists) or (
        isinstance(error, InvalidArgument) and names == ["agent"]
    )


class Identity:
    """A name to register, a token, both, or neither: anonymous.

    Attributes:
        server: The server's address, with its port.
        agent: The name. With a token it is only checked.
        token: A token that was given out. Without one, the credentials file has the agent's.
    """

    def __init__(
        self,
        *,
        server: str,
        agent: str | None,
        token: str | None,
        kind: AgentKind.ValueType,
        display_name: str,
        description: str,
        credentials: str | os.PathLike[str] | None,
    ) -> None:
        """Checks BusClient's arguments; the registration's are checked by registration().

        Raises:
            InvalidArgument: `server`, `token` or `credentials` is not valid.
        """
        self.server = _address(server)
        self.agent = agent
        self.token = _token(token)
        self._kind = kind
        self._display_name = display_name
        self._description = description
        self._credentials = _path(credentials)
        self._new_token: str | None = None  # made by own_token(); nobody else can have it yet

    @property
    def file(self) -> Path:
        """The credentials file. Raises CredentialsError if its place is unknown."""
        return self._credentials or stored.default_path()

    async def own_token(self) -> str | None:
        """The agent's token in the credentials file; None for a client that needs none of it.

        It is saved before the server hears of it: a lost answer cannot lose the name.

        Raises:
            CredentialsError: It can neither be read nor kept there.
            InvalidArgument: The agent could not be registered with it.
        """
        if self.agent is None or self.token is not None:
            return None
        self.registration("")  # else a token would be made for nothing
        token, created = await asyncio.to_thread(
            stored.obtain_token, self.file, self.server, self.agent
        )
        self._new_token = token if created else None
        return token

    async def refused(self, error: BusError) -> None:
        """The server did not register the agent: forgets a token that was made for it just now.

        A token that was there before may be right for the store that was here before.
        """
        if self._new_token is not None and self.agent is not None and took_no_token(error):
            with suppress(CredentialsError):
                await asyncio.to_thread(
                    stored.forget_token, self.file, self.server, self.agent, self._new_token
                )

    async def change_token(self, token: str) -> None:
        """Takes the new token for the agent's from now on, and keeps it where the old one was."""
        if self.token is not None:
            self.token = token
        elif self.agent is not None:
            await asyncio.to_thread(stored.keep_token, self.file, self.server, self.agent, token)

    def registration(self, token: str) -> RegisterAgentRequest:
        """The request that registers the agent, or finds it registered."""
        return build(
            RegisterAgentRequest,
            agent=self.agent or "",
            kind=self._kind,
            display_name=self._display_name,
            description=self._description,
            token=token,
        )

    def taken(self, error: AgentExists) -> AgentExists:
        """What to say when the server has given the name to another token."""
        return AgentExists(
            f"At {self.server} the name {self.agent!r} belongs to another token than the one in "
            f"{self.file}. Pass the token it was registered with, or take another name. (Tokens "
            "are kept by the server's address: another port, or `localhost` for `127.0.0.1`, is "
            "another one.)",
            code=error.code,
            reason=error.reason,
            metadata=error.metadata,
        )

    def mistaken(self, agent: str) -> Unauthenticated:
        """What to say when the token is that of another agent."""
        return Unauthenticated(
            f"The token is that of {agent!r}, not of {self.agent!r}.", code="UNAUTHENTICATED"
        )


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
