"""The matrix of docs/conformance.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.cases import Case

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@dataclass(frozen=True, slots=True)
class Cell:
    """How a case went in a language."""

    language: str
    case: str
    problem: str = ""


def page(cases: Sequence[Case], cells: Sequence[Cell]) -> str:
    """The page: each case a row, each language a column."""
    names = list(dict.fromkeys(cell.language for cell in cells))
    found = {(cell.case, cell.language): cell for cell in cells}

    def mark(case: str, language: str) -> str:
        cell = found.get((case, language))
        return "–" if cell is None else "**✗**" if cell.problem else "✓"

    rows = [
        f"| {case.title} | {' | '.join(mark(case.name, name) for name in names)} |"
        for case in cases
    ]
    head = [f"| | {' | '.join(names)} |", f"| --- |{' :-: |' * len(names)}"]
    return "\n".join([*head, *rows]) + "\n"
