"""Runs a store's write transactions, and tells when the outcome of one is unknown."""

import contextlib
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from bus_server.errors import OutcomeUnknown, StorageFull, StoreBusy, StoreLost
from bus_server.store import connections
from bus_server.store.monitor import FileMonitor
from bus_server.store.write_lock import WriteLock

T = TypeVar("T")


class Committer:
    """Runs transactions, one at a time, on the connection that writes."""

    def __init__(self, files: FileMonitor, lock: WriteLock) -> None:
        self._files = files
        self._lock = lock
        #: A commit failed half-way: it may come back when the log is recovered, until the next
        #: commit is written over it.
        self.unresolved = False
        #: Whether the last commit wrote anything.
        self.stored = False

    def transact(self, db: sqlite3.Connection, write: Callable[[], T]) -> T:
        """Run a function in a transaction. Returns what it returns.

        Raises sqlite3.Error, OSError, StoreBusy and StoreLost when nothing was done, OutcomeUnknown
        when that is not known: the log may hold the whole transaction, and be recovered.
        """
        with self._lock.held():
            db.execute("BEGIN IMMEDIATE")
            before = db.total_changes
            try:
                # First: undoing changes would read the files.
                self._files.check()
                result = write()
                self._files.check_log()
            except BaseException:
                _roll_back(db)
                raise
            try:
                db.execute("COMMIT")
            except sqlite3.Error as error:
                _roll_back(db)
                if isinstance(connections.meaning(error), StorageFull | StoreBusy):
                    raise  # the record that makes it a transaction was not written
                self.unresolved = True
                raise OutcomeUnknown(str(error)) from error
            self.stored = db.total_changes > before
            if self.stored:
                self.unresolved = False  # what failed before was written over
            try:
                # What cannot be told was right a moment ago, and is asked for again next time.
                with contextlib.suppress(OSError):
                    self._files.check()
            except StoreLost as error:
                self._files.loss = error  # though it may look whole at the next look
                self.unresolved = True
                raise OutcomeUnknown(str(error)) from error
            return result


def _roll_back(db: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # the error that made it necessary counts
        if db.in_transaction:
            db.execute("ROLLBACK")
