"""What `threadbus doctor` looked at, one by one, and what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import click

from bus_client.cli.text import safe

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "blue"}
_INDENT = " " * len("skipped  file system  ")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What it is, in a word or two; the same from run to run."""
    status: Literal["ok", "warning", "failure", "skipped"]
    """A warning is something to know of; a failure is something that does not work, or is unsafe;
    what was skipped could not be looked at."""
    finding: str
    """What was seen."""
    advice: str = ""
    """What to do next, in a sentence. Empty if all is well."""

    def lines(self, *, colour: bool) -> Iterator[str]:
        """The check as a person reads it."""
        status = f"{self.status:7}"
        if colour:
            status = click.style(status, fg=_COLOURS[self.status])
        yield f"{status}  {self.name:11}  {safe(self.finding)}"
        if self.advice:
            yield f"{_INDENT}{safe(self.advice)}"
