"""The participants of threads whose waits ask for them: read once for all waits on a thread.

Waits are notified of a newer version at most once a second, and may skip versions.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bus_server.presence.changes import Changes
from bus_server.presence.participants import Participants
from bus_server.tail import Waiter
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import ParticipantUpdate, WaitMessagesResponse

#: Minimum number of seconds between two notifications of a wait.
NOTIFY_INTERVAL = 1.0
#: Maximum number of participants in one read of the store, and in one frame.
PAGE = 1_000


class CachedParticipants:
    """The participants of one thread."""

    def __init__(self, thread: str) -> None:
        self.thread = thread
        #: Incremented when the participants may have changed.
        self.version = 0
        #: The waits to notify when `version` is incremented.
        self.waiters: set[Waiter] = set()
        self._read_version = -1
        self._participants: Mapping[str, Participant] = {}
        #: The frames of `updates`, by the id() of its argument, or 0 for an empty one. The argument
        #: is kept with its frames, so that its id is not reused.
        self._updates: dict[int, tuple[Mapping[str, Participant], list[bytes]]] = {}
        self._reading = asyncio.Lock()

    def has_any(self, agents: set[str]) -> bool:
        """Returns whether any of these agents was a participant at the last `read`."""
        return not agents.isdisjoint(self._participants)

    async def read(self, participants: Participants) -> Mapping[str, Participant]:
        """Returns the participants by name, as of the current `version` or a later one.

        Reads the store only if `version` has changed since the last read; only one of several
        concurrent calls does. The mapping returned never changes. Raises ThreadNotFound, and what
        the store raises.
        """
        async with self._reading:
            if self._read_version != self.version:
                version, found = self.version, dict[str, Participant]()
                page = await participants.of(self.thread, limit=PAGE)
                while page:
                    found |= {participant.agent: participant for participant in page}
                    page = await participants.of(self.thread, after=page[-1].agent, limit=PAGE)
                self._participants, self._read_version, self._updates = found, version, {}
            return self._participants

    def updates(self, before: Mapping[str, Participant]) -> Sequence[bytes]:
        """Returns serialised frames with the changes from `before` to the last `read`.

        `before` is what an earlier `read` returned, or empty: all participants are new. Waits that
        start from the same mapping share the frames, so a change costs the same for any number of
        waits.
        """
        key = id(before) if before else 0
        if key not in self._updates:
            self._updates[key] = before, list(self._frames(before))
        return self._updates[key][1]

    def _frames(self, before: Mapping[str, Participant]) -> Iterator[bytes]:
        now = self._participants
        changed = [found for name, found in now.items() if before.get(name) != found]
        left = [name for name in before if name not in now]
        for start in range(0, max(len(changed), len(left)), PAGE):
            update = ParticipantUpdate(
                thread=self.thread,
                participants=changed[start : start + PAGE],
                left=left[start : start + PAGE],
            )
            yield WaitMessagesResponse(participants=update).SerializeToString()


@dataclass(frozen=True, slots=True)
class ParticipantCacheStatistics:
    """The size of a ParticipantCache."""

    #: Number of threads with an open wait that asked for participants.
    threads: int


class ParticipantCache:
    """The participants of all threads with a wait that asked for them.

    A thread is dropped from the cache when its last such wait ends.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._threads: dict[str, CachedParticipants] = {}

    @contextlib.contextmanager
    def watch(self, threads: Sequence[str], waiter: Waiter) -> Iterator[list[CachedParticipants]]:
        """Hold these threads' participants within the block, and notify `waiter` of new versions.

        Yields the participants of each thread, in the order of `threads`.
        """
        entries = [
            self._threads.setdefault(thread, CachedParticipants(thread)) for thread in threads
        ]
        for entry in entries:
            entry.waiters.add(waiter)
        try:
            yield entries
        finally:
            for entry in entries:
                entry.waiters.discard(waiter)
                if not entry.waiters:
                    self._threads.pop(entry.thread, None)

    def changed(self) -> None:
        """Mark all watched threads as changed: another process wrote to the store."""
        for thread in self._threads:
            self._changes.add_thread(thread)

    async def run(self) -> None:
        """Notify waits of new versions, at most once per NOTIFY_INTERVAL, until cancelled."""
        while True:
            await self._changes.available.wait()
            agents, threads = self._changes.take()
            for entry in list(self._threads.values()):
                if entry.thread in threads or entry.has_any(agents):
                    entry.version += 1
                    # Waits on a single thread share its Condition: notify each Condition once.
                    for waiter in {w.condition: w for w in entry.waiters}.values():
                        await waiter.notify()
            await asyncio.sleep(NOTIFY_INTERVAL)

    def statistics(self) -> ParticipantCacheStatistics:
        """Returns the current statistics."""
        return ParticipantCacheStatistics(threads=len(self._threads))
