"""The result of one check of `threadbus doctor`."""

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
    """What was checked, and what was found."""

    name: str
    """What was checked, in a word or two. Stable between runs and releases."""
    status: Literal["ok", "warning", "failure", "skipped"]
    """A warning should be known; a failure does not work or is unsafe; what was skipped could not
    be checked."""
    finding: str
    """What was found."""
    advice: str = ""
    """What to do about it, in a sentence. Empty if the status is ok."""

    def lines(self, *, colour: bool) -> Iterator[str]:
        """Yield the check as lines for people."""
        status = f"{self.status:7}"
        if colour:
            status = click.style(status, fg=_COLOURS[self.status])
        yield f"{status}  {self.name:11}  {safe(self.finding)}"
        if self.advice:
            yield f"{_INDENT}{safe(self.advice)}"
