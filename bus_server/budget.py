"""A byte budget shared by all callers, with a reserve that no single caller can use up."""

import asyncio
import math
from collections import Counter, deque
from dataclasses import dataclass

from bus_server.errors import StoreBusy

#: Bytes. What is no larger is not charged to a budget: counting it would cost more than it saves.
SMALL = 16 * 1024
#: Maximum number of refusable claims to a budget that wait at a time. Each keeps a call open.
MAX_WAITING = 4_096


@dataclass(slots=True, eq=False)
class _Claim:
    caller: str
    size: int  # in bytes
    turn: "asyncio.Future[None]"  # resolved when they are granted
    refusable: bool


class Budget:
    """A byte budget. Claims that exceed it wait, and are granted round-robin over callers.

    Callers are identified by their fairness keys. The last quarter is reserved for callers that
    hold nothing, so that one caller cannot block the others. Such a caller gets its bytes while any
    are left, so the total may be exceeded by one claim. Not thread-safe: call it on the event
    loop's thread.
    """

    def __init__(self, max_bytes: int, *, timeout: float, what: str) -> None:
        """
        Args:
            max_bytes: the size of the budget.
            timeout: seconds that `take` waits by default.
            what: what the bytes are for, in error messages, such as "the request".
        """
        self._left = max_bytes
        self._reserve = max_bytes // 4
        #: Seconds that `take` waits by default.
        self.timeout = timeout
        self._what = what
        self._held: dict[str, int] = {}
        #: The waiting claims of each caller, oldest first. The caller whose turn is next is first.
        self._waiting: dict[str, deque[_Claim]] = {}
        #: How many refusable claims wait: in all, and of each caller that has any.
        self._refusable_count = 0
        self._refusable: Counter[str] = Counter()

    @property
    def waiting(self) -> list[str]:
        """The callers with waiting claims, those that hold nothing first."""
        return sorted(self._waiting, key=self.holds)

    def holds(self, caller: str) -> bool:
        """Returns whether a caller holds any bytes."""
        return caller in self._held

    def take_now(self, caller: str, size: int) -> bool:
        """Take bytes without waiting. Returns whether they were taken.

        They are not if there is no room, or if the caller holds bytes while any claim waits.
        """
        held = self._held.get(caller, 0)
        if (held and self._waiting) or not self._fits(held, size):
            return False
        self._left -= size
        self._held[caller] = held + size
        return True

    async def take(self, caller: str, size: int, timeout: float | None = None) -> None:
        """Take bytes, waiting for them if needed. Takes nothing when cancelled.

        Args:
            caller: the caller's fairness key.
            size: the number of bytes.
            timeout: seconds to wait; None: the budget's default; math.inf: no limit, and the claim
                is never refused, however many wait.

        Raises:
            StoreBusy: there was no room in time; or too many claims wait, and this caller has the
                most of them. Never with `math.inf`.
        """
        if self.take_now(caller, size):
            return
        seconds = self.timeout if timeout is None else timeout
        refusable = seconds < math.inf
        if refusable and self._refusable_count >= MAX_WAITING:
            self._refuse_one(caller)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        claim = _Claim(caller, size, turn, refusable)
        self._waiting.setdefault(caller, deque()).append(claim)
        self._count(claim, 1)
        try:
            async with asyncio.timeout(seconds if refusable else None):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give(caller, size)
            else:
                self._withdraw(claim)
            if isinstance(error, TimeoutError):
                raise StoreBusy(f"there was no room for {self._what} in time") from None
            raise

    def give(self, caller: str, size: int) -> None:
        """Release bytes that a caller holds."""
        self.change(caller, -size)

    def change(self, caller: str, size: int) -> None:
        """Add `size` bytes, which may be negative, to what a caller holds, even without room."""
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
        """Grant waiting claims that fit, round-robin over callers."""
        served = True
        while served:
            served = False
            for caller, queue in list(self._waiting.items()):
                while queue and queue[0].turn.cancelled():
                    self._dequeue(queue, queue[0])
                if queue and not self._fits(self._held.get(caller, 0), queue[0].size):
                    continue
                del self._waiting[caller]
                if queue:
                    claim = queue[0]
                    self._dequeue(queue, claim)
                    self.change(caller, claim.size)
                    claim.turn.set_result(None)
                    served = True
                if queue:  # at the end, so that the other callers are next
                    self._waiting[caller] = queue

    def _refuse_one(self, caller: str) -> None:
        """Refuse the newest claim of the caller with the most, in favour of a claim of `caller`.

        Only refusable claims count. Raises StoreBusy if, with the new claim, `caller` itself has
        the most.
        """
        ((most, count),) = self._refusable.most_common(1)
        error = StoreBusy(f"too many calls wait for room for {self._what}")
        if count <= self._refusable[caller] + 1:
            raise error
        queue = self._waiting[most]
        claim = next(claim for claim in reversed(queue) if claim.refusable)
        self._dequeue(queue, claim)
        if not claim.turn.done():
            claim.turn.set_exception(error)

    def _withdraw(self, claim: _Claim) -> None:
        queue = self._waiting.get(claim.caller)
        if queue is None or claim not in queue:
            return  # it was granted or refused
        self._dequeue(queue, claim)
        if not queue:
            del self._waiting[claim.caller]

    def _dequeue(self, queue: deque[_Claim], claim: _Claim) -> None:
        queue.remove(claim)
        self._count(claim, -1)

    def _count(self, claim: _Claim, change: int) -> None:
        """Count a claim that begins to wait (1) or no longer waits (-1)."""
        if claim.refusable:
            self._refusable_count += change
            self._refusable[claim.caller] += change
            if not self._refusable[claim.caller]:
                del self._refusable[claim.caller]
