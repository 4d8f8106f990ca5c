"""The matrix: what was found out about each host, as Markdown."""

from __future__ import annotations

from checks import Report
from hosts import RUNNERS

#: Columns of the matrix: the key of a check, and its heading.
COLUMNS = {
    "bridge": "bridge starts",
    "tools": "tools",
    "woken": "woken by a message",
    "read": "each message once",
    "instructions": "instructions reach the model as",
    "goodbye": "says goodbye",
    "session-start": "at the start",
    "post-tool": "after a tool",
    "stop": "at the stop",
    "wait": "woken while it stops",
    "once": "each once",
    "session-end": "at the end",
    "talks": "talks",
}


def matrix(reports: list[Report]) -> str:
    """Returns the table of all hosts, and what is wrong below it."""
    lines = [
        f"| host | version | {' | '.join(COLUMNS.values())} |",
        "| --- " * (len(COLUMNS) + 2) + "|",
    ]
    for report in reports:
        cells = [report.cells.get(key, "–") for key in COLUMNS]
        version = report.version or "not installed"
        lines.append(" | ".join([f"| {RUNNERS[report.name].title}", version, *cells]) + " |")
    faults = [
        f"- {RUNNERS[report.name].title}: {' '.join(fault.split())}"
        for report in reports
        for fault in report.faults
    ]
    return "\n".join([*lines, *(["", *faults] if faults else [])])
