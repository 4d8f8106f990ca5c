"""The results of a run: criteria with their goals, figures, and faults."""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of a goal, with the value measured in each round."""

    what: str
    goal: float
    at_least: bool
    """Whether a higher value is better."""
    unit: str
    values: Sequence[float]

    @property
    def reached(self) -> bool:
        """Whether the median reaches the goal."""
        middle = median(self.values)
        return middle >= self.goal if self.at_least else middle <= self.goal


@dataclass(slots=True)
class Outcome:
    """The results for one goal."""

    goal: str
    work: str
    criteria: list[Criterion] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Name with unit → the values, one per round."""
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    """System → counts of sent, lost, duplicated and failed messages."""
    series: dict[str, Any] = field(default_factory=dict)
    """The data of the plots."""
    notes: list[str] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    """What disturbed each load; see disturbance.py."""
    measured_in: dict[str, list[int | None]] = field(default_factory=dict)
    """Name with unit → the load of each value: its place in `loads`, or None."""
    _round: int = 0
    _load: int | None = None

    def rounds(self, count: int, *, warm_up: bool = True) -> Iterator[tuple[int, "Outcome"]]:
        """Yields the number of each round, from 1, and the outcome that records it.

        `warm_up`: begins with round 0, which is recorded in an outcome that is thrown away.
        """
        for number in range(0 if warm_up else 1, count + 1):
            self._round = number
            yield number, self if number else Outcome("", "")
        self._round = 0

    @contextlib.contextmanager
    def load(self) -> Iterator[dict[str, Any]]:
        """Yields the properties of a load. Values added in this context are of that load."""
        if self._load is not None:
            raise RuntimeError("a load within a load")
        self._load = len(self.loads)
        self.loads.append({"round": self._round})
        try:
            yield self.loads[-1]
        finally:
            self._load = None

    def add(self, name: str, value: float) -> None:
        """Add the value of one round to a figure."""
        self.figures.setdefault(name, []).append(value)
        self.measured_in.setdefault(name, []).append(self._load)

    def count(self, system: str, **counts: int) -> None:
        """Add to a system's counts: sent, lost, duplicated, failed."""
        self.faults.setdefault(system, Counter()).update(counts)

    def judge(
        self, what: str, goal: float, values: Sequence[float], *, at_least: bool, unit: str = "×"
    ) -> None:
        """Add a criterion or, if there are no values, a note that it was not measured."""
        if values:
            self.criteria.append(Criterion(what, goal, at_least, unit, list(values)))
        else:
            self.notes.append(f'"{what}" was not measured.')

    def ratio(self, over: str, under: str) -> list[float]:
        """Returns the ratio of two figures, one value per round."""
        return ratios(self.figures.get(over, []), self.figures.get(under, []))

    def document(self) -> dict[str, Any]:
        """Returns the results as JSON."""
        return {
            "goal": self.goal,
            "work": self.work,
            "criteria": [
                {
                    "what": criterion.what,
                    "goal": criterion.goal,
                    "at_least": criterion.at_least,
                    "unit": criterion.unit,
                    "values": list(criterion.values),
                    "median": median(criterion.values),
                    "reached": criterion.reached,
                }
                for criterion in self.criteria
            ],
            "figures": self.figures,
            "faults": {system: dict(counts) for system, counts in self.faults.items()},
            "series": self.series,
            "notes": self.notes,
            "loads": self.loads,
            "measured_in": self.measured_in,
        }


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Returns the ratio of each pair, except where the divisor is 0."""
    return [a / b for a, b in zip(over, under, strict=False) if b]


def median(values: Sequence[float]) -> float:
    """Returns the median; nan if there are no values."""
    return statistics.median(values) if values else math.nan


def percentile(values: Sequence[float], part: float) -> float:
    """Returns the nearest-rank percentile; nan if there are no values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * part / 100) - 1, 0)] if ordered else math.nan


def unfaulty(outcomes: Sequence[Mapping[str, Any]], system: str = "ThreadBus") -> bool:
    """Returns whether a system neither lost, duplicated nor refused any message."""
    return not any(
        outcome["faults"].get(system, {}).get(fault, 0)
        for outcome in outcomes
        for fault in ("lost", "duplicated", "failed")
    )
