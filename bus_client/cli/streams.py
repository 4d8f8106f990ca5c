"""Handles standard streams that the shell has closed, and failed writes to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import click


def open_standard_streams() -> None:
    """Open stdin and stderr on /dev/null if they are closed, and reserve descriptors 0 to 2.

    Otherwise the next file or socket would get one of these descriptors, and gRPC's messages on
    stderr would be written into it. sys.stdout stays None if it is closed: see main().
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def discard_stdout() -> None:
    """Redirect stdout to /dev/null after a failed write, so that Python's final flush succeeds."""
    _discard(sys.stdout)


def print_stderr(text: str) -> None:
    """Print a line to stderr. A failed write is ignored, and does not change the exit code."""
    try:
        click.echo(text, err=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
