"""gRPC does not survive fork(): calls in a forked process raise instead of hanging or crashing."""

from __future__ import annotations

import os

FORKED = (
    "This process was forked from one with a BusClient, and gRPC cannot be forked: start it with "
    "the method `spawn`, or fork before the first client connects."
)

#: The process that opened the first channel; None before. A forked process inherits it.
_process: int | None = None


def opening_channel() -> None:
    """To be called before a channel is opened. Raises as refuse_fork() does."""
    global _process
    refuse_fork()
    _process = os.getpid()


def refuse_fork() -> None:
    """Raises RuntimeError in a process that was forked from one that had opened a channel.

    Even if all of them are closed: gRPC's threads are not in this process, its locks may be held.
    """
    if forked():
        raise RuntimeError(FORKED)


def forked() -> bool:
    """Whether this process was forked from one that had opened a channel."""
    return _process not in (None, os.getpid())
