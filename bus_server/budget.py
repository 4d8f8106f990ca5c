"""Bytes that all callers share, given out so that none of them can keep the others from theirs."""

import asyncio
import math
from collections import deque
from typing import TypeAlias

from bus_server.errors import StoreBusy

#: What is smaller is not counted: counting it would cost more than it takes.
SMALL = 16 * 1024
#: Takers that may wait at a time. One that waits costs as much as a call does.
MAX_WAITING = 4_096

#: How many bytes somebody waits for, and what tells that they are given.
_Waiter: TypeAlias = "tuple[int, asyncio.Future[None]]"


class Budget:
    """A number of bytes. Takers beyond it wait in turn, caller by caller.

    The last quarter is for callers that hold nothing: whatever one caller does, another's next call
    finds room. Of that they get what they ask for as long as anything is left, so that in all one
    call more than there is room for may be held. All calls come from the loop's thread.
    """

    def __init__(self, max_bytes: int, *, timeout: float, what: str) -> None:
        """
        Args:
            max_bytes: how many there are.
            timeout: seconds after which a taker gives up.
            what: what they are bytes of, for the error that it then gets.
        """
        self._left = max_bytes
        self._reserve = max_bytes // 4
        #: Seconds after which a taker gives up, unless it says otherwise.
        self.timeout = timeout
        self._what = what
        self._held: dict[str, int] = {}
        #: By caller, the one whose turn is next first.
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._waiting_count = 0

    @property
    def waiting(self) -> list[str]:
        """The callers that wait, those that hold nothing first."""
        return sorted(self._waiting, key=self.holds)

    def holds(self, caller: str) -> bool:
        """Whether a caller has any."""
        return caller in self._held

    def take_now(self, caller: str, size: int) -> bool:
        """Take bytes, if that can be done without waiting."""
        held = self._held.get(caller, 0)
        if (held and self._waiting) or not self._fits(held, size):
            return False
        self._left -= size
        self._held[caller] = held + size
        return True

    async def take(self, caller: str, size: int, timeout: float | None = None) -> None:
        """Take bytes, waiting for them. Being cancelled takes nothing.

        Args:
            timeout: seconds after which to give up, when not as usual; infinite: never.

        Raises:
            StoreBusy: it takes too long; or too many wait, and none for the same caller more.
        """
        if self.take_now(caller, size):
            return
        if self._waiting_count >= MAX_WAITING:
            self._refuse_one(caller)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append((size, turn))
        self._waiting_count += 1
        try:
            seconds = self.timeout if timeout is None else timeout
            async with asyncio.timeout(seconds if seconds < math.inf else None):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give(caller, size)
            else:
                self._give_up(caller, (size, turn))
            if isinstance(error, TimeoutError):
                raise StoreBusy(f"there was no room for {self._what} for too long") from None
            raise

    def give(self, caller: str, size: int) -> None:
        """Give bytes back."""
        self.change(caller, -size)

    def change(self, caller: str, size: int) -> None:
        """Take as many more, even if there is no room for them, or give back as many (negative)."""
        self._left -= size
        held = self._held.get(caller, 0) + size
        if held:
            self._held[caller] = held
        else:
            self._held.pop(caller, None)
        if size < 0 and self._waiting:
            self._serve()

    def _fits(self, held: int, size: int) -> bool:
        return self._left - size >= self._reserve if held else self._left > 0

    def _serve(self) -> None:
        """Give those who wait what there is, each caller in turn."""
        served = True
        while served:
            served = False
            for caller, queue in list(self._waiting.items()):
                while queue and queue[0][1].cancelled():
                    self._leave(queue, queue[0])
                if queue and not self._fits(self._held.get(caller, 0), queue[0][0]):
                    continue
                del self._waiting[caller]
                if queue:
                    size, turn = queue[0]
                    self._leave(queue, queue[0])
                    self.change(caller, size)
                    turn.set_result(None)
                    served = True
                if queue:  # at the end: the others come first now
                    self._waiting[caller] = queue

    def _refuse_one(self, caller: str) -> None:
        """Refuse the newest waiter of the caller with most, or this caller if it has as many."""
        queue = max(self._waiting.values(), key=len)
        error = StoreBusy(f"too many calls wait for room for {self._what}")
        if len(queue) <= len(self._waiting.get(caller, ())) + 1:
            raise error
        waiter = queue[-1]
        self._leave(queue, waiter)
        if not waiter[1].done():
            waiter[1].set_exception(error)

    def _give_up(self, caller: str, waiter: _Waiter) -> None:
        queue = self._waiting.get(caller)
        if queue is None or waiter not in queue:
            return  # those who were served met it before
        self._leave(queue, waiter)
        if not queue:
            del self._waiting[caller]

    def _leave(self, queue: deque[_Waiter], waiter: _Waiter) -> None:
        queue.remove(waiter)
        self._waiting_count -= 1
