"""The end of each thread's log as this process knows it, and the wake-ups of those who wait there.

A wake-up carries no data: it says that the head is now N. A tail's head only grows and no flag is
ever cleared, so no wake-up can be lost between looking and waiting.
"""

import asyncio
from collections.abc import Callable, Sequence

from bus_server.store import Head


class Tail:
    """A thread's committed head, and one Condition for those who wait for it to move."""

    def __init__(self) -> None:
        #: None until it was read once.
        self.head: Head | None = None
        #: The thread was deleted. Its name may be another thread's by now, with a Tail of its own.
        self.gone = False
        self.condition = asyncio.Condition()
        #: Conditions of the waits on several threads.
        self.lent: set[asyncio.Condition] = set()
        #: How many wait here.
        self.waits = 0

    async def notify(self) -> None:
        """Have everyone who waits here look again."""
        for condition in (self.condition, *self.lent):
            # Nobody holds the lock across an await but the wait's own, so this never suspends.
            async with condition:
                condition.notify_all()


class Watch:
    """One wait's hold on the tails of its threads."""

    __slots__ = ("condition", "names", "tails")

    def __init__(
        self, names: Sequence[str], tails: Sequence[Tail], condition: asyncio.Condition
    ) -> None:
        self.names = names
        self.tails = tails
        self.condition = condition

    async def notify(self) -> None:
        """Have the wait look again."""
        async with self.condition:
            self.condition.notify_all()

    async def until(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until `ready`, at the longest until the loop's clock says `deadline`."""
        # Without wait_for and suppress, of which each idle wait would keep one.
        try:
            async with asyncio.timeout_at(deadline), self.condition:
                while not ready():
                    await self.condition.wait()
        except TimeoutError:
            return


class Tails:
    """The tails of the threads that somebody waits on. Nothing else is kept here."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}
        #: The server is going away: waits must end.
        self.draining = False

    @property
    def heads(self) -> dict[str, Head | None]:
        """The threads that somebody waits on, and their heads as they are known here.

        None: it is being read for the first time, and what comes of that may be old already.
        """
        return {name: tail.head for name, tail in self._tails.items()}

    def watch(self, names: Sequence[str]) -> Watch:
        """Hold the tails of these threads, until `unwatch`.

        Read the threads' heads *after* this and tell them with `advance`: what is committed between
        the reading and the first wait then moves a tail that is already held.
        """
        tails = [self._tails.setdefault(name, Tail()) for name in names]
        # A wait on one thread uses that thread's Condition; one on several lends them its own.
        condition = tails[0].condition if len(tails) == 1 else asyncio.Condition()
        for tail in tails:
            tail.waits += 1
            if condition is not tail.condition:
                tail.lent.add(condition)
        return Watch(names, tails, condition)

    def unwatch(self, watch: Watch) -> None:
        """Let go of them."""
        for name, tail in zip(watch.names, watch.tails, strict=True):
            tail.waits -= 1
            tail.lent.discard(watch.condition)
            if tail.waits == 0 and self._tails.get(name) is tail:
                del self._tails[name]

    async def advance(self, name: str, head: Head) -> None:
        """Raise a thread's known head and wake the waits on it.

        A head that was read a while ago may come late: a lower seq, or an older thread of the name,
        is ignored. Another epoch ends the waits on the one known so far: the thread was deleted, or
        its history replaced.
        """
        tail = self._tails.get(name)
        if tail is None:
            return
        known = tail.head
        if known is not None and known.epoch != head.epoch:
            if known.thread_id <= head.thread_id:
                await self.end(name, known.epoch)
        elif known is None or known.seq < head.seq:
            tail.head = head
            await tail.notify()

    async def end(self, name: str, epoch: str) -> None:
        """End the waits on a thread that was deleted."""
        tail = self._tails.get(name)
        # A head that is not known yet may be this thread's: who is reading it must look again.
        if tail is not None and (tail.head is None or tail.head.epoch == epoch):
            del self._tails[name]
            tail.gone = True
            await tail.notify()

    async def drain(self) -> None:
        """Have every wait end, now and from now on."""
        self.draining = True
        for tail in list(self._tails.values()):
            await tail.notify()
