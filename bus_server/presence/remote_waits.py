"""The open waits of the other servers on the store."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set

from bus_server.presence.changes import Changes
from bus_server.presence.presence import Presence
from bus_server.store.facts import ANONYMOUS
from threadbus.v1.admin_service_pb2 import Wait


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
        self._counts: Counter[str] = Counter()

    def numbers(self, server: str) -> Set[int]:
        """Returns the numbers of a server's waits."""
        return self._waits.get(server, {}).keys()

    def update(self, server: str, numbers: Set[int], new: Mapping[int, Wait]) -> None:
        """Replace the waits of a server: keep those with these numbers, and add the new ones."""
        waits = self._waits.setdefault(server, {})
        gone = [waits.pop(number) for number in waits.keys() - numbers]
        added = {number: wait for number, wait in new.items() if number not in waits}
        waits |= added
        self._count(gone, -1)
        self._count(added.values(), 1)
        for agent in {wait.agent for wait in (*gone, *added.values())} - {ANONYMOUS}:
            self._presence.set_remote_waits(agent, self._counts[agent])
        if not waits:
            del self._waits[server]

    def on(self, thread: str) -> Mapping[str, int]:
        """Returns the number of waits of each agent that has any on a thread.

        Those of anonymous callers are left out.
        """
        return self._on.get(thread, {})

    def find(self, agent: str, thread: str) -> Iterator[tuple[str, int, Wait]]:
        """Yields waits, each with its server and number. `agent`, `thread`: as in `Waits.find`."""
        for server, waits in self._waits.items():
            for number, wait in waits.items():
                if agent in ("", wait.agent) and (
                    not thread or any(cursor.thread == thread for cursor in wait.threads)
                ):
                    yield server, number, wait

    def _count(self, waits: Iterable[Wait], change: int) -> None:
        for wait in waits:
            if wait.agent == ANONYMOUS:
                continue
            self._counts[wait.agent] += change
            if not self._counts[wait.agent]:
                del self._counts[wait.agent]
            for cursor in wait.threads:
                agents = self._on.setdefault(cursor.thread, Counter())
                agents[wait.agent] += change
                if not agents[wait.agent]:
                    del agents[wait.agent]
                if not agents:
                    del self._on[cursor.thread]
                self._changes.add_thread(cursor.thread)
