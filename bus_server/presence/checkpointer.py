"""What is known of agents and their positions is written for all of them together, and rarely."""

import asyncio

from bus_server.errors import BusError, StoreBug
from bus_server.presence.changes import News
from bus_server.presence.positions import Positions
from bus_server.presence.presence import Presence
from bus_server.store import Checkpoint, Position
from bus_server.writer import Writer

#: Agents and positions written in one transaction at most: some ten milliseconds of the writer's.
PORTION = 1_000


class Checkpoints:
    """Writes presence and positions to the store."""

    def __init__(
        self, writer: Writer, presence: Presence, positions: Positions, news: News
    ) -> None:
        self._writer = writer
        self._presence = presence
        self._positions = positions
        self._news = news
        self._one = asyncio.Lock()

    async def save(self) -> None:
        """Write what there is: in one transaction, unless there is much."""
        async with self._one:
            self._news.unsaved.clear()
            sightings, positions = self._presence.unsaved(), self._positions.unsaved()
            if not sightings and not positions:
                return
            try:
                keys = list(positions)
                for at in range(0, max(len(sightings), len(keys)), PORTION):
                    upto = at + PORTION
                    # Not those that were forgotten meanwhile.
                    portion = {
                        key: Position(*positions[key]) for key in keys[at:upto] if key in positions
                    }
                    await self._writer.submit(Checkpoint(sightings[at:upto], portion))
            except BaseException:
                self._presence.keep(sightings)
                self._positions.keep()
                self._news.unsaved.set()
                raise
            self._presence.saved(sightings)
            self._positions.saved()
            self._news.saved()

    async def run(self, interval: float) -> None:
        """Save every `interval` seconds as long as there is something to save."""
        while True:
            await self._news.unsaved.wait()
            await asyncio.sleep(interval)
            try:
                await self.save()
            except (BusError, StoreBug):
                continue  # it is kept for the next time
