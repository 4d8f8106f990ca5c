"""Passes on what other servers commit to the waits of this one."""

import asyncio
import logging
from collections.abc import Mapping

from bus_server.errors import BusError, StoreBug
from bus_server.memberships import Memberships
from bus_server.recent import Recent
from bus_server.statistics import Statistics
from bus_server.store import Head
from bus_server.store.interface import AGENTS, Store
from bus_server.tail import Tails
from threadbus.v1.message_pb2 import Message

logger = logging.getLogger(__name__)

#: Limits of what is read of a thread for its waits together, in bytes of messages and in messages.
#: What is beyond, each wait reads itself.
READ_BYTES, READ_MESSAGES = 1024 * 1024, 1_000
#: Minimum number of seconds between two measurements of how late a commit is learned of.
MEASURE_INTERVAL = 0.5


class Relay:
    """Reads what is new in threads with waits, once for all waits on a thread, and wakes them.

    It learns of a commit by a hint, at once. Hints may be lost, so Fallback calls `look`, too.
    """

    def __init__(
        self,
        store: Store,
        tails: Tails,
        recent: Recent,
        memberships: Memberships,
        statistics: Statistics,
    ) -> None:
        self._store = store
        self._memberships = memberships
        self._tails = tails
        self._recent = recent
        self._statistics = statistics
        #: When the lag may be measured again, on the event loop's clock.
        self._measure_at = 0.0
        #: The threads to look at: for the waits on them, and for those on all threads of an agent.
        self._hinted: set[str] = set()
        self._changed: set[str] = set()
        self._available = asyncio.Event()

    def hint(self, changed: Mapping[str, int]) -> None:
        """Look soon at those of these threads that have a wait and whose head is not known yet.

        `changed`: as in `Waker.publish`, but need not be true.
        """
        for name, seq in changed.items():
            if self._tails.is_behind(name, seq):
                self._hinted.add(name)
                self._available.set()
        if self._memberships.any():
            self._changed |= changed.keys() - {AGENTS}
            self._available.set()

    async def run(self) -> None:
        """Look at the threads of hints until cancelled."""
        while True:
            await self._available.wait()
            self._available.clear()
            names, self._hinted = self._hinted, set()
            changed, self._changed = self._changed, set()
            try:
                await self.look(self._tails.heads(names))
                await self._memberships.look(changed)
            except (BusError, StoreBug) as error:
                logger.debug("cannot follow a hint (%s): the fallback will", error)

    async def look(self, known: Mapping[str, Head | None]) -> bool:
        """Read the heads of threads, and wake the waits on those that have changed.

        Returns whether all is known now; if not, look again: a thread is missing whose head is
        being read for a new wait, and may have been deleted after that read. Raises what the store
        raises.

        Args:
            known: the threads, with their known heads, as of now.
        """
        heads = await self._store.heads(list(known)) if known else {}
        learned = self._store.clock.time()
        for name, head in heads.items():
            if self._tails.is_shared(name):
                await self._remember(known[name], head)
        # Nothing here lets other tasks run: a wait on many of these threads runs once.
        for name, before in known.items():
            found = heads.get(name)
            # A store that has lost a thread may use its id again.
            if found is not None and (before is None or found.thread_id >= before.thread_id):
                await self._tails.advance(name, found)
            elif before is not None:
                await self._tails.end(name, before.epoch)
        await self._measure(known, heads, learned)
        return all(name in heads or before is not None for name, before in known.items())

    async def _measure(
        self, known: Mapping[str, Head | None], heads: Mapping[str, Head], learned: int
    ) -> None:
        """Record how late a commit of another server was learned of, now and then.

        It is the first one of any thread that has moved. `learned`: when the heads had been read,
        on the clock of messages.
        """
        now = asyncio.get_running_loop().time()
        if now < self._measure_at:
            return
        for name, head in heads.items():
            before = known[name]
            if before is None or before.epoch != head.epoch or before.seq >= head.seq:
                continue
            self._measure_at = now + MEASURE_INTERVAL
            rows, _ = self._recent.read(head.epoch, before.seq, before.seq + 1, 1)
            if not rows:
                rows = await self._store.read(head.thread_id, before.seq, before.seq + 1, 1)
            for _, body in rows:
                committed = Message.FromString(body).create_time.ToMicroseconds()
                self._statistics.learned(max(learned - committed, 0) / 1e6)
            return

    async def _remember(self, before: Head | None, head: Head) -> None:
        """Read what is new in a thread into Recent, so that not every wait on it must."""
        if before is None or before.epoch != head.epoch or before.seq >= head.seq:
            return
        changes, upto = self._recent.changes, min(head.seq, before.seq + READ_MESSAGES)
        rows = await self._store.read(head.thread_id, before.seq, upto, READ_BYTES)
        if self._recent.changes == changes:  # else a row may have been edited since it was read
            self._recent.add(head.epoch, dict(enumerate(rows, start=before.seq + 1)))
