"""Progress bars for long-running verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from bus_client.cli.output import Output


@contextmanager
def progress(
    out: Output, label: str, *, length: int, shown: bool = True
) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on stderr, if it is a terminal and the output is not JSON.

    Yields a function to call with the size of each step; the sizes add up to `length`.
    """
    if not shown or out.json or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
