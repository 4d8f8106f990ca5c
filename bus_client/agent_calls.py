"""The calls of a BusClient about agents, the requests to them, tokens, and the server's status."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import nullcontext

from bus_client import credentials as stored
from bus_client.asking import listed
from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.requests import build, refuse, seconds
from bus_client.responses import checked_token
from threadbus.v1 import admin_service_pb2, agent_service_pb2
from threadbus.v1.admin_service_pb2 import GetStatusRequest, GetStatusResponse, Token, Wait
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent, AgentKind, Presence
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN, Request, RequestState


class AgentCalls:
    """The part of BusClient about agents, the requests to them, tokens, and the server's status."""

    @property
    def agent(self) -> str:
        """The caller's name."""
        raise NotImplementedError

    @property
    def _calls(self) -> Calls:
        raise NotImplementedError

    @property
    def _heartbeats(self) -> Heartbeats:
        raise NotImplementedError

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
        """Register another agent. Returns it and its token, which cannot be retrieved later.

        Only for operators where the server requires tokens, and for people. The token is not saved
        in the credentials file. An agent that is already registered with this token is returned
        unchanged. An operator can register a name again that was unregistered.
        To register the client's own agent, pass its name to BusClient.

        Args:
            name: 1–63 characters of `a-z 0-9 . _ -`, the first a letter or digit.
            kind: What it is: AGENT_KIND_AGENT, or AGENT_KIND_HUMAN.
            display_name: A name for people, up to 128 bytes.
            description: What it does, up to 1,024 bytes.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            token: Its secret, 32–128 characters of `A-Z a-z 0-9 _ -`. None = a new one.

        Raises:
            AgentExists: The name is registered with another token or none, or was unregistered.
            QuotaExceeded: The name is new, and the caller may not register more agents for now.
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
        """Returns an agent; the caller if the name is empty. Raises AgentNotFound."""
        request = build(agent_service_pb2.GetAgentRequest, agent=name)
        response = await self._calls.call(self._calls.agents.GetAgent, request)
        return response.agent

    async def list_agents(
        self, *, presences: Iterable[Presence.ValueType] = ()
    ) -> AsyncIterator[Agent]:
        """Yields the agents that match, ordered by name.

        Args:
            presences: Only agents with one of these presences, at most 100. PRESENCE_UNSPECIFIED =
                agents that were never seen. Empty = all agents.
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
        """Change what others see of an agent, and return the agent.

        Args:
            name: The agent. Empty = the caller. Operators may, and must, name another agent.
            display_name: Its new name for people, up to 128 bytes. None = unchanged.
            description: What it does, up to 1,024 bytes. None = unchanged.
            labels: New labels, which replace all of its labels. None = unchanged.

        Raises:
            AgentNotFound: No agent of this name is registered.
            InvalidArgument: A value is not valid, or none is given.
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
        """Unregister an agent.

        The server revokes its tokens, ends its open waits, and removes it from its threads. Its
        messages remain, and only an operator can register its name again.

        Args:
            name: The agent. Empty = the caller. Operators may, and must, name another agent.

        Raises:
            AgentNotFound: No agent of this name is registered.
            OutcomeUnknown: The response was lost.
        """
        request = build(agent_service_pb2.UnregisterAgentRequest, agent=name)
        itself = name in ("", self.agent)
        async with self._heartbeats.ending_session() if itself else nullcontext():
            await self._calls.call(self._calls.agents.UnregisterAgent, request)

    async def reset_token(self, name: str, *, grace: float = 0.0) -> str:
        """Replace all tokens of another agent, and return its new one. For operators.

        For an agent that has lost its token, or that must not use it any more: its open waits end.
        The token cannot be retrieved later.

        Args:
            name: The agent.
            grace: Seconds for which the old tokens remain valid, at most 1 h.

        Raises:
            AgentNotFound: No agent of this name is registered.
            OutcomeUnknown: The response was lost. Call this again.
        """
        self._check_other(name, "rotate_token()")
        request = build(agent_service_pb2.RotateTokenRequest, agent=name)
        request.grace.FromMicroseconds(int(seconds("grace", grace) * 1e6))
        response = await self._calls.call(self._calls.agents.RotateToken, request)
        return checked_token(response.token)

    async def kick(self, name: str) -> None:
        """End the session of another agent. For operators. Its token stays valid.

        Raises:
            AgentNotFound: No agent of this name is registered.
        """
        self._check_other(name, "end_session()")
        request = build(agent_service_pb2.EndSessionRequest, agent=name)
        await self._calls.call(self._calls.agents.EndSession, request)

    async def create_token(
        self,
        agent: str = "",
        *,
        scopes: Iterable[str] = (),
        thread_prefixes: Iterable[str] = (),
        lifetime: float | None = None,
    ) -> tuple[Token, str]:
        """Create a token. Returns it and its secret. For operators.

        The secret cannot be retrieved later. The agent's other tokens stay valid.

        Args:
            agent: The agent that calls with it, registered if it is new. Empty = an operator.
            scopes: What it permits: some of "post", "read" and "admin". Empty = post and read.
            thread_prefixes: At most 20: it permits access only to threads whose names begin with
                one of them. Empty = to all threads. Not with the scope admin.
            lifetime: Seconds for which it is valid, at most 10 years. None = it does not expire.

        Raises:
            AccessDenied: The caller is not an operator.
            OutcomeUnknown: The response was lost. If list_tokens() yields the token, revoke it.
        """
        request = build(
            admin_service_pb2.CreateTokenRequest,
            agent=agent,
            scopes=scopes,
            thread_prefixes=thread_prefixes,
        )
        if lifetime is not None:
            request.lifetime.FromMicroseconds(int(seconds("lifetime", lifetime) * 1e6))
        response = await self._calls.call(self._calls.admin.CreateToken, request)
        return response.token, checked_token(response.secret)

    async def list_tokens(self, *, agent: str = "") -> AsyncIterator[Token]:
        """Yields the tokens that are valid, without their secrets, newest first. For operators.

        Args:
            agent: Only tokens of this agent; "operator" = of operators. Empty = all.

        Raises:
            AccessDenied: The caller is not an operator.
        """
        request = build(admin_service_pb2.ListTokensRequest, agent=agent)
        async for page in self._calls.pages(self._calls.admin.ListTokens, request):
            for token in page.tokens:
                yield token

    async def revoke_token(self, token_id: str) -> None:
        """Revoke a token: its calls fail, and its waits end within a second. For operators.

        Args:
            token_id: The token_id of a Token. Not that of the token that the client calls with.

        Raises:
            AccessDenied: The caller is not an operator.
            InvalidArgument: No token has this id.
            OutcomeUnknown: The response was lost. Call this again.
        """
        request = build(admin_service_pb2.RevokeTokenRequest, token_id=token_id)
        await self._calls.call(self._calls.admin.RevokeToken, request)

    async def list_waits(self, *, agent: str = "", thread: str = "") -> AsyncIterator[Wait]:
        """Yields the open waits of all servers on the store, the longest open first. For operators.

        Args:
            agent: Only waits of this agent; "anonymous" = of anonymous clients. Empty = of all.
            thread: Only waits on this thread. Empty = on all.

        Raises:
            AccessDenied: The caller is not an operator.
        """
        request = build(admin_service_pb2.ListWaitsRequest, agent=agent, thread=thread)
        async for page in self._calls.pages(self._calls.admin.ListWaits, request):
            for wait in page.waits:
                yield wait

    async def status(self, *, window: float | None = None) -> GetStatusResponse:
        """Returns the status of the server: rates, latencies, sizes and lags. For operators.

        With `--auth open`, also for anonymous clients on the server's machine. With several servers
        on a store, the status is that of the one that this client is connected to, but for what
        admin_service.proto says is of the store.

        Args:
            window: Rates and latencies are of the last so many seconds, at most 300, rounded up to
                whole seconds. None = 60.

        Raises:
            AccessDenied: The caller is not an operator.
            InvalidArgument: `window` is out of range.
            BusError: With `code` "UNIMPLEMENTED": the server is older than this call.
        """
        request = GetStatusRequest()
        if window is not None:
            request.window.FromMicroseconds(int(seconds("window", window) * 1e6))
        return await self._calls.call(self._calls.admin.GetStatus, request)

    def list_requests(
        self,
        *,
        asker: str = "",
        agent: str = "",
        thread: str = "",
        states: Iterable[RequestState.ValueType] = (REQUEST_STATE_OPEN,),
    ) -> AsyncIterator[Request]:
        """Yields requests that match, newest first: who asked whom for a reply, with which message.

        A message that asks several agents has a request for each. A later version of the server may
        send states that this one does not know: treat them as no longer open.

        Args:
            asker: Only requests of this agent to others. Empty = of all.
            agent: Only requests to this agent. Empty = to all.
            thread: Only requests in this thread. Empty = in all.
            states: Only requests in these states, at most 100. Empty = in any.

        Raises:
            ThreadNotFound: There is no such thread.
        """
        return listed(self._calls, asker=asker, agent=agent, thread=thread, states=states)

    def _check_other(self, agent: str, own: str) -> None:
        """Raises InvalidArgument unless `agent` is another one. `own`: the method for oneself."""
        if agent in ("", self.agent):
            refuse("agent", f"must be another agent's name; {own} is for the caller itself")
