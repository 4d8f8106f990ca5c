"""Tells damaged files from read errors of the disk, which SQLite may report by the same code."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from bus_server.errors import StoreFailed, StoreLost
from bus_server.store.sqlite import connections
from bus_server.store.sqlite.monitor import FileMonitor

T = TypeVar("T")


def confirmed(files: FileMonitor, run: Callable[[], T]) -> T:
    """Run a function that uses a connection. Returns what it returns.

    SQLite also reports damage when a read fails with EIO (unixRead in os_unix.c). So if it does,
    read all of the files, and run the function once more.

    Raises:
        StoreFailed: the disk cannot be read.
        StoreLost: the database is damaged.

    Other exceptions of the function are raised unchanged.
    """
    try:
        return run()
    except sqlite3.Error as error:
        if not isinstance(connections.translate_error(error), StoreLost):
            raise
    try:
        files.read_all()
    except OSError as error:
        raise StoreFailed(f"it cannot be read ({error.strerror})") from error
    try:
        return run()
    except sqlite3.Error as error:
        translated = connections.translate_error(error)
        if isinstance(translated, StoreLost):
            raise translated from error
        raise
