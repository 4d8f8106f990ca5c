"""Output of verbs: data goes to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bus_client.cli.streams import print_stderr
from bus_client.cli.text import dumps, safe


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a verb: JSON if `json` is set, otherwise human-readable lines."""

    json: bool

    @property
    def colour(self) -> bool:
        """Whether to colour text: stdout is a terminal, and the user has not disabled colours."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return sys.stdout.isatty() and not plain

    def show(self, document: object, lines: Iterable[str]) -> None:
        """Print the document as one line of JSON, or else the lines, to stdout, and flush it.

        Raises:
            OSError: stdout cannot be written.
        """
        for line in [dumps(document)] if self.json else lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a line that is not data to stderr, made safe. No-op if the output is JSON."""
        if not self.json:
            print_stderr(safe(text))


@contextmanager
def stop_when_stdout_closes() -> Iterator[None]:
    """Cancel the block and raise BrokenPipeError as soon as the reader of stdout has gone.

    Otherwise `tail | head` would keep running until the next message. No-op unless stdout is a
    pipe. Must be entered in a task.
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

    # The write end of a pipe becomes readable when the read end is closed.
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
