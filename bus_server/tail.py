"""The end of each thread's log as this process knows it, and the wake-ups of those who wait there.

A wake-up carries no data: it says that the head is now N. A tail's head only grows and no flag is
ever cleared, so no wake-up can be lost between looking and waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from bus_server.store import Head
from threadbus.v1.message_pb2 import Message


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
        """A thread's log is known to reach `head`: wake everyone who waits for that.

        What was read a while ago may come late: a lower seq, or an older thread of the name, says
        nothing new. A newer thread of the name says that the one waited for is gone.
        """
        tail = self._tails.get(name)
        if tail is None:
            return
        if tail.head is not None and tail.head.thread_id < head.thread_id:
            await self.end(name, tail.head.thread_id)
        elif tail.head is None or (
            tail.head.thread_id == head.thread_id and tail.head.seq < head.seq
        ):
            tail.head = head
            await tail.notify()

    async def end(self, name: str, thread_id: int) -> None:
        """This thread was deleted: whoever waits on it must learn it."""
        tail = self._tails.get(name)
        # A head that is not known yet may be this thread's: who is reading it must look again.
        if tail is not None and (tail.head is None or tail.head.thread_id == thread_id):
            del self._tails[name]
            tail.gone = True
            await tail.notify()

    async def drain(self) -> None:
        """Have every wait end, now and from now on."""
        self.draining = True
        for tail in list(self._tails.values()):
            await tail.notify()


#: About what a small message that came alone takes up in memory beside its own bytes; measured.
OVERHEAD = 1_500


class Recent:
    """The newest messages of all threads together, so that those who follow closely read no store.

    Thread ids are never used again and an edit is noted in the message, so nothing in here can be
    wrong; what is missing is in the store.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        #: By thread_id << 32 | seq, as the store has them, each with its size.
        self._messages: dict[int, tuple[Message, int]] = {}
        #: What was kept at once: its first key and its last one, its bytes.
        self._runs: deque[tuple[int, int, int]] = deque()

    def add(self, thread_id: int, messages: Sequence[Message]) -> None:
        """Keep what was just committed, ascending; let the oldest go."""
        if not messages:
            return
        first = last = thread_id << 32 | messages[0].seq
        size = 0
        for message in messages:
            last = thread_id << 32 | message.seq  # another server's may be between ours
            one = message.ByteSize()
            self._messages[last] = message, one
            size += one + OVERHEAD
        self._runs.append((first, last, size))
        self._bytes += size
        while self._bytes > self._max_bytes:
            first, last, size = self._runs.popleft()
            for key in range(first, last + 1):
                self._messages.pop(key, None)
            self._bytes -= size

    def edit(self, thread_id: int, edits: Mapping[int, int]) -> None:
        """Messages, by seq, have a newest edit now: note its seq where they are kept."""
        for seq, edit_seq in edits.items():
            kept = self._messages.get(thread_id << 32 | seq)
            if kept is not None:
                kept[0].edit_seq = edit_seq

    def clear(self) -> None:
        """Forget everything: others may have edited any of it."""
        self._messages.clear()
        self._runs.clear()
        self._bytes = 0

    def read(
        self, thread_id: int, after: int, upto: int, max_bytes: int
    ) -> tuple[list[Message], int]:
        """Messages after < seq <= upto, as far as they are kept without a hole, until max_bytes.

        And how many bytes they are together; always the first one, if it is kept.
        """
        run: list[Message] = []
        size = 0
        for seq in range(after + 1, upto + 1):
            kept = self._messages.get(thread_id << 32 | seq)
            if kept is None or (run and size + kept[1] > max_bytes):
                break
            run.append(kept[0])
            size += kept[1]
        return run, size
