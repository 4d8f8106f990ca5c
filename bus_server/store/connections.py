"""What is set on each connection to the file, and what its errors mean."""

import logging
import sqlite3

from bus_server.errors import StorageFull, StoreBusy, StoreFailed

logger = logging.getLogger(__name__)


def set_up_writer(db: sqlite3.Connection, full_durability: bool) -> str:
    """Set up the connection that writes; answers the store's epoch."""
    _trace(db)
    db.execute(f"PRAGMA synchronous = {'FULL' if full_durability else 'NORMAL'}")
    # Where it is on by default, zeroing what was deleted made clearing a thread nine times slower.
    db.execute("PRAGMA secure_delete = OFF").fetchall()
    (epoch,) = db.execute("SELECT epoch FROM store").fetchone()
    return str(epoch)


def set_up_reader(db: sqlite3.Connection) -> None:
    """Set up a connection that reads."""
    _trace(db)
    # In KiB. The usual 2 MB do not hold the newest pages of a thousand threads, which a page of the
    # list of threads may have to look at: in a large store it took half as long again.
    db.execute("PRAGMA cache_size = -8000")


def _trace(db: sqlite3.Connection) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        db.set_trace_callback(lambda statement: logger.debug("sql: %s", statement))


def data_version(db: sqlite3.Connection) -> int:
    """A number that changes when another connection wrote to the file."""
    (version,) = db.execute("PRAGMA data_version").fetchone()
    return int(version)


def meaning(error: Exception) -> Exception:
    """An error in the store's words, if it is one of SQLite's."""
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy("the database is locked by another program")
    if code == sqlite3.SQLITE_FULL:
        return StorageFull()
    return StoreFailed(str(error))
