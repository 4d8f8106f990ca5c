"""The lock under which servers write to a store's file and checkpoint it, one at a time."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from bus_server.errors import StoreBusy

#: Seconds between two looks whether it is our turn to write.
TURN = 0.0005


class WriteLock:
    """An exclusive flock on FILE-writer.

    SQLite's own lock suffices for correctness, but its waiters sleep for up to 0.1 s at a time:
    with two busy servers on a file the slowest posts took twice as long.
    """

    def __init__(self, path: Path, patience: float) -> None:
        """`path`: the database file. `patience`: seconds to wait for the lock. Raises OSError."""
        self.path = Path(f"{path}-writer")
        self._patience = patience
        self.descriptor = self._open()

    def _open(self) -> int:
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.path, how, 0o600)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Raises StoreBusy.

        Asked for again and again, and not waited for in the kernel, which knows no time limit: a
        server that hangs with the lock in hand must not hang the others.
        """
        give_up = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise StoreBusy("another server on this file hangs, or is slow") from None
                time.sleep(TURN)
        try:
            yield
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def reopen(self) -> bool:
        """Open the file again if another one, or none, is at its path. Returns whether it did.

        All servers must lock the same file; until they do, SQLite's own lock holds. Raises OSError
        if the file cannot be opened.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.path.lstat(), os.fstat(self.descriptor)):
                return False
        opened = self._open()
        self.close()
        self.descriptor = opened
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)
