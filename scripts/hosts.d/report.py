"""The matrix: what was found out about each host, as Markdown."""

from __future__ import annotations

from checks import Report
from hosts import RUNNERS

#: Rows of the matrix: the key of a check, and what is checked.
ROWS = {
    "bridge": "the host starts the bridge and offers its tools",
    "tools": "each of the tools works; the model calls it",
    "woken": "a message wakes an agent that waits",
    "read": "each message is returned once",
    "instructions": "the instructions reach the model as",
    "goodbye": "the agent is offline when the host ends",
    "session-start": "session-start hook: the notice reaches the model as",
    "post-tool": "post-tool hook",
    "stop": "stop hook",
    "wait": "stop hook with `--wait`, of a message that comes later",
    "once": "each message keeps it from stopping once",
    "session-end": "session-end hook: it runs, and the agent is offline",
    "talks": "it converses with another host, to the end",
}


def matrix(reports: list[Report]) -> str:
    """Returns the table, with a column for each host, and what is wrong below it."""
    titles = [RUNNERS[report.name].title for report in reports]
    versions = [report.version or "not installed" for report in reports]
    heads = [f"{title} {version}" for title, version in zip(titles, versions, strict=True)]
    lines = [_line("", *heads), _line(*["---"] * (len(heads) + 1))]
    for key, what in ROWS.items():
        lines.append(_line(what, *(report.cells.get(key, "–") for report in reports)))
    faults = [
        f"- {title}: {' '.join(fault.split())}"
        for title, report in zip(titles, reports, strict=True)
        for fault in report.faults
    ]
    return "\n".join([*lines, *(["", *faults] if faults else [])])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
