"""Registered agents: their registration, sessions and current presence."""

from collections.abc import Collection

from bus_server import store
from bus_server.errors import AgentNotFound, TokenInvalid
from bus_server.presence.changes import Changes
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.store.interface import Store
from bus_server.tokens import Tokens
from bus_server.waits import Waits
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import Agent

#: Minimum number of agents to read from the store at a time when they are filtered by presence.
PAGE = 1_000


class Agents:
    """Registered agents.

    Methods that write also raise what `Writer.submit` raises; those that read, what the store
    raises.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        presence: Presence,
        positions: UnsavedPositions,
        waits: Waits,
        tokens: Tokens,
        changes: Changes,
    ) -> None:
        self._store = store
        self._changes = changes
        self._writer = writer
        self._presence = presence
        self._positions = positions
        self._waits = waits
        self._tokens = tokens

    async def register(self, registration: store.RegisterAgent) -> store.Registered:
        """Register an agent. Returns the agent, and whether it was not registered before.

        An agent that is registered with the same token is returned unchanged.

        Raises:
            AgentExists: the name is registered with another token or without one, or was
                unregistered. An operator may register a name again that was unregistered, and give
                a token to an agent without one.
            AccessDenied: a person is registered, but not by an operator.
            TokenExpired: the token is the agent's, but has expired.
            ValidationFailed: the token belongs to another agent or an operator.
        """
        registered = await self._writer.submit(registration)
        self.refresh(registered.agent)
        return registered

    def called(self, agent: Agent) -> None:
        """Record a call by an agent, which its token did not tell, and update its presence."""
        self._presence.seen(agent.name)
        self.refresh(agent)

    async def get(self, name: str) -> Agent:
        """Returns a registered agent. Raises AgentNotFound."""
        agent = await self._changes.read_consistently(self._store.agent, name)
        if agent is None:
            raise AgentNotFound([name])
        return self.refresh(agent)

    async def by_name(self, *, presences: Collection[int], limit: int, after: str) -> list[Agent]:
        """Returns up to `limit` agents with names after `after`, sorted by name.

        Only those whose current presence is one of `presences`; empty: those of any presence.
        """
        found: list[Agent] = []
        rows = max(limit, PAGE) if presences else limit
        while len(found) < limit:
            page = await self._changes.read_consistently(self._store.list_agents, rows, after)
            agents = [self.refresh(agent) for agent in page]
            found += [agent for agent in agents if not presences or agent.presence in presences]
            if len(page) < rows:
                break
            after = page[-1].name
        return found[:limit]

    async def update(self, change: store.UpdateAgent) -> Agent:
        """Change an agent's settings and return the changed agent. Raises AgentNotFound."""
        return self.refresh(await self._writer.submit(change))

    async def unregister(self, name: str) -> None:
        """Unregister an agent, and end its streams. Raises AgentNotFound."""
        await self._tokens.ending(self._unregister(name))

    async def _unregister(self, name: str) -> None:
        await self._writer.submit(store.UnregisterAgent(name))
        self._presence.forget(name)
        self._positions.forget_agent(name)
        error = TokenInvalid(f"agent {name} was unregistered: its tokens are no longer valid")
        await self._tokens.end_all(error, agent=name)

    async def kick(self, agent: str) -> None:
        """End an agent's session on behalf of an operator. Raises AgentNotFound."""
        await self.get(agent)
        self._presence.kick(agent)
        await self._waits.end_session(agent)

    async def end_session(self, agent: str, only: bytes = b"") -> None:
        """End an agent's session: the agent is OFFLINE until its next call, and its waits end.

        `only`: the hash of a token that is limited. Then only the waits that were opened with it
        end, and the agent is OFFLINE if it has no others.
        """
        if not only or self._presence.waits_of(agent) == self._waits.count(agent, only):
            self._presence.end_session(agent)
        await self._waits.end_session(agent, only)

    def refresh(self, agent: Agent) -> Agent:
        """Update the presence, status text and last seen time of `agent`, and return it."""
        self._presence.refresh(agent)
        return agent
