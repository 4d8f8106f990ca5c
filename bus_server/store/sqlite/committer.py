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
    """The runner of write transactions, one at a time, on the connection that writes."""

    def __init__(self, files: FileMonitor, lock: WriteLock) -> None:
        self._files = files
        self._lock = lock
        #: Whether the outcome of a commit is unknown. Either it failed half-way, and SQLite may
        #: still recover it from its log, until a later commit overwrites it there; or the files
        #: were lost during the commit.
        self.unresolved = False
        #: Whether the last transaction that was committed wrote anything.
        self.stored = False

    def transact(self, db: sqlite3.Connection, write: Callable[[], T]) -> T:
        """Run a function in a transaction, under the write lock. Returns what it returns.

        Raises:
            OutcomeUnknown: it is unknown whether the transaction was committed. SQLite may recover
                it from its log, or the files were lost during the commit.
            StoreBusy: another server held the write lock for too long. Nothing was committed.
            StoreLost, OSError: the files are lost, or cannot be checked. Nothing was committed.
            sqlite3.Error: SQLite failed. Nothing was committed. The same holds for any other
                exception of `write`, which is raised unchanged.
        """
        with self._lock.held():
            db.execute("BEGIN IMMEDIATE")
            before = db.total_changes
            try:
                # Check before the first change, as rolling a change back would read the files.
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
                self.unresolved = False  # the failed commit was overwritten
            try:
                # An OSError is ignored: the files were intact before the commit, and the next
                # transaction checks them again.
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
