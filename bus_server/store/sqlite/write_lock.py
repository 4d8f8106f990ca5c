"""The lock under which servers write to a store's file and checkpoint it, one at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreBusy

#: Seconds between two attempts to get the lock.
POLL_INTERVAL = 0.0005


class WriteLock:
    """An exclusive flock on FILE-writer.

    SQLite's own lock is enough for correctness, but it makes waiters sleep for up to 0.1 s at a
    time: with two busy servers on a file, the slowest posts took twice as long.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        """Open FILE-writer; create it if it does not exist. Raises OSError.

        Args:
            path: the database file.
            timeout: seconds to wait for the lock.
        """
        self.path = filesystem.beside(path, "-writer")
        self._timeout = timeout
        self.descriptor = self._open()

    def _open(self) -> int:
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.path, how, 0o600)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock (context manager). Raises StoreBusy if the timeout passes first."""
        try:
            filesystem.lock(self.descriptor, timeout=self._timeout, interval=POLL_INTERVAL)
        except TimeoutError:
            raise StoreBusy("another server on this file hangs, or is slow") from None
        try:
            yield
        finally:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def reopen(self) -> bool:
        """Open the file again if it was removed or replaced. Returns whether it was.

        All servers must lock the same file; until they do, only SQLite's own lock protects the
        database. Raises OSError if the file cannot be opened.
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
