"""Fair queueing: each caller gets an equal share, however much it has queued."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

#: The fairness key of the caller that the current task works for: an agent's name, or the
#: connection of an anonymous caller. Empty for the server's own work, which is queued like a
#: caller's.
fairness_key: ContextVar[str] = ContextVar("fairness_key", default="")

#: Maximum number of keys whose finish times a queue remembers. Beyond that it forgets all of them.
MAX_REMEMBERED_KEYS = 10_000


class FairQueue(Generic[T]):
    """A queue that is fair across keys, and first in, first out within each key.

    Items have costs. Of keys that always have items queued, each is served the same total cost over
    time. A key that has been idle, or whose last item cost little, is served soon: it does not wait
    behind all that others have queued. (Start-time fair queueing, Goyal, Vin and Cheng 1996.)

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[T, int]]] = {}
        #: A heap with one entry for each key that has items: the virtual time from which its first
        #: item may be served, a number that breaks ties, and the key. Virtual time is the cost
        #: served to a key that has always had items.
        self._starts: list[tuple[int, int, str]] = []
        self._now = 0
        #: By key, the earliest virtual time at which its next item may be served: its finish time.
        self._ends: dict[str, int] = {}
        self._length = self._count = 0

    def __len__(self) -> int:
        return self._length

    def of(self, key: str) -> Iterable[T]:
        """Yields the queued items of a key, in order."""
        return (item for item, _ in self._queues.get(key, ()))

    def items(self) -> Iterable[T]:
        """Yields all queued items, in no order."""
        return (item for queue in self._queues.values() for item, _ in queue)

    def put(self, key: str, item: T, cost: int = 1) -> None:
        """Enqueue an item. `cost`: relative to the costs of other items."""
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = queue = deque()
            self._schedule(key)
        queue.append((item, cost))
        self._length += 1

    def peek(self) -> T:
        """Returns the next item without removing it. Raises IndexError if the queue is empty."""
        return self._queues[self._starts[0][2]][0][0]

    def next(self) -> T:
        """Remove and return the next item. Raises IndexError if the queue is empty."""
        self._now, _, key = heapq.heappop(self._starts)
        queue = self._queues[key]
        item, cost = queue.popleft()
        if len(self._ends) >= MAX_REMEMBERED_KEYS:
            self._ends.clear()
        self._ends[key] = self._now + cost
        if queue:
            self._schedule(key)
        else:
            del self._queues[key]
        self._length -= 1
        return item

    def _schedule(self, key: str) -> None:
        self._count += 1  # keys with the same start time are served in order of arrival
        start = max(self._now, self._ends.get(key, 0))
        heapq.heappush(self._starts, (start, self._count, key))


class FairLock:
    """A lock for `async with`, fair across the fairness keys of the tasks that wait for it.

    Tasks of one key get it in the order of their arrival.
    """

    def __init__(self) -> None:
        self._held = False
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.put(fairness_key.get(), turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the lock was granted before the cancellation
                self._pass_on()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._queue:
            turn = self._queue.next()
            if not turn.done():  # else the task that waited was cancelled
                turn.set_result(None)
                return
        self._held = False
