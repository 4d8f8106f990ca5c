"""Detects what other processes write to the store, with one poll for all waits."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping

from bus_server.cleaner import Cleaner
from bus_server.errors import BusError, StoreBug, StoreFailed
from bus_server.follow.resources import WaitResources
from bus_server.notices import Notices
from bus_server.presence.presence import Presence
from bus_server.presence.servers import Servers
from bus_server.relay import Relay
from bus_server.store.interface import AGENTS
from bus_server.tokens import Tokens
from bus_server.waits import Waits

logger = logging.getLogger(__name__)

#: Seconds within which another server must checkpoint a sign of life for this one to notice it.
CHECKPOINT_DELAY = 60.0
#: Minimum number of seconds between polls. Each costs a few milliseconds if there are thousands of
#: waits and another server has written.
HINT_INTERVAL = 0.1


class Fallback:
    """A loop that polls the store for commits of other processes.

    A poll that finds none costs one pragma, however many waits are open.
    """

    def __init__(
        self,
        resources: WaitResources,
        presence: Presence,
        servers: Servers,
        waits: Waits,
        tokens: Tokens,
        relay: Relay,
        notices: Notices,
        cleaner: Cleaner,
    ) -> None:
        self._resources = resources
        self._presence = presence
        self._servers = servers
        self._waits = waits
        self._tokens = tokens
        self._relay = relay
        self._notices = notices
        self._cleaner = cleaner
        self._hinted = asyncio.Event()
        #: When the last complete look at other servers' commits began, on the store's clock.
        self._looked_time = resources.store.clock.now()

    def hint(self, changed: Mapping[str, int]) -> None:
        """Look soon at what another server has changed, if it concerns this one.

        `changed`: as in `Waker.publish`, but need not be true.
        """
        self._relay.hint(changed)
        if AGENTS in changed:
            self._hinted.set()

    async def run(self, interval: float) -> None:
        """Poll until cancelled, every 0.7 to 1.0 times `interval` seconds, at random.

        Polls earlier after a hint, but at most every HINT_INTERVAL. A poll that fails is repeated
        after the next interval.
        """
        seen: int | None = None
        while True:
            await asyncio.sleep(min(interval, HINT_INTERVAL))
            with contextlib.suppress(TimeoutError):
                rest = interval * random.uniform(0.7, 1.0) - HINT_INTERVAL  # noqa: S311
                async with asyncio.timeout(rest):
                    await self._hinted.wait()
            self._hinted.clear()
            try:
                version = await self._resources.store.foreign_version()
                if version != seen and await self._refresh():
                    seen = version
            except StoreFailed:
                continue  # the store logs it
            except (BusError, StoreBug) as error:
                logger.warning("cannot read what other servers wrote (%s): trying again", error)

    async def _refresh(self) -> bool:
        """Load what other processes committed. Returns False if the next poll must do so again."""
        store = self._resources.store
        # Another process may have edited messages, and ended tokens.
        self._resources.recent.clear()
        await self._tokens.refresh()
        began, since = store.clock.now(), self._looked_time - round(CHECKPOINT_DELAY * 1e6)
        for agent in self._presence.merge(await store.presence_rows(since)):
            await self._waits.end_session(agent)
        await self._servers.look()
        self._looked_time = began
        self._resources.cache.changed()
        await self._resources.memberships.look_at_active()
        self._notices.look_at_all()
        self._cleaner.look_soon()
        return await self._relay.look(self._resources.tails.heads())
