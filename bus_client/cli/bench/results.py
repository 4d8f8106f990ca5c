"""What `threadbus bench` measures, counts, and tells."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import click


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one benchmark found."""

    name: str
    """Which benchmark, as in --only."""
    what: str
    """What was done, in a few words."""
    figures: dict[str, float]
    """What was measured; the unit is the end of each name."""
    count: int
    """How many messages were to arrive, over all readers."""
    lost: int
    """Of those, how many did not."""
    duplicated: int
    """How many arrived that had arrived before, or that nobody was told of as posted."""

    @property
    def sound(self) -> bool:
        """Whether each arrived once."""
        return not self.lost and not self.duplicated

    def document(self) -> dict[str, object]:
        """The result as JSON."""
        return {
            "name": self.name,
            "what": self.what,
            **{name: _rounded(value) for name, value in self.figures.items()},
            "count": self.count,
            "lost": self.lost,
            "duplicated": self.duplicated,
        }

    def lines(self, *, colour: bool) -> Iterator[str]:
        """The result as a person reads it."""
        figures = " · ".join(_told(name, value) for name, value in self.figures.items())
        yield f"{self.name:8}  {figures}"
        arrived = f"{self.lost:,} lost, {self.duplicated:,} duplicated of {self.count:,}"
        if colour and not self.sound:
            arrived = click.style(arrived, fg="red")
        yield f"{'':8}  {self.what}; {arrived}"


@dataclass(slots=True)
class Tally:
    """Which numbers one reader got, and which it should have got."""

    got: Counter[int] = field(default_factory=Counter)

    def lost(self, wanted: Iterable[int]) -> int:
        """How many of these numbers never came."""
        return sum(number not in self.got for number in wanted)

    def duplicated(self) -> int:
        """How many came again."""
        return self.got.total() - len(self.got)


def content(number: int, size: int) -> str:
    """A text of `size` bytes that says which message it is."""
    return str(number).ljust(size, ".")


def number_of(text: str) -> int:
    """The number that content() wrote; -1 in a text that is none of ours."""
    digits = text[:20].partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def times(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile of times in seconds, as figures in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{part}_ms": percentile(ordered, part) * 1e3 for part in (50, 99)}


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that `part` per cent of the ordered values do not exceed; nan of none."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(len(ordered) * part / 100) - 1, 0)]


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def _told(name: str, value: float) -> str:
    """A figure with its unit, such as `p50 1.2 ms`."""
    if name == "posts_per_s":
        return f"{value:,.0f} posts/s"
    part, _, unit = name.rpartition("_")
    return f"{part} {value:,.2f} {unit}"
