"""The agents: who may call, what each says of itself, how each goes."""

from collections.abc import Collection

from bus_server import store
from bus_server.errors import AgentNotFound, TokenInvalid
from bus_server.presence.changes import News
from bus_server.presence.presence import Presence
from bus_server.store.interface import Store
from bus_server.waits import Waits
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.bus_service_pb2 import WaitEnding

#: Agents read at a time to find those of a presence.
PAGE = 1_000


class Agents:
    """Registered agents, with what is known of them now."""

    def __init__(
        self, store: Store, writer: Writer, presence: Presence, waits: Waits, news: News
    ) -> None:
        self._store = store
        self._news = news
        self._writer = writer
        self._presence = presence
        self._waits = waits

    async def register(self, registration: store.RegisterAgent) -> store.Registered:
        """Register an agent, or find it registered."""
        registered = await self._writer.submit(registration)
        self.now(registered.agent)
        return registered

    async def get(self, name: str) -> Agent:
        """Read an agent."""
        agent = await self._news.undisturbed(self._store.agent, name)
        if agent is None:
            raise AgentNotFound([name])
        return self.now(agent)

    async def by_name(self, *, presences: Collection[int], limit: int, after: str) -> list[Agent]:
        """Agents by name, after a name; those with one of these presences (none: all)."""
        found: list[Agent] = []
        rows = max(limit, PAGE) if presences else limit
        while len(found) < limit:
            page = await self._news.undisturbed(self._store.list_agents, rows, after)
            now = [self.now(agent) for agent in page]
            found += [agent for agent in now if not presences or agent.presence in presences]
            if len(page) < rows:
                break
            after = page[-1].name
        return found[:limit]

    async def update(self, change: store.UpdateAgent) -> Agent:
        """Change what an agent says of itself."""
        return self.now(await self._writer.submit(change))

    async def rotate_token(self, old_hash: bytes, new_hash: bytes, *, grace: float) -> None:
        """Put a new token in the old ones' place, which end `grace` seconds from now at the latest.

        Waits opened with those end with them.
        """
        expire_time = self._store.clock.now() + round(grace * 1e6)
        ends = await self._writer.submit(store.RotateToken(old_hash, new_hash, expire_time))
        await self._waits.expire(dict(ends))

    async def unregister(self, name: str) -> None:
        """Take an agent out, and its waits with it."""
        await self._writer.submit(store.UnregisterAgent(name))
        self._presence.forget(name)
        gone = TokenInvalid(f"agent {name} was unregistered: its tokens are no more")
        await self._waits.end(gone, agent=name)

    async def end_session(self, agent: str) -> None:
        """An agent says goodbye."""
        self._presence.end(agent)
        await self._waits.end(WaitEnding.REASON_SESSION_ENDED, agent=agent)

    def now(self, agent: Agent) -> Agent:
        """An agent as it stands now."""
        self._presence.tell(agent)
        return agent
