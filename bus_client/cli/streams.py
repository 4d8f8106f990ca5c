"""The standard streams as the shell left them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import click


def open_standard_streams() -> None:
    """Opens what the shell closed of stdin and stderr, and the descriptors of all three.

    Else the next file or socket would take such a number, and what gRPC has to say on stderr would
    be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def discard_stdout() -> None:
    """Sends what is still buffered nowhere: it cannot be written, and Python would complain."""
    _discard(sys.stdout)


def complain(text: str) -> None:
    """Writes a line to stderr. If that cannot be written, the exit code has to say it all."""
    try:
        click.echo(text, err=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
