"""Histograms in memory: counts of values by size."""

import math
from bisect import bisect_left
from collections.abc import Sequence

#: The first digits of the bounds of times. Each is at most 1.2 times the one before.
_DIGITS = (1.0, 1.2, 1.4, 1.6, 1.9, 2.2, 2.5, 3.0, 3.5, 4.2, 5.0, 6.0, 7.0, 8.4)
#: Upper bounds of times, in seconds: from 10 µs to 1,000 s, each at most 1.2 times the one before.
TIMES = (*(round(d * 10.0**e, 9) for e in range(-5, 3) for d in _DIGITS), 1_000.0)


class Histogram:
    """Counts of values, by the lowest bound that is not less than the value.

    One thread observes. Others may read while it does: `counts` and `sum` are then those of a
    moment, but perhaps not of the same one.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: ascending."""
        self.bounds = bounds
        #: The last one is of the values that are greater than all bounds.
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value. Takes about 0.2 µs."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """Returns the bound below or at which this share of the values is; 0 if there are none.

    It is the bound of a value that was observed. The highest bound if that value was greater.
    """
    rank, seen = max(math.ceil(sum(counts) * share), 1), 0
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen >= rank:
            return bound
    return bounds[-1] if any(counts) else 0.0
