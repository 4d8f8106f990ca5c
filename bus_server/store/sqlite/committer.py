"""Runs a store's write transactions, and tracks those whose outcome is unknown."""

import contextlib
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from bus_server.errors import OutcomeUnknown, StorageFull, StoreBusy, StoreLost
from bus_server.store.sqlite import connections
from bus_server.store.sqlite.monitor import FileMonitor
from bus_server.store.sqlite.write_lock import WriteLock

T = TypeVar("T")


class Committer:
    """Runs transactions, one at a time, on the connection that writes."""

    def __init__(self, files: FileMonitor, lock: WriteLock) -> None:
        self._files = files
        self._lock = lock
        #: A commit failed half-way: recovery of SQLite's log may restore it, until the next commit
        #: overwrites it.
        self.unresolved = False
        #: Whether the last commit wrote anything.
        self.stored = False

    def transact(self, db: sqlite3.Connection, write: Callable[[], T]) -> T:
        """Run a function in a transaction, under the write lock. Returns what it returns.

        Raises sqlite3.Error, OSError, StoreBusy or StoreLost if nothing was committed, and
        OutcomeUnknown if that is not known: the log may hold the whole transaction, and be
        recovered.
        """
        with self._lock.held():
            db.execute("BEGIN IMMEDIATE")
            before = db.total_changes
            try:
                # Check first: rolling back changes would read the files.
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
                if isinstance(connections.translate_error(error), StorageFull | StoreBusy):
                    raise  # the commit record was not written
                self.unresolved = True
                raise OutcomeUnknown(str(error)) from error
            self.stored = db.total_changes > before
            if self.stored:
                self.unresolved = False  # what failed before was overwritten
            try:
                # If this fails, the files were intact a moment ago, and are checked again next
                # time.
                with contextlib.suppress(OSError):
                    self._files.check()
            except StoreLost as error:
                self._files.loss = error  # the next check may not find it
                self.unresolved = True
                raise OutcomeUnknown(str(error)) from error
            return result


def _roll_back(db: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # the first error is the one to raise
        if db.in_transaction:
            db.execute("ROLLBACK")
