"""The file that says up to which seq of which threads an agent was notified of messages."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from threadbus.limits import SEQ_LIMIT
from threadbus.names import THREAD

#: By thread: its epoch, and the seq up to which the agent was notified of its messages.
Positions: TypeAlias = Mapping[str, tuple[str, int]]

_MOST_THREADS = 1_000  # those notified of longest ago are dropped
_MOST_BYTES = 1_000_000  # more than that many threads take
_POLL = 0.01  # seconds between two attempts to lock


class Notified:
    """The file of one agent at one server.

    A missing or damaged file counts as empty, and is replaced.
    """

    def __init__(self, folder: Path, agent: str) -> None:
        self._path = folder / f"{agent}.json"

    def read(self) -> Positions:
        """Returns what the agent was notified of. Empty if the file cannot be read."""
        try:
            # O_NONBLOCK: opening a FIFO must not block.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return {}
                content = json.loads(file.read(_MOST_BYTES))
            return dict(_entries(content))
        except (OSError, ValueError, RecursionError):
            return {}

    def update(self, change: Callable[[Positions], Positions], *, until: float) -> None:
        """Replace what is in the file by what `change` returns for it, atomically.

        No other update of an agent of this server runs at the same time.

        Args:
            change: Called once, with the file locked. Returns the threads that have changed.
            until: When to stop waiting for another process's lock, on the monotonic clock.

        Raises:
            OSError: The file cannot be written. TimeoutError: or locked in time.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._path.parent, until):
            before = self.read()
            changed = change(before)
            if not changed:
                return
            kept = {name: place for name, place in before.items() if name not in changed}
            newest = list((kept | dict(changed)).items())[-_MOST_THREADS:]
            threads = {name: {"epoch": epoch, "told": seq} for name, (epoch, seq) in newest}
            self._replace(json.dumps({"threads": threads}))

    def _replace(self, content: str) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f"{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            Path(name).replace(self._path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def _entries(content: object) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yields the valid entries of the file's JSON."""
    threads = content.get("threads") if isinstance(content, dict) else None
    for name, place in threads.items() if isinstance(threads, dict) else ():
        if not isinstance(place, dict) or not THREAD.fullmatch(name):
            continue
        epoch, notified = place.get("epoch"), place.get("told")
        if isinstance(epoch, str) and type(notified) is int and 0 <= notified < SEQ_LIMIT:
            yield name, (epoch, notified)


@contextmanager
def _locked(folder: Path, until: float) -> Iterator[None]:
    """Context manager that locks the folder. Raises TimeoutError if that takes too long."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TimeoutError(errno.ETIMEDOUT, "locked", str(folder)) from None
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)
