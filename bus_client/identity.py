"""The identity under which a client calls its server."""

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


def name_refused(error: BusError) -> bool:
    """Returns whether a registration was refused because of its name, so that its token is unused.

    The name belongs to another token, or is not valid. After any other refusal the server may still
    know the token: from another process, or from an operator who registers what the file has.
    """
    names = [field for field, _ in error.field_violations]
    return isinstance(error, AgentExists) or (
        isinstance(error, InvalidArgument) and names == ["agent"]
    )


class Identity:
    """The identity of a client: a name to register, a token, both, or neither (anonymous).

    Attributes:
        server: The server's address, with its port.
        agent: The name; None if none was given. With a token, the name is only checked.
        token: The token that was given, or its replacement. None = the agent's, in the credentials
            file; without an agent, none.
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
        """The arguments are those of BusClient.

        Raises:
            InvalidArgument: `server`, `token` or `credentials` is not valid. registration() checks
                the other arguments.
        """
        self.server = _address(server)
        self.agent = agent
        self.token = _token(token)
        self._kind = kind
        self._display_name = display_name
        self._description = description
        self._credentials = _path(credentials)
        self._new_token: str | None = None  # created by own_token()

    @property
    def file(self) -> Path:
        """The path of the credentials file. Raises CredentialsError if it cannot be determined."""
        return self._credentials or stored.default_path()

    async def own_token(self) -> str | None:
        """Returns the agent's token from the credentials file; creates and saves one if needed.

        A new token is saved before it is sent to the server: otherwise, after a lost response, the
        agent could not use its name again. None if the client was given a token or is anonymous.

        Raises:
            CredentialsError: The token cannot be read or saved.
            InvalidArgument: See registration().
        """
        if self.agent is None or self.token is not None:
            return None
        self.registration("")  # create no token for an agent that cannot be registered
        token, created = await asyncio.to_thread(
            stored.obtain_token, self.file, self.server, self.agent
        )
        self._new_token = token if created else None
        return token

    async def stored_token(self) -> str | None:
        """Returns the agent's token as it is in the credentials file now; None if there is none.

        None, too, if the client was given a token or is anonymous.

        Raises:
            CredentialsError: The token cannot be read.
        """
        if self.agent is None or self.token is not None:
            return None
        return await asyncio.to_thread(stored.kept_token, self.file, self.server, self.agent)

    async def registration_refused(self, error: BusError) -> None:
        """Remove the token from the file if own_token() created it for a name that was refused.

        An older token is kept: it may be valid in a store that the server had before. A
        CredentialsError is ignored.

        Args:
            error: The error with which the server refused the registration.
        """
        if self._new_token is not None and self.agent is not None and name_refused(error):
            with suppress(CredentialsError):
                await asyncio.to_thread(
                    stored.forget_token, self.file, self.server, self.agent, self._new_token
                )

    async def change_token(self, token: str) -> None:
        """Replace the token: in memory if the client was given one, else in the credentials file.

        Raises:
            CredentialsError: The token cannot be saved.
        """
        if self.token is not None:
            self.token = token
        elif self.agent is not None:
            await asyncio.to_thread(stored.keep_token, self.file, self.server, self.agent, token)

    def registration(self, token: str) -> RegisterAgentRequest:
        """Returns the request that registers the agent.

        Raises:
            InvalidArgument: The name, kind, display name or description cannot be sent.
        """
        return build(
            RegisterAgentRequest,
            agent=self.agent or "",
            kind=self._kind,
            display_name=self._display_name,
            description=self._description,
            token=token,
        )

    def name_taken(self, error: AgentExists) -> AgentExists:
        """Returns the server's error for a taken name, extended by where a token was looked for."""
        return AgentExists(
            f"{self.server}: {error.message}. (Its token is not in {self.file}, where tokens are "
            "stored by server address. If the server had another address before: threadbus login "
            "--same-as ADDRESS.)",
            code=error.code,
            reason=error.reason,
            metadata=error.metadata,
        )

    def has_made(self, token: str) -> bool:
        """Returns whether own_token() has made this token, which no server knows yet."""
        return token == self._new_token

    def not_registered(self, error: Unauthenticated) -> Unauthenticated:
        """Returns the error for a server that requires tokens, and does not know the agent's."""
        return Unauthenticated(
            f"{self.server} requires a token, and {self.file} has no valid one of {self.agent} for "
            "it.",
            code=error.code,
            reason=error.reason,
            hint="Have an operator create one (threadbus token create NAME), and store it with "
            "threadbus login.",
        )

    def checked_name(self, agent: str) -> str:
        """Returns the agent that a token belongs to.

        Raises Unauthenticated if another name was given.
        """
        if self.agent not in (None, agent):
            raise Unauthenticated(
                f"The token belongs to {agent!r}, not to {self.agent!r}.", code="UNAUTHENTICATED"
            )
        return agent


def _address(server: str) -> str:
    try:
        return whole_address(text("server", server))
    except ValueError as error:
        refuse("server", str(error))


def _token(token: str | None) -> str | None:
    if token is not None and not re.fullmatch("[!-~]+", text("token", token)):
        refuse("token", "must be printable ASCII without spaces")  # it is sent in a header
    return token


def _path(credentials: str | os.PathLike[str] | None) -> Path | None:
    if credentials is None:
        return None
    try:
        return Path(credentials)
    except TypeError:
        refuse("credentials", f"must be a path, not {type(credentials).__name__}")
