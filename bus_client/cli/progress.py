"""How far a long verb is, for whoever watches it on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from bus_client.cli.output import Output


@contextmanager
def progress(
    out: Output, what: str, *, length: int, shown: bool = True
) -> Iterator[Callable[[int], object]]:
    """Shows a bar on stderr, if that is a terminal; yields what to call with each step's size."""
    if not shown or out.json or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=what, file=sys.stderr) as bar:
        yield bar.update
