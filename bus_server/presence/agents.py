"""Registered agents: their registration, sessions, tokens and current presence."""

from collections.abc import Collection

from bus_server import store
from bus_server.errors import AgentNotFound, TokenInvalid
from bus_server.presence.changes import Changes
from bus_server.presence.presence import Presence
from bus_server.store.interface import Store
from bus_server.waits import Waits
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.bus_service_pb2 import WaitEnding

#: Minimum number of agents to read from the store at a time when they are filtered by presence.
PAGE = 1_000


class Agents:
    """Registered agents.

    Methods that write also raise what `Writer.submit` raises; those that read, what the store
    raises.
    """

    def __init__(
        self, store: Store, writer: Writer, presence: Presence, waits: Waits, changes: Changes
    ) -> None:
        self._store = store
        self._changes = changes
        self._writer = writer
        self._presence = presence
        self._waits = waits

    async def register(self, registration: store.RegisterAgent) -> store.Registered:
        """Register an agent. Returns the agent, and whether it was not registered before.

        An agent that is registered with the same token is returned unchanged.

        Raises:
            AgentExists: the name is registered with another token or without one, or was
                unregistered. With `claim`, an agent without a token gets this one.
            TokenExpired: the token is the agent's, but has expired.
            ValidationFailed: the token belongs to another agent or an operator.
        """
        registered = await self._writer.submit(registration)
        self.refresh(registered.agent)
        return registered

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

    async def rotate_token(self, old_hash: bytes, new_hash: bytes, *, grace: float) -> None:
        """Replace all tokens of an agent with a new one.

        The old tokens, and the waits opened with them, end `grace` seconds from now at the latest.

        Args:
            old_hash: the hash of any of the agent's tokens.
            new_hash: the hash of the new token.

        Raises:
            TokenInvalid: there is no token with `old_hash`.
            TokenExpired: that token has expired.
        """
        expire_time = self._store.clock.now() + round(grace * 1e6)
        ends = await self._writer.submit(store.RotateToken(old_hash, new_hash, expire_time))
        await self._waits.expire(dict(ends))

    async def unregister(self, name: str) -> None:
        """Unregister an agent, and end its waits. Raises AgentNotFound."""
        await self._writer.submit(store.UnregisterAgent(name))
        self._presence.forget(name)
        error = TokenInvalid(f"agent {name} was unregistered: its tokens are no longer valid")
        await self._waits.end(error, agent=name)

    async def end_session(self, agent: str) -> None:
        """End an agent's session: the agent is OFFLINE until its next call, and its waits end."""
        self._presence.end_session(agent)
        await self._waits.end(WaitEnding.REASON_SESSION_ENDED, agent=agent)

    def refresh(self, agent: Agent) -> Agent:
        """Update the presence, status text and last seen time of `agent`, and return it."""
        self._presence.refresh(agent)
        return agent
