"""Where a verb's words go: data to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bus_client.cli.streams import complain
from bus_client.cli.text import dumps, safe


@dataclass(frozen=True, slots=True)
class Output:
    """Prints for a program if `json` is set, else for a person."""

    json: bool

    @property
    def colour(self) -> bool:
        """Whether to colour text."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return sys.stdout.isatty() and not plain

    def show(self, document: object, lines: Iterable[str]) -> None:
        """Prints the document or the lines, and returns when they have left this process."""
        for line in [dumps(document)] if self.json else lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Says something in a line that is not data, to people only."""
        if not self.json:
            complain(safe(text))


@contextmanager
def while_read() -> Iterator[None]:
    """Ends the block with BrokenPipeError as soon as nobody reads stdout any more.

    Else a `tail | head` would live on until there is something to print.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    descriptor = sys.stdout.fileno()
    if task is None or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        yield
        return
    closed = False

    def close() -> None:
        nonlocal closed
        closed = True
        loop.remove_reader(descriptor)
        task.cancel()

    # The end of a pipe that is written to becomes readable when the other end is closed.
    loop.add_reader(descriptor, close)
    try:
        yield
    except asyncio.CancelledError:
        if not closed:
            raise
        task.uncancel()
        raise BrokenPipeError from None
    finally:
        loop.remove_reader(descriptor)
