"""Writes presence, positions and open waits to the store, every few seconds."""

import asyncio

from bus_server.errors import BusError, StoreBug
from bus_server.presence.changes import Changes
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.presence.servers import Servers
from bus_server.presence.token_uses import TokenUses
from bus_server.store import Checkpoint, Position
from bus_server.writer import Writer

#: Maximum number of agents, and of positions, in one transaction. Such a transaction keeps the
#: writer busy for about 10 ms.
BATCH = 1_000


class Checkpointer:
    """The writer of checkpoints: what has changed since the last one.

    That is the presence and positions of agents, the last uses of tokens, and the open waits if
    there are other servers.
    """

    def __init__(
        self,
        writer: Writer,
        presence: Presence,
        positions: UnsavedPositions,
        servers: Servers,
        uses: TokenUses,
        changes: Changes,
    ) -> None:
        self._writer = writer
        self._presence = presence
        self._positions = positions
        self._servers = servers
        self._uses = uses
        self._changes = changes
        self._lock = asyncio.Lock()

    async def save(self) -> None:
        """Write a checkpoint. Concurrent calls run in turn.

        Each transaction writes at most BATCH agents, positions and uses of tokens. Raises what
        `Writer.submit` raises. The next checkpoint then contains all of this one, even what some of
        its transactions have written.
        """
        async with self._lock:
            self._changes.unsaved.clear()
            # At the same time, so that the writer commits both in one transaction.
            saves = self._save_agents(), self._servers.save()
            found = await asyncio.gather(*saves, return_exceptions=True)
            errors = [error for error in found if error is not None]
            if errors:
                self._changes.unsaved.set()
                # A bug must not hide behind a failure of the store.
                raise next((e for e in errors if not isinstance(e, BusError)), errors[0])

    async def run(self, interval: float) -> None:
        """Save `interval` seconds after the first unsaved change, repeatedly, until cancelled."""
        while True:
            await self._changes.unsaved.wait()
            await asyncio.sleep(interval)
            try:
                await self.save()
            except (BusError, StoreBug):
                continue  # the changes are kept for the next checkpoint

    async def _save_agents(self) -> None:
        """Write presence, positions and uses of tokens."""
        agents, positions = self._presence.begin_save(), self._positions.begin_save()
        uses = self._uses.begin_save()
        if not agents and not positions and not uses:
            return
        try:
            keys, tokens = list(positions), list(uses)
            for start in range(0, max(len(agents), len(keys), len(tokens)), BATCH):
                batch = slice(start, start + BATCH)
                # Positions dropped since `begin_save` are no longer in the mapping.
                rows = {k: Position(*positions[k]) for k in keys[batch] if k in positions}
                used = {token: uses[token] for token in tokens[batch]}
                await self._writer.submit(Checkpoint(agents[batch], rows, used))
        except BaseException:
            self._presence.abort_save(agents)
            self._positions.abort_save()
            raise
        self._presence.finish_save(agents)
        self._positions.finish_save()
        self._uses.finish_save(uses)
        self._changes.checkpointed()
