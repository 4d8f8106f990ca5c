"""Sets up connections, and translates SQLite's errors."""

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bus_server.errors import StorageFull, StoreBug, StoreBusy, StoreFailed, StoreLost

logger = logging.getLogger(__name__)

#: Primary result codes of disk and file errors. Any other unexpected code is a bug.
_FAILED = (
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH),
)
#: Primary and extended codes for damaged files. SQLite also returns them for read errors (EIO).
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CUT = (sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)

#: Bytes to which SQLite truncates a larger log when it restarts it. Up to this size the log is
#: overwritten, which syncs in half the time of extending it. Unless a read transaction is held
#: open, the log uses about 4 MiB.
LOG_LIMIT = 16 * 1024 * 1024


class LoggedConnection(sqlite3.Connection):
    """A connection that logs its statements at level debug, without the texts and bytes in them.

    SQLite's own trace has all values, so also the contents of messages.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("sql: %s%s", " ".join(sql.split()), _shown(parameters))
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        if logger.isEnabledFor(logging.DEBUG):
            parameters = list(parameters)
            for row in parameters:
                logger.debug("sql: %s%s", " ".join(sql.split()), _shown(row))
        return super().executemany(sql, parameters)


def _shown(parameters: Sequence[object] | Mapping[str, object]) -> str:
    """Returns the values of a statement: numbers, and the types of all others."""

    def shown(value: object) -> str:
        return str(value) if isinstance(value, int) else type(value).__name__

    if isinstance(parameters, Mapping):
        values = [f"{name}={shown(value)}" for name, value in parameters.items()]
    else:
        values = [shown(value) for value in parameters]
    return f" ({', '.join(values)})" if values else ""


def set_up_writer(db: sqlite3.Connection, full_durability: bool) -> str:
    """Set up the connection that writes. Returns the store's epoch."""
    # Some backups (VACUUM INTO) do not keep the WAL mode.
    db.execute("PRAGMA journal_mode = WAL").fetchall()
    db.execute(f"PRAGMA synchronous = {'FULL' if full_durability else 'NORMAL'}")
    # Where it is on by default, overwriting deleted rows made purging a thread nine times slower.
    db.execute("PRAGMA secure_delete = OFF").fetchall()
    db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}").fetchall()
    (epoch,) = db.execute("SELECT epoch FROM store").fetchone()
    return str(epoch)


def set_up_reader(db: sqlite3.Connection) -> None:
    """Set up a connection that reads."""
    # 8000 KiB. The default of 2000 KiB does not hold the newest pages of a thousand threads, which
    # ListThreads may read for a page of its list: in a large store it took half as long again.
    db.execute("PRAGMA cache_size = -8000")


def data_version(db: sqlite3.Connection) -> int:
    """Returns a number that changes when another connection has written to the file."""
    (version,) = db.execute("PRAGMA data_version").fetchone()
    return int(version)


def touch(db: sqlite3.Connection) -> None:
    """Change a page and undo the change, within a transaction, to test whether SQLite can write.

    SQLite would skip an update that does not change a row.
    """
    db.execute("INSERT INTO purge VALUES (0)")
    db.execute("DELETE FROM purge WHERE thread_id = 0")


def translate_error(error: Exception) -> Exception:
    """Returns the store's error for a sqlite3.Error, and any other error unchanged."""
    if not isinstance(error, sqlite3.Error):
        return error
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy("the database is locked by another program")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull()
    if code in _DAMAGED or extended in _CUT:
        return StoreLost(f"the database is damaged ({error})")
    if code in _FAILED:
        return StoreFailed(f"{error} ({error.sqlite_errorname})")
    return StoreBug(str(error))
