"""The health of an open store: faults of its disk, lost files, and the translation of errors."""

import asyncio
import functools
import shutil
import sqlite3

from bus_server.errors import (
    BusError,
    OutcomeUnknown,
    StorageFull,
    StoreBusy,
    StoreFailed,
    StoreLost,
)
from bus_server.store.faults import Faults
from bus_server.store.sqlite import connections, rescue
from bus_server.store.sqlite.committer import Committer
from bus_server.store.sqlite.damage import confirmed
from bus_server.store.sqlite.monitor import FileMonitor
from bus_server.store.sqlite.write_lock import WriteLock

#: Bytes. A larger log is worth a warning: several checkpoints have failed to empty it.
LARGE_LOG = 32 * 1024 * 1024
#: Bytes. A disk with less free space counts as full: the next post may not fit.
NEARLY_FULL = 1024 * 1024

# The names under which faults are logged.
_FULL = "the disk is full, posts are refused"
_WRITES = "the database cannot be written, posts fail"
_READS = "a part of the database cannot be read"
_LARGE = "the log is large"
_LOCK = "servers on the database cannot take turns"


class Health:
    """The faults of a store. Each is logged when it begins and when it ends.

    Used on the event loop, except that `check` runs on the OS thread of the connection that writes,
    and `translate` and `translate_write` on either.
    """

    def __init__(self, files: FileMonitor, lock: WriteLock, committer: Committer) -> None:
        #: Set when the files were removed, replaced, truncated or damaged.
        self.lost = asyncio.Event()
        self._faults, self._warnings = Faults(), Faults()
        self._files = files
        self._lock = lock
        self._committer = committer

    @property
    def failing(self) -> bool:
        """Whether the disk is failing or full, or the store is lost."""
        return bool(self._faults) or self._files.loss is not None

    def refusal(self) -> BusError:
        """Returns the error for calls to a lost store."""
        refusal = OutcomeUnknown if self._committer.unresolved else StoreFailed
        return refusal("its file is lost")

    def check(self, db: sqlite3.Connection) -> None:
        """Check the files and, if there is a fault, whether the database can be written again.

        `db` is the connection that writes. Raises a BusError or StoreBug if a check fails.
        """
        try:
            self._files.check()
            self._reopen_lock()
            if self._faults:
                touch = functools.partial(connections.touch, db)
                confirmed(self._files, lambda: self._committer.transact(db, touch))
        except Exception as error:
            raise self.translate(error) from error

    def _reopen_lock(self) -> None:
        try:
            if self._lock.reopen():
                rescue.record(self._lock.descriptor, self._files.path)
            self._warnings.end(_LOCK)
        except OSError as error:  # SQLite's own lock still protects the file
            self._warnings.begin(_LOCK, f"cannot use {self._lock.path}: {error.strerror}")

    def check_log_size(self) -> None:
        """Log a warning while SQLite's log is large."""
        size = self._files.log_size
        if size > LARGE_LOG:
            self._warnings.begin(
                _LARGE,
                f"{self._files.log} takes {size / 2**20:.0f} MiB; some program holds a read "
                "transaction open (a backup, a forgotten sqlite3): end it",
            )
        else:
            self._warnings.end(_LARGE)

    def translate(self, error: Exception) -> Exception:
        """Returns the error to raise to the store's callers. A StoreLost is recorded first."""
        translated = connections.translate_error(error)
        if isinstance(translated, OSError):
            translated = StoreFailed(f"its files cannot be inspected ({translated.strerror})")
        if isinstance(translated, StoreLost):
            self._files.loss = self._files.loss or translated
            translated = StoreFailed(str(self._files.loss))
        return translated

    def translate_write(self, error: Exception) -> Exception:
        """Returns the error to raise to the store's callers for a commit that failed."""
        translated = self.translate(error)
        if self._committer.unresolved and isinstance(
            translated, StoreFailed | StorageFull | StoreBusy
        ):
            # This commit may be a retry of an unresolved one, so that its posts may be stored.
            return OutcomeUnknown(str(error))
        return translated

    def write_failed(self, error: Exception) -> None:
        """Record that a commit or `check` failed, with the translated error."""
        if self._files.loss:
            self.lost.set()
        elif isinstance(error, StorageFull):
            self._faults.begin(_FULL, f"make room on the disk of {self._files.path}")
        elif isinstance(error, StoreFailed | OutcomeUnknown):
            self._faults.begin(_WRITES, str(error.__cause__ or error))

    def write_succeeded(self) -> None:
        """Record that a commit or `check` succeeded."""
        if not self._faults or not self._committer.stored:
            return
        self._faults.end(_WRITES)
        if shutil.disk_usage(self._files.path.parent).free > NEARLY_FULL:
            self._faults.end(_FULL)

    def read_failed(self, error: Exception) -> None:
        """Record that a read failed, with the error that `translate` returned."""
        if self._files.loss:
            self.lost.set()
        elif isinstance(error, StoreFailed):
            self._faults.begin(_READS, str(error))

    def read_succeeded(self) -> None:
        """Record that the read that failed last now succeeds."""
        self._faults.end(_READS)
