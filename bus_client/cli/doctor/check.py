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
    """The result of a check."""

    name: str
    """The subject of the check, in a word or two. Stable across runs and releases."""
    status: Literal["ok", "warning", "failure", "skipped"]
    """Warning: worth knowing. Failure: broken or unsafe. Skipped: could not be checked."""
    finding: str
    """What was found."""
    advice: str = ""
    """What to do about the finding. Empty if the status is ok."""

    def lines(self, *, colour: bool) -> Iterator[str]:
        """Yields the check as human-readable lines."""
        status = f"{self.status:7}"
        if colour:
            status = click.style(status, fg=_COLOURS[self.status])
        yield f"{status}  {self.name:11}  {safe(self.finding)}"
        if self.advice:
            yield f"{_INDENT}{safe(self.advice)}"
