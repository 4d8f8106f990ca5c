"""Whether a file is damaged, or a disk only failed to read it: SQLite says the same of both."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from bus_server.errors import StoreFailed, StoreLost
from bus_server.store import connections
from bus_server.store.monitor import FileMonitor

T = TypeVar("T")


def confirmed(files: FileMonitor, run: Callable[[], T]) -> T:
    """Run what uses a connection, and once more if the file seems damaged. Returns what it returns.

    SQLite answers SQLITE_CORRUPT when the disk answers EIO (unixRead in os_unix.c). Takes as long
    as reading the files if they seem damaged.

    Raises StoreFailed if the disk fails, StoreLost if the file is damaged, and sqlite3.Error.
    """
    try:
        return run()
    except sqlite3.Error as error:
        if not isinstance(connections.meaning(error), StoreLost):
            raise
    try:
        files.read_all()
    except OSError as error:
        raise StoreFailed(f"it cannot be read ({error.strerror})") from error
    try:
        return run()
    except sqlite3.Error as error:
        meaning = connections.meaning(error)
        if isinstance(meaning, StoreLost):
            raise meaning from error
        raise
