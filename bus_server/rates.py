"""How often callers may post, and how many threads and agents they may create.

Token buckets: so many events at once, and as many again, evenly, over each period. A window of time
that slides would admit as many, but a caller that used it up in a burst would then be refused until
the burst is a whole period old, instead of for one event's share of it.

All of this is counted in memory, by each server for itself.
"""

import math
from collections import OrderedDict

from bus_server.errors import QuotaExceeded, RateLimited

#: In nanoseconds.
_SECOND = 1_000_000_000
_MINUTE, _DAY = 60 * _SECOND, 86_400 * _SECOND


class Buckets:
    """Token buckets, one for each key. Times are in nanoseconds, on the monotonic clock.

    A bucket is kept as the time at which it will be full again (the generic cell rate algorithm),
    and forgotten once it is full.
    """

    def __init__(self, limit: int, period: int) -> None:
        """`limit`: the tokens of a full bucket, which an empty one gets back in `period`."""
        self._share = period // limit
        self._capacity = self._share * limit
        #: By key, the bucket that was changed longest ago first.
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_time(self, key: str, now: int) -> int:
        """Returns how long it takes until there is a token. 0: there is one."""
        return max(self._full_at.get(key, now) - now + self._share - self._capacity, 0)

    def take(self, key: str, now: int) -> None:
        """Take a token. Call it only if there is one."""
        full_at = self._full_at
        full_at[key] = max(full_at.get(key, now), now) + self._share
        full_at.move_to_end(key)
        # Forget two for each one that was added, so that full ones do not accumulate. The first is
        # full at the latest one period after its last change.
        for _ in range(2):
            first = next(iter(full_at))
            if full_at[first] > now:
                return
            del full_at[first]

    def give_back(self, key: str) -> None:
        """Return a token that was taken."""
        if key in self._full_at:
            self._full_at[key] -= self._share


class PostRates:
    """Limits the posts of each caller, and those to each thread."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._callers = Buckets(per_minute, _MINUTE)
        self._threads = Buckets(per_minute, _MINUTE)

    def __len__(self) -> int:
        """Returns how many callers and threads it remembers."""
        return len(self._callers) + len(self._threads)

    def admit(self, caller: str, thread: str, now: int) -> None:
        """Count a post. Raises RateLimited, and counts nothing, if it is one too many.

        All posts of a batch must be given the same time: otherwise one could be admitted after an
        earlier one to the same thread was refused.

        Args:
            caller: the caller's fairness key.
            thread: the name of the thread, which need not exist.
            now: the time on the monotonic clock, in nanoseconds.
        """
        by_caller = self._callers.wait_time(caller, now)
        to_thread = self._threads.wait_time(thread, now)
        if by_caller or to_thread:
            whose = "of one caller" if by_caller >= to_thread else "to one thread"
            raise RateLimited(whose, self.per_minute, max(by_caller, to_thread) / _SECOND)
        self._callers.take(caller, now)
        self._threads.take(thread, now)

    def give_back(self, caller: str, thread: str) -> None:
        """Do not count a post that was admitted: it had been posted before."""
        self._callers.give_back(caller)
        self._threads.give_back(thread)


class Quota:
    """Limits how many things, such as threads, each caller may create.

    Times are in nanoseconds, on the monotonic clock.
    """

    def __init__(self, things: str, limit: int) -> None:
        """
        Args:
            things: what is created, in the plural.
            limit: how many a caller may create at once, and again over each day.
        """
        self._things = things
        self.limit = limit
        self._buckets = Buckets(limit, _DAY)

    def take(self, caller: str, now: int) -> bool:
        """Count one thing that a caller creates. Returns False, and counts nothing, if it is one
        too many.
        """
        if self._buckets.wait_time(caller, now):
            return False
        self._buckets.take(caller, now)
        return True

    def give_back(self, caller: str) -> None:
        """Do not count a thing that was not created after all."""
        self._buckets.give_back(caller)

    def exceeded(self, caller: str, now: int) -> QuotaExceeded:
        """Returns the error for one too many."""
        minutes = math.ceil(self._buckets.wait_time(caller, now) / _MINUTE)
        rest = f"{minutes} min" if minutes < 120 else f"{math.ceil(minutes / 60)} h"
        return QuotaExceeded(
            f"new {self._things} of one caller",
            self.limit,
            f"use those that there are; the next is possible in {rest}",
        )


def renewed_quota(before: Quota | None, things: str, limit: int) -> Quota | None:
    """Returns a quota with this limit; None: there is no limit (0).

    It is `before`, with all that it has counted, if that has the same limit.
    """
    if before is not None and before.limit == limit:
        return before
    return Quota(things, limit) if limit else None
