"""What other processes write to the store: found by asking it, for all waits together."""

import asyncio
import logging
import random
from collections.abc import Callable

from bus_server.errors import BusError, StoreBug, StoreFailed
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.presence import Presence
from bus_server.recent import Recent
from bus_server.store.interface import Store
from bus_server.tail import Tails
from bus_server.waits import Waits
from threadbus.v1.bus_service_pb2 import WaitEnding

logger = logging.getLogger(__name__)

#: Seconds by which another server's checkpoint may come late.
CHECKPOINT_DELAY = 60.0


class Fallback:
    """Asks whether others wrote. The cost does not grow with the waits."""

    def __init__(
        self,
        store: Store,
        tails: Tails,
        recent: Recent,
        presence: Presence,
        rosters: ParticipantCache,
        waits: Waits,
        forget_tokens: Callable[[], None],
    ) -> None:
        self._store = store
        self._tails = tails
        self._recent = recent
        self._presence = presence
        self._rosters = rosters
        self._waits = waits
        self._forget_tokens = forget_tokens

    async def run(self, interval: float) -> None:
        """Ask for ever: one pragma while nobody else writes."""
        seen: int | None = None
        while True:
            await asyncio.sleep(interval * random.uniform(0.7, 1.0))  # noqa: S311
            try:
                version = await self._store.foreign_version()
                if version != seen and await self._look():
                    seen = version
            except StoreFailed:
                continue  # the store's own log tells
            except (BusError, StoreBug) as error:
                logger.warning("cannot look for what others wrote (%s): trying again", error)

    async def _look(self) -> bool:
        """Take in what others wrote. Answers whether all of it is known now."""
        # Tokens may have ended, messages may have been edited, agents may have been seen.
        self._forget_tokens()
        self._recent.clear()
        tokens = self._waits.tokens()
        ends = await self._store.expire_times(tokens) if tokens else {}
        await self._waits.expire({token: ends.get(token) for token in tokens})
        since = self._store.clock.now() - round(CHECKPOINT_DELAY * 1e6)
        for agent in self._presence.merge(await self._store.sightings(since)):
            await self._waits.end(WaitEnding.REASON_SESSION_ENDED, agent=agent)
        waited = self._tails.heads
        heads = await self._store.heads(list(waited)) if waited else {}
        for name, known in waited.items():
            if name in heads:
                await self._tails.advance(name, heads[name])
            elif known is not None:
                await self._tails.end(name, known.epoch)
        self._rosters.changed()
        # A thread that is not there, but is being read for a wait, was perhaps deleted after that
        # reading: look again.
        return all(name in heads or known is not None for name, known in waited.items())
