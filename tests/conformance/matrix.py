"""The matrix of docs/conformance.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.cases import Case
from tests.conformance.mixed import MIXED, MIXED_TITLE

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of a case in a language. `problem` is empty if it passed."""

    language: str
    case: str
    problem: str = ""


#: Titles of the columns.
TITLES = {
    "python-async": "Python, asyncio",
    "python-sync": "Python",
    "go": "Go",
    "typescript": "TypeScript",
    "java": "Java",
    "rust": "Rust",
}

_HEAD = """\
# Conformance

What a client can rely on, tested in each language with its generated stubs and the small client \
in [`clients/`](../clients) ([`bus_client`](sdk.md) in Python), against real servers that are \
killed, frozen, drained and disconnected. `scripts/conformance` runs all of it on your machine and \
reports the languages that it skips because their toolchain is missing. This page was written by \
`scripts/conformance --write`.

✓ passed · **✗** failed · – not run, or not applicable
"""

_FOOT = """
The cases are data: [`tests/conformance/cases`](../tests/conformance/cases). \
[`tests/conformance`](../tests/conformance) describes what the driver of a new language does, and \
[clients.md](clients.md) what its client has to get right.

`scripts/conformance breaks` checks that the cases can fail: it breaks rules in a copy of the \
server, one after the other (order, deduplication, endings, resync, removed messages, error \
details, hidden messages, sizes, notices, closed requests), and checks that the right cases \
fail, in every language, and no others.
"""


def rows(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """Return name and title of each row."""
    return [*((case.name, case.title) for case in cases), (MIXED, MIXED_TITLE)]


def page(cases: Sequence[Case], cells: Sequence[Cell]) -> str:
    """Return the page: a row for each case, a column for each language."""
    names = list(dict.fromkeys(cell.language for cell in cells))
    found = {(cell.case, cell.language): cell for cell in cells}

    def mark(case: str, language: str) -> str:
        cell = found.get((case, language))
        return "–" if cell is None else "**✗**" if cell.problem else "✓"

    titles = " | ".join(TITLES.get(name, name) for name in names)
    table = [f"| | | {titles} |", f"| --- | --- |{' :-: |' * len(names)}"]
    for name, title in rows(cases):
        marks = " | ".join(mark(name, language) for language in names)
        table.append(f"| `{name}` | {title} | {marks} |")
    return "\n".join([_HEAD, *table, _FOOT])
