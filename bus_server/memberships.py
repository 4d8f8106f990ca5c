"""Which threads agents take part in that wait on all their threads, and what is new in them.

A wait on named threads holds their tails. One on all of an agent's threads may have ten thousand,
of which few are active, so it holds none: it is told of the threads that have changed. As a wake-up
of a tail does, that carries no messages, and is only ever late, never lost: what another server
commits is found by `look`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

from bus_server.store import NOT_STARTED, Commit, Head, Membership
from bus_server.store.interface import Store
from bus_server.tail import is_later

#: How far a thread had been read when a wait learned of it: after_seq, epoch and hidden_seq of a
#: cursor. A plain tuple of numbers and a string: the garbage collector does not track it.
Place = tuple[int, str, int]


class MyThreads:
    """The threads of one agent, for one wait on all of them."""

    __slots__ = (
        *("addressed", "agent", "changed", "hides", "loading", "moves", "notify", "places"),
        "prefixes",
    )

    def __init__(
        self,
        agent: str,
        prefixes: tuple[str, ...],
        notify: Callable[[], Awaitable[None]],
        *,
        addressed: bool,
        hides: bool,
    ) -> None:
        """
        Args:
            agent: the agent.
            prefixes: only threads whose names begin with one of them; empty: all.
            notify: wakes the wait.
            addressed: whether it wants only entries that are addressed to the agent.
            hides: whether its filter can hide entries of others.
        """
        self.agent = agent
        self.prefixes = prefixes
        self.notify = notify
        self.addressed, self.hides = addressed, hides
        #: By thread.
        self.places: dict[str, Place] = {}
        #: The newest known heads of threads that have changed since the wait last looked.
        self.changed: dict[str, Head] = {}
        #: Threads that became the agent's (with their heads) or no longer are (None), in order.
        self.moves: list[tuple[str, Head | None]] = []
        #: Whether its threads are being read: it is then told of all threads.
        self.loading = True

    def wants(self, thread: str) -> bool:
        """Returns whether a thread is one of those that its prefixes permit."""
        return not self.prefixes or thread.startswith(self.prefixes)

    def place_of(self, head: Head, membership: Membership) -> Place:
        """Returns where the wait starts in a thread.

        An agent that has not started to read it has missed nothing of what was removed.
        """
        read, passed = min(membership.read_seq, head.seq), min(membership.passed_over, head.seq)
        if read == NOT_STARTED:
            read = head.first_seq - 1
        if self.hides and passed > read:
            return passed, head.epoch, read + 1
        return read, head.epoch, 0

    def news(self) -> bool:
        """Returns whether anything has changed since the wait last looked."""
        return bool(self.changed or self.moves)


class Memberships:
    """All waits on all threads of an agent, by agent and by thread.

    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of: dict[str, set[MyThreads]] = {}
        self._loading: set[MyThreads] = set()
        #: By thread: those that want every entry, and those that want only what is addressed to
        #: their agents.
        self._all: dict[str, set[MyThreads]] = {}
        self._addressed: dict[str, set[MyThreads]] = {}
        #: The newest known seq of each thread that was active at the last look, with its epoch.
        self._seen: dict[str, tuple[str, int]] = {}
        #: When the most recently active thread of the last look was active.
        self._looked = 0
        self._looking = asyncio.Lock()

    def add(self, mine: MyThreads) -> None:
        """Add a wait whose threads are being read: pass them to `place`, then call `loaded`."""
        self._of.setdefault(mine.agent, set()).add(mine)
        self._loading.add(mine)

    def place(self, mine: MyThreads, thread: str, place: Place) -> None:
        """Add one of a wait's threads."""
        name, (after, epoch, hidden) = sys.intern(thread), place
        mine.places[name] = after, sys.intern(epoch), hidden
        self._index(mine).setdefault(name, set()).add(mine)

    def loaded(self, mine: MyThreads) -> list[str]:
        """Record that all threads of a wait have been read.

        Returns those that stopped being the agent's meanwhile.
        """
        mine.loading = False
        self._loading.discard(mine)
        moves, mine.moves = dict(mine.moves), []
        lost = [name for name, head in moves.items() if head is None]
        for name in lost:
            self._forget(mine, name)
            mine.places.pop(name, None)
        gained = {name: head for name, head in moves.items() if head is not None}
        news = gained | mine.changed
        mine.changed = {name: head for name, head in news.items() if name in mine.places}
        return lost

    def remove(self, mine: MyThreads) -> None:
        """Remove a wait. No-op if it is not there."""
        self._loading.discard(mine)
        waits = self._of.get(mine.agent, set())
        waits.discard(mine)
        if not waits:
            self._of.pop(mine.agent, None)
        for name in mine.places:
            self._forget(mine, name)
        mine.places.clear()

    def any(self) -> bool:
        """Returns whether there is any wait."""
        return bool(self._of)

    def waiting_on(self, thread: str) -> Iterator[str]:
        """Yields the agent of each wait that a thread is part of."""
        for index in (self._all, self._addressed):
            for mine in index.get(thread, ()):
                yield mine.agent

    async def committed(self, commit: Commit) -> None:
        """Tell the waits what a commit of this server changed."""
        if not self._of:
            return
        told: set[MyThreads] = set()
        for name, _ in commit.deleted:
            told |= self._lose(name)
        for name, members in commit.members.items():
            for agent, joined in members.items():
                for mine in self._of.get(agent, ()):
                    if joined is None:
                        told |= self._lose_one(mine, name)
                    else:
                        head, read_seq = joined
                        told |= self._gain(mine, name, head, Membership(read_seq, 0))
        for name, head in commit.heads.items():
            told |= self._tell(name, head, commit.addressed.get(name, ()))
        for mine in told:
            await mine.notify()

    async def look(self, names: Collection[str]) -> None:
        """Tell the waits what other servers changed in threads. Raises what the store raises."""
        if not self._of or not names:
            return
        async with self._looking:
            await self._look(names)

    async def look_at_active(self) -> None:
        """As `look`, at the threads that have been active since the last call."""
        if not self._of:
            self._looked, self._seen = 0, {}
            return
        async with self._looking:
            names, looked = await self._store.recently_active(self._looked)
            self._seen = {name: self._seen[name] for name in names if name in self._seen}
            await self._look(names)
            self._looked = looked

    def lose(self, mine: MyThreads, thread: str) -> None:
        """Record that a thread turned out not to be one of a wait's any more."""
        self._lose_one(mine, thread)

    async def notify(self) -> None:
        """Wake all waits."""
        for mine in [mine for waits in self._of.values() for mine in waits]:
            await mine.notify()

    async def _look(self, names: Collection[str]) -> None:
        # What is read may be out of date: this server may commit more before the reads return.
        held = {name: [*self._all.get(name, ()), *self._addressed.get(name, ())] for name in names}
        heads = await self._store.heads(list(names))
        new = [
            name
            for name, head in heads.items()
            if self._seen.get(name) != (head.epoch, head.seq) or self._loading
        ]
        members = await self._store.members(new, list(self._of)) if new else {}
        told: set[MyThreads] = set()
        for name in names:
            if name not in heads:
                for mine in [*self._loading, *held[name]]:
                    told |= self._lose_one(mine, name)
        for name in new:
            head, found = heads[name], members.get(name, {})
            epoch, seen = self._seen.get(name, ("", 0))
            since = seen if epoch == head.epoch else 0
            self._seen[name] = head.epoch, head.seq
            for mine in held[name]:
                if mine.agent not in found:
                    told |= self._lose_one(mine, name)
            for agent, membership in found.items():
                for mine in self._of.get(agent, ()):
                    told |= self._gain(mine, name, head, membership)
            addressed = [agent for agent, each in found.items() if each.addressed_seq > since]
            told |= self._tell(name, head, addressed)
        for mine in told:
            await mine.notify()

    def _tell(self, name: str, head: Head, addressed: Iterable[str]) -> set[MyThreads]:
        """Record that a thread has a new head. Returns the waits that this concerns.

        `addressed`: the agents to which new entries are, or may be, addressed.
        """
        concerned = self._loading | self._all.get(name, set())
        if name in self._addressed:
            agents = frozenset(addressed)
            concerned |= {mine for mine in self._addressed[name] if mine.agent in agents}
        for mine in concerned:
            known = mine.changed.get(name)
            if known is None or _is_news(head, known):
                mine.changed[name] = head
        return concerned

    def _gain(
        self, mine: MyThreads, name: str, head: Head, membership: Membership
    ) -> set[MyThreads]:
        """Record that a thread is one of a wait's. Returns the wait if that is new."""
        if name in mine.places or not mine.wants(name):
            return set()
        self.place(mine, name, mine.place_of(head, membership))
        mine.moves.append((name, head))
        return {mine}

    def _lose(self, name: str) -> set[MyThreads]:
        """Record that a thread was deleted. Returns the waits that this concerns."""
        told: set[MyThreads] = set()
        for mine in [*self._loading, *self._all.get(name, ()), *self._addressed.get(name, ())]:
            told |= self._lose_one(mine, name)
        return told

    def _lose_one(self, mine: MyThreads, name: str) -> set[MyThreads]:
        """Record that a thread is no longer one of a wait's. Returns the wait if that is new."""
        if name not in mine.places and not mine.loading:
            return set()
        # While its threads are read, this one may already have been read, and not be placed yet.
        self._forget(mine, name)
        mine.places.pop(name, None)
        mine.changed.pop(name, None)
        mine.moves.append((name, None))
        return {mine}

    def _index(self, mine: MyThreads) -> dict[str, set[MyThreads]]:
        return self._addressed if mine.addressed else self._all

    def _forget(self, mine: MyThreads, name: str) -> None:
        index = self._index(mine)
        waits = index.get(name, set())
        waits.discard(mine)
        if not waits:
            index.pop(name, None)


def _is_news(head: Head, known: Head) -> bool:
    """Returns whether a head is later than the known one of a thread of the same name."""
    if head.thread_id != known.thread_id:
        return head.thread_id > known.thread_id
    return is_later(head, known)
