"""What a run found: criteria with their goals, figures, faults."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that a goal asks for, and what was measured, round by round."""

    what: str
    goal: float
    at_least: bool
    """Whether more is better."""
    unit: str
    values: Sequence[float]

    @property
    def reached(self) -> bool:
        """Whether the median is good enough."""
        middle = median(self.values)
        return middle >= self.goal if self.at_least else middle <= self.goal


@dataclass(slots=True)
class Outcome:
    """What became of one goal."""

    goal: str
    work: str
    criteria: list[Criterion] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Name with unit → what was measured in each round."""
    faults: dict[str, Counter[str]] = field(default_factory=dict)
    """System → sent, lost, duplicated, failed."""
    series: dict[str, Any] = field(default_factory=dict)
    """What plots are made of."""
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """One more round's figure."""
        self.figures.setdefault(name, []).append(value)

    def count(self, system: str, **counts: int) -> None:
        """Messages of a system: sent, lost, duplicated, failed."""
        self.faults.setdefault(system, Counter()).update(counts)

    def judge(
        self, what: str, goal: float, values: Sequence[float], *, at_least: bool, unit: str = "×"
    ) -> None:
        """Holds what was measured against a goal; nothing if it could not be measured."""
        if values:
            self.criteria.append(Criterion(what, goal, at_least, unit, list(values)))
        else:
            self.notes.append(f"“{what}” was not measured.")

    def ratio(self, over: str, under: str) -> list[float]:
        """The ratio of two figures, round by round."""
        return ratios(self.figures.get(over, []), self.figures.get(under, []))

    def document(self) -> dict[str, Any]:
        """As JSON."""
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
        }


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Pair by pair."""
    return [a / b for a, b in zip(over, under, strict=False) if b]


def median(values: Sequence[float]) -> float:
    """The middle value; nan of none."""
    return statistics.median(values) if values else math.nan


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that `part` per cent of the values do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * part / 100) - 1, 0)] if ordered else math.nan


def unfaulty(outcomes: Sequence[Mapping[str, Any]], system: str = "ThreadBus") -> bool:
    """Whether a system lost, doubled and refused nothing."""
    return not any(
        outcome["faults"].get(system, {}).get(fault, 0)
        for outcome in outcomes
        for fault in ("lost", "duplicated", "failed")
    )
