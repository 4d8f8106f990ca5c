"""The agents of a server, as BusClient reads and changes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from bus_client import credentials as stored
from bus_client.connection import Connection
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent, AgentKind
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
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
        token = token or stored.new_token()
        request = RegisterAgentRequest(
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
        request = GetAgentRequest(agent=name)
        response = await self._calls.call(self._calls.agents.GetAgent, request)
        return response.agent

    async def list_agents(self) -> AsyncIterator[Agent]:
        """All agents, by name."""
        request = ListAgentsRequest()
        while True:
            page = await self._calls.call(self._calls.agents.ListAgents, request)
            for agent in page.agents:
                yield agent
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
