"""The open waits of the other servers on the store."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Set

from bus_server.presence.changes import Changes
from bus_server.presence.presence import Presence
from bus_server.store.facts import ANONYMOUS
from threadbus.v1.admin_service_pb2 import Wait

#: Number of threads of waits that are processed before other tasks get a turn: at most 2 ms.
THREADS_PER_TURN = 500


class RemoteWaits:
    """The open waits of other servers, as of the last time that they were read from the store.

    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(self, presence: Presence, changes: Changes) -> None:
        self._presence = presence
        self._changes = changes
        #: By server and number.
        self._waits: dict[str, dict[int, Wait]] = {}
        #: The number of waits on each thread, by agent.
        self._on: dict[str, Counter[str]] = {}
        #: The number of waits on all threads of an agent, by agent.
        self._on_all: Counter[str] = Counter()

    def numbers(self, server: str) -> Set[int]:
        """Returns the numbers of a server's waits."""
        return self._waits.get(server, {}).keys()

    async def update(self, server: str, numbers: Set[int], new: Mapping[int, Wait]) -> None:
        """Replace the waits of a server: keep those with these numbers, and add the new ones.

        Do not call it again before it has returned. Other tasks see each wait as it was or as it
        is.
        """
        waits = self._waits.setdefault(server, {})
        threads = 0
        for number in [*(waits.keys() - numbers), *(new.keys() - waits.keys())]:
            if number in new:
                wait = waits[number] = new[number]
                self._count(wait, 1)
            else:
                wait = waits.pop(number)
                self._count(wait, -1)
            threads += len(wait.threads)
            if threads >= THREADS_PER_TURN:
                threads = 0
                await asyncio.sleep(0)
        if not waits:
            del self._waits[server]

    def on(self, thread: str) -> Mapping[str, int]:
        """Returns the number of waits of each agent that has any on a thread.

        Those of anonymous callers are left out, those that observe, and those on all threads of an
        agent.
        """
        return self._on.get(thread, {})

    def on_all(self, agent: str) -> int:
        """Returns the number of waits on all threads of an agent, without those that observe."""
        return self._on_all.get(agent, 0)

    def find(self, agent: str, thread: str) -> Iterator[tuple[str, int, Wait]]:
        """Yields waits, each with its server and number. `agent`, `thread`: as in `Waits.find`."""
        for server, waits in self._waits.items():
            for number, wait in waits.items():
                if agent in ("", wait.agent) and (
                    not thread or any(cursor.thread == thread for cursor in wait.threads)
                ):
                    yield server, number, wait

    def _count(self, wait: Wait, change: int) -> None:
        """Record that a wait was opened (1) or has ended (-1)."""
        if wait.agent == ANONYMOUS or wait.observe:
            return
        if wait.all_my_threads:
            self._on_all[wait.agent] += change
            if not self._on_all[wait.agent]:
                del self._on_all[wait.agent]
            self._changes.add_agent(wait.agent)
        for cursor in () if wait.all_my_threads else wait.threads:
            agents = self._on.setdefault(cursor.thread, Counter())
            agents[wait.agent] += change
            if not agents[wait.agent]:
                del agents[wait.agent]
            if not agents:
                del self._on[cursor.thread]
            self._changes.add_thread(cursor.thread)
        self._presence.add_remote_waits(wait.agent, change)
