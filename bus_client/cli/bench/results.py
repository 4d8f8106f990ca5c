"""Results of benchmarks: figures, counts, and how they are shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import click


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one benchmark."""

    name: str
    """The name of the benchmark, as in --only."""
    what: str
    """What was measured, in a few words."""
    figures: dict[str, float]
    """The measurements by name. Each name ends in the unit."""
    count: int
    """How many messages should have arrived."""
    lost: int
    """How many of them did not arrive."""
    duplicated: int
    """How many arrived again, or without having been acknowledged as posted."""

    @property
    def sound(self) -> bool:
        """Whether each message arrived exactly once."""
        return not self.lost and not self.duplicated

    def document(self) -> dict[str, object]:
        """Returns the result as a JSON document."""
        return {
            "name": self.name,
            "what": self.what,
            **{name: _rounded(value) for name, value in self.figures.items()},
            "count": self.count,
            "lost": self.lost,
            "duplicated": self.duplicated,
        }

    def lines(self, *, colour: bool) -> Iterator[str]:
        """Yields the result as human-readable lines."""
        figures = " · ".join(_formatted(name, value) for name, value in self.figures.items())
        yield f"{self.name:8}  {figures}"
        arrived = f"{self.lost:,} lost, {self.duplicated:,} duplicated of {self.count:,}"
        if colour and not self.sound:
            arrived = click.style(arrived, fg="red")
        yield f"{'':8}  {self.what}; {arrived}"


@dataclass(slots=True)
class Tally:
    """A count of the message numbers that a reader received."""

    got: Counter[int] = field(default_factory=Counter)

    def lost(self, wanted: Iterable[int]) -> int:
        """Returns how many of the wanted numbers were never received."""
        return sum(number not in self.got for number in wanted)

    def duplicated(self) -> int:
        """Returns how many numbers were received again, counting every repetition."""
        return self.got.total() - len(self.got)


def content(number: int, size: int) -> str:
    """Returns a text of `size` bytes that contains the message's number."""
    return str(number).ljust(size, ".")


def number_of(text: str) -> int:
    """Returns the number at the start of a text of content(); -1 if there is none."""
    digits = text[:20].partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def times(seconds: Sequence[float]) -> dict[str, float]:
    """Returns the median and 99th percentile of times in seconds, as `p50_ms` and `p99_ms`.

    Both are nan if there are no times.
    """
    ordered = sorted(seconds)
    return {f"p{part}_ms": percentile(ordered, part) * 1e3 for part in (50, 99)}


def percentile(ordered: Sequence[float], part: float) -> float:
    """Returns the `part`-th percentile of sorted values (nearest rank); nan if there are none."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(len(ordered) * part / 100) - 1, 0)]


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def _formatted(name: str, value: float) -> str:
    """Returns a figure with its unit, such as `p50 1.20 ms`."""
    if name == "posts_per_s":
        return f"{value:,.0f} posts/s"
    part, _, unit = name.rpartition("_")
    return f"{part} {value:,.2f} {unit}"
