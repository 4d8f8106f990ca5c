"""Removes from threads what their retention does not keep, in small steps.

What is over a limit follows from the store alone, and each step checks it in its own transaction.
So a server that is killed leaves nothing undone that the next one does not find.
"""

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass
from typing import TypeVar

from bus_server.errors import BusError, StorageFull, StoreBug, StoreFailed, ThreadNotFound
from bus_server.presence.servers import Servers
from bus_server.settings import Settings
from bus_server.store import (
    Command,
    Commit,
    Compact,
    Compacted,
    Counted,
    ForgetAddressed,
    Kept,
    Limits,
)
from bus_server.store.interface import Store
from bus_server.writer import Writer

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds between two looks at all threads, and for each of them. It takes about 15 µs to look at
#: one: a look is a twentieth of the time, and no less often because the machine is busy.
PAUSE, PAUSE_PER_THREAD = 1.0, 300e-6
#: Most seconds until the next look while there are entries that get old.
MAX_SLEEP = 60.0
#: Number of threads that are read at a time, and of entries whose sizes are added up at a time.
PAGE, CHUNK = 500, 5_000
#: Most steps for one thread in a look: others must not wait until it has lost a million entries.
STEPS = 40


@dataclass(slots=True)
class _Count:
    """How many bytes the entries of a thread have, from first_seq up to `upto`."""

    epoch: str
    first_seq: int
    upto: int
    size: int = 0

    def remove(self, compacted: Compacted) -> None:
        """Take off what was removed, some of which may not have been counted yet."""
        self.first_seq = compacted.first_seq
        self.size -= compacted.size
        if self.upto < self.first_seq - 1:
            self.upto, self.size = self.first_seq - 1, 0


class Cleaner:
    """The remover of old entries. Of the servers on a store, the first one by name does it.

    It looks at the threads after something was committed, and when an entry gets too old. While
    nothing happens, or no thread has a limit, it does nothing.
    """

    def __init__(self, store: Store, writer: Writer, servers: Servers, settings: Settings) -> None:
        self._store, self._writer, self._servers = store, writer, servers
        #: Of threads with a limit of bytes, by id.
        self._counts: dict[int, _Count] = {}
        #: The first_seq of threads, by id, when ForgetAddressed was last done with them.
        self._forgotten: dict[int, int] = {}
        self._news = asyncio.Event()
        #: When to look without news, on the event loop's clock; None: not at all.
        self._due: float | None = 0.0
        self.reload(settings)
        #: Whether the last look found any thread with limits.
        self._found = True
        writer.on_entries = self._committed

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._default = default_limits(settings)
        self._news.set()

    def look_soon(self) -> None:
        """Look soon at what another server has committed."""
        self._news.set()

    def _committed(self, commit: Commit) -> None:
        """Look soon at what was committed here, unless there is nothing to remove."""
        if self._found or commit.retained or any(self._default):
            self._news.set()

    async def run(self) -> None:
        """Remove old entries until cancelled. Failures are tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due):
                    await self._news.wait()
            self._news.clear()
            pause, self._due = PAUSE, 0.0
            if self._servers.is_first():
                try:
                    pause = await self._look()
                except (BusError, StoreBug) as error:
                    if not isinstance(error, StoreFailed | StorageFull):  # the store logs these
                        logger.warning("cannot remove old entries (%s): trying again", error)
            else:
                self._counts.clear()
                self._forgotten.clear()
            await asyncio.sleep(pause)

    async def _look(self) -> float:
        """Look at all threads once, and set `_due`. Returns for how long to pause, in seconds.

        Raises what the store and the writer raise.
        """
        after, threads, more, removed, due = 0, 0, False, False, math.inf
        counts, forgotten = dict[int, _Count](), dict[int, int]()
        while found := await self._store.kept(after, PAGE, every=any(self._default)):
            threads += len(found)
            for kept in found:
                after = kept.thread_id
                limits = self._default if kept.retention is None else Limits.of(kept.retention)
                if limits.max_bytes:
                    counts[after] = await self._counted(kept)
                if limits.max_age and kept.oldest_time:
                    due = min(due, kept.oldest_time + limits.max_age)
                first_seq, left = await self._clean(kept, limits, counts.get(after))
                more, removed = more or left, removed or first_seq > kept.first_seq
                if first_seq > 1:
                    if self._forgotten.get(after) != first_seq:
                        await self._forget(kept.name)
                    forgotten[after] = first_seq
        self._counts, self._forgotten, self._found = counts, forgotten, threads > 0
        if not removed and not more:
            self._due = self._loop_time(due)
        return PAUSE_PER_THREAD * threads + (0 if more else PAUSE)

    def _loop_time(self, time: float) -> float | None:
        """Returns a time of the store's clock, in microseconds, on the event loop's; None: never.

        At most MAX_SLEEP from now, as the former may be adjusted meanwhile.
        """
        if time == math.inf:
            return None
        left = max(0, time - self._store.clock.time()) / 1e6
        return asyncio.get_running_loop().time() + min(left, MAX_SLEEP)

    async def _counted(self, kept: Kept) -> _Count:
        """Returns the size of a thread's entries, with those that are new."""
        count = self._counts.get(kept.thread_id)
        if count is None or (count.epoch, count.first_seq) != (kept.epoch, kept.first_seq):
            count = _Count(kept.epoch, kept.first_seq, kept.first_seq - 1)
        while count.upto < kept.head_seq:
            upto, size = await self._store.sizes(kept.thread_id, count.upto, CHUNK)
            if upto == count.upto:
                break
            count.upto, count.size = upto, count.size + size
        return count

    async def _clean(self, kept: Kept, limits: Limits, count: _Count | None) -> tuple[int, bool]:
        """Remove what a thread has over its limits, in STEPS at most.

        Returns its first_seq, and whether it has more. `count`: None: it has no limit of bytes.
        """
        size = 0 if count is None else count.size
        now, first_seq, more = self._store.clock.time(), kept.first_seq, False
        oldest = first_seq, kept.oldest_time
        if first_seq > kept.head_seq or not limits.exceeded(*oldest, kept.head_seq, size, now):
            return first_seq, False
        for _ in range(STEPS):
            counted = None if count is None else Counted(count.epoch, count.first_seq, count.size)
            try:
                compacted = await self._submit(Compact(kept.name, self._default, counted))
            except ThreadNotFound:
                return first_seq, False
            first_seq, more = compacted.first_seq, compacted.more
            if count is not None:
                if first_seq != count.first_seq + compacted.entries:
                    return first_seq, True  # another server has removed some: count again
                count.remove(compacted)
            if not more:
                break
        return first_seq, more

    async def _forget(self, name: str) -> None:
        """Delete what is stored about whom the removed entries of a thread address."""
        agent = await self._submit(ForgetAddressed(name))
        while agent:
            agent = await self._submit(ForgetAddressed(name, agent))

    async def _submit(self, command: Command[T]) -> T:
        """Returns the result of a command, after a pause: half of the time is for posts."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await self._writer.submit(command)
        await asyncio.sleep(loop.time() - began)
        return result


def default_limits(settings: Settings) -> Limits:
    """Returns how long entries are kept of threads without a retention of their own."""
    age = math.ceil(settings.retain_age * 1e6)
    return Limits(age, settings.retain_messages, settings.retain_bytes)
