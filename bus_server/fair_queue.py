"""Callers take turns: on whose behalf a task works, and queues that are fair to callers."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

#: The share of the caller that the current task works for: an agent's name, or the connection of a
#: caller without one. Empty: the server's own work, which takes turns like a caller's.
share: ContextVar[str] = ContextVar("share", default="")

#: Shares of which a queue remembers what they have had.
REMEMBERED = 10_000


class Turns(Generic[T]):
    """A queue in which shares take turns. Within a share: first in, first out.

    Items have costs, and shares that always have something queued get the same cost served over
    time. A share whose last item was served long ago, or cost little, is next: it waits for nobody
    else's queue. (Start-time fair queueing, Goyal, Vin and Cheng 1996.)
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[tuple[T, int]]] = {}
        #: Of each line: the time from which its first item may be served, and its share. Time is
        #: the cost that was served to a share which always had something queued.
        self._starts: list[tuple[int, int, str]] = []
        self._now = 0
        #: When the next item of a share may start.
        self._ends: dict[str, int] = {}
        self._length = self._count = 0

    def __len__(self) -> int:
        return self._length

    def of(self, share: str) -> Iterable[T]:
        """What a share has queued."""
        return (item for item, _ in self._lines.get(share, ()))

    def put(self, share: str, item: T, cost: int = 1) -> None:
        """Enqueue an item."""
        line = self._lines.get(share)
        if line is None:
            self._lines[share] = line = deque()
            self._wait(share)
        line.append((item, cost))
        self._length += 1

    def peek(self) -> T:
        """Return the next item and leave it. Raises IndexError when there is none."""
        return self._lines[self._starts[0][2]][0][0]

    def next(self) -> T:
        """Take the next item. Raises IndexError when there is none."""
        self._now, _, share = heapq.heappop(self._starts)
        line = self._lines[share]
        item, cost = line.popleft()
        if len(self._ends) >= REMEMBERED:
            self._ends.clear()
        self._ends[share] = self._now + cost
        if line:
            self._wait(share)
        else:
            del self._lines[share]
        self._length -= 1
        return item

    def _wait(self, share: str) -> None:
        self._count += 1  # of those who may start at the same time, the first to come is first
        start = max(self._now, self._ends.get(share, 0))
        heapq.heappush(self._starts, (start, self._count, share))


class TurnLock:
    """A lock. Callers get it in turns, each caller's tasks in the order they came."""

    def __init__(self) -> None:
        self._held = False
        self._queue: Turns[asyncio.Future[None]] = Turns()

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.put(share.get(), turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came at the same moment
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
