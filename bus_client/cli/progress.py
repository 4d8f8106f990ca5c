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
    """Yields a function that advances a progress bar on stderr by the number given.

    The numbers add up to `length`. There is no bar unless `shown` is set, stderr is a terminal, and
    the output is not JSON.
    """
    if not shown or out.json or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
