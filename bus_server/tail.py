"""The known head of each thread, and the wake-ups of waits on the thread.

A wake-up carries no data: the wait compares the head with its own position. Within an epoch, heads
only grow, and no flag is ever cleared, so no wake-up can be lost between checking and waiting.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bus_server.alarms import Alarm, Alarms
from bus_server.store import Head
from bus_server.store.epochs import shared_seq


class Tail:
    """A thread's known head, and the Conditions of the waits on the thread."""

    def __init__(self) -> None:
        #: None until it has been read once.
        self.head: Head | None = None
        #: Whether the thread was deleted. There may be a new thread of the same name, with its own
        #: Tail.
        self.deleted = False
        #: The Condition of the waits on this thread alone.
        self.condition = asyncio.Condition()
        #: The Conditions of waits on several threads, of which this is one.
        self.lent: set[asyncio.Condition] = set()
        #: Number of waits that hold it.
        self.waits = 0

    async def notify(self) -> None:
        """Wake every wait on this thread."""
        for condition in (self.condition, *self.lent):
            # Only Condition.wait() is awaited with the lock held, so this never suspends.
            async with condition:
                condition.notify_all()


class Waiter:
    """One wait's references to the tails of its threads, and the Condition that it waits on.

    Used by one task: the one that creates it.
    """

    __slots__ = (
        *("_alarm", "_alarms", "_deadline", "_rang", "_task", "condition", "names", "tails"),
    )

    def __init__(
        self,
        names: Sequence[str],
        tails: Sequence[Tail],
        condition: asyncio.Condition,
        alarms: Alarms,
    ) -> None:
        self.names = names
        self.tails = tails
        self.condition = condition
        self._alarms = alarms
        self._task = asyncio.current_task()
        #: When `until` must return, on the event loop's clock; None while the task is not in it.
        self._deadline: float | None = None
        #: The alarm that ends `until`. It is kept from one call to the next, as most calls end
        #: before it rings.
        self._alarm: Alarm | None = None
        #: Whether the alarm has cancelled the task.
        self._rang = False

    async def notify(self) -> None:
        """Wake the wait, and others that share its Condition."""
        async with self.condition:
            self.condition.notify_all()

    async def until(self, ready: Callable[[], bool], deadline: float) -> None:
        """Wait until `ready()` is true, but not past `deadline` on the event loop's clock."""
        # Not asyncio.timeout_at: a tenth of the time of a delivery went into setting and cancelling
        # its timer.
        self._deadline = deadline
        if self._alarm is None or deadline < self._alarm.at:
            self._set_alarm(deadline)
        try:
            async with self.condition:
                while not ready():
                    await self.condition.wait()
        except asyncio.CancelledError:
            if not self._rang or (self._task is not None and self._task.uncancel()):
                raise  # somebody else has cancelled the task
        finally:
            self._deadline, self._rang = None, False

    def close(self) -> None:
        """Cancel the alarm. Call it when the wait has ended."""
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None

    def _set_alarm(self, at: float) -> None:
        self.close()
        self._alarm = self._alarms.set(at, self)

    def ring(self) -> None:
        """End `until` if its deadline has passed. The alarm calls this."""
        self._alarm = None
        if self._deadline is None:
            return  # the next `until` sets the alarm
        if self._deadline > asyncio.get_running_loop().time():
            self._set_alarm(self._deadline)
        elif self._task is not None:
            self._rang = True
            self._task.cancel()


@dataclass(frozen=True, slots=True)
class TailStatistics:
    """The numbers of threads and waits that Tails holds."""

    #: Threads with a wait.
    threads: int
    #: References of waits to threads: a wait on two threads counts as two.
    holds: int


class Tails:
    """The tails of the threads that waits hold. A tail is dropped with its last wait."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}
        self._alarms = Alarms()
        #: Whether the server is shutting down, so that waits must end.
        self.draining = False

    def heads(self, names: Iterable[str] | None = None) -> dict[str, Head | None]:
        """Returns the known heads of threads with a wait, by name: of these threads, or of all.

        None: it is being read for the first time; the read may return an outdated head.
        """
        wanted = self._tails.keys() if names is None else self._tails.keys() & set(names)
        return {name: self._tails[name].head for name in wanted}

    def is_watched(self, name: str) -> bool:
        """Returns whether a wait holds a thread."""
        return name in self._tails

    def is_shared(self, name: str) -> bool:
        """Returns whether several waits hold a thread."""
        tail = self._tails.get(name)
        return tail is not None and tail.waits > 1

    def is_behind(self, name: str, seq: int) -> bool:
        """Returns whether a thread has a wait, and no head with this seq is known. 0: any seq."""
        tail = self._tails.get(name)
        return tail is not None and (tail.head is None or not seq or tail.head.seq < seq)

    def watch(self, names: Sequence[str]) -> Waiter:
        """Hold the tails of these threads until `unwatch`. Returns the wait's Waiter.

        Read the threads' heads after this, and pass them to `advance`: a commit between the read
        and the first wait then moves a tail that is already held.
        """
        tails = tuple(self._tails.setdefault(name, Tail()) for name in names)
        # A wait on one thread uses that thread's Condition; one on several lends them its own.
        condition = tails[0].condition if len(tails) == 1 else asyncio.Condition()
        for tail in tails:
            tail.waits += 1
            if condition is not tail.condition:
                tail.lent.add(condition)
        return Waiter(names, tails, condition, self._alarms)

    def unwatch(self, waiter: Waiter) -> None:
        """Release the tails of a wait. Call it once for each `watch`."""
        waiter.close()
        for name, tail in zip(waiter.names, waiter.tails, strict=True):
            tail.waits -= 1
            tail.lent.discard(waiter.condition)
            if tail.waits == 0 and self._tails.get(name) is tail:
                del self._tails[name]

    async def advance(self, name: str, head: Head) -> None:
        """Raise a thread's known head and wake the waits on it.

        No-op without a wait on the thread. A head is ignored if neither its seq nor its first_seq
        is higher than the known one, or if it is of an earlier thread of the same name, or of the
        epoch before. A later thread ends the waits on the former one, which was deleted.
        """
        tail = self._tails.get(name)
        if tail is None:
            return
        known = tail.head
        if known is not None and known.thread_id != head.thread_id:
            if known.thread_id < head.thread_id:
                await self.end(name, known.epoch)
        elif known is None or is_later(head, known):
            tail.head = head
            if known is None or head.seq != known.seq or head.epoch != known.epoch:
                await tail.notify()  # no wait that sleeps is behind first_seq

    async def end(self, name: str, epoch: str) -> None:
        """End the waits on a thread that was deleted. `epoch`: the deleted thread's."""
        tail = self._tails.get(name)
        # A head not read yet may be the deleted thread's: the wait that reads it must try again.
        if tail is not None and (tail.head is None or tail.head.epoch == epoch):
            del self._tails[name]
            tail.deleted = True
            await tail.notify()

    async def drain(self) -> None:
        """End every wait, including those that begin later."""
        self.draining = True
        for tail in list(self._tails.values()):
            await tail.notify()

    def statistics(self) -> TailStatistics:
        """Returns the current statistics."""
        return TailStatistics(
            threads=len(self._tails), holds=sum(tail.waits for tail in self._tails.values())
        )


def is_later(head: Head, known: Head) -> bool:
    """Returns whether a head of the same thread is later than the known one."""
    if head.epoch == known.epoch:
        return (head.seq, head.first_seq) > (known.seq, known.first_seq)
    return shared_seq(known.epoch, head.epoch) is None  # else it is of the epoch before
