"""The agents of a server, as BusClient reads and changes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import nullcontext

from bus_client import credentials as stored
from bus_client.connection import ANONYMOUS, Connection
from bus_client.requests import build, seconds
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent, AgentKind, Presence
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
    UpdateAgentRequest,
)


class Agents(Connection):
    """The half of BusClient that is about agents: the client's own and others."""

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
            RegisterAgentRequest,
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
        request = build(GetAgentRequest, agent=name)
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
        request = build(ListAgentsRequest, presences=presences)
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
        request = build(UpdateAgentRequest, agent=name, update_mask={"paths": list(given)}, **given)
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
        request = build(UnregisterAgentRequest, agent=name)
        itself = name in ("", self.agent)
        async with self._heartbeats.goodbye() if itself else nullcontext():
            await self._calls.call(self._calls.agents.UnregisterAgent, request, changes=True)

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
        request = RotateTokenRequest()
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
            await self._calls.call(self._calls.agents.EndSession, EndSessionRequest())
