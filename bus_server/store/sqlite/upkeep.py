"""Keeps a store's files in order: returns unused space, rebuilds indexes, removes leftovers."""

import contextlib
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreRefused
from bus_server.partial import full_disk, need_space, remove_leftovers
from bus_server.partial import leftovers as partial_files
from bus_server.store.sqlite import backup, file, rescue
from bus_server.store.sqlite.backup import Progress

#: Files beside a database that mean nothing once the database is gone.
_WITHOUT_MESSAGES = ("-shm", "-writer")
#: What SQLite's integrity check says of an index that does not agree with its table.
_OF_AN_INDEX = re.compile(r"(row \d+|wrong # of entries|non-unique entry).* index ")


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """The size of a database file before and after `vacuum`, in bytes."""

    before: int
    after: int


def vacuum(path: Path, progress: Progress) -> Vacuumed:
    """Return the unused space of a store that nobody serves to the file system.

    It takes as much space again, beside the database and in the folder of temporary files. A crash
    changes nothing. Servers that start meanwhile find the file locked.

    Raises StoreRefused if the store is served, cannot be used or there is no room, and OSError.
    """
    path = backup.checked(path)
    with full_disk(path), _alone(path) as db:
        before = path.stat().st_size
        (used,) = db.execute(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
        need_space(path.parent, used, "that")
        with backup.interruptible(db, progress):
            try:
                db.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                raise StoreRefused(
                    f"a disk is full: that of {path.parent}, or of temporary files, whose folder"
                    " SQLITE_TMPDIR can name. Nothing was changed"
                ) from error
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Vacuumed(before, path.stat().st_size)


def missing_indexes(path: Path) -> list[str]:
    """Returns the names of the indexes that a store of this version lacks. Raises sqlite3.Error."""
    if file.schema_version(path) != file.SCHEMA_VERSION:
        return []  # the next start upgrades it
    log = filesystem.beside(path, "-wal")
    how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    uri = f"file:{file.quoted(path)}?{how}"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return sorted(_indexes().keys() - there)


def is_of_an_index(fault: str) -> bool:
    """Returns whether what SQLite's integrity check found is repaired by `rebuild_indexes`."""
    return _OF_AN_INDEX.match(fault) is not None


def rebuild_indexes(path: Path) -> None:
    """Create the indexes that a store lacks, and rebuild all others. Tables stay as they are.

    Raises StoreRefused if the store is served, cannot be used or there is no room, and OSError.
    """
    path = backup.checked(path)
    missing = missing_indexes(path)
    with full_disk(path), _alone(path) as db:
        db.execute("BEGIN IMMEDIATE")
        for name in missing:
            db.execute(_indexes()[name])
        db.execute("REINDEX")
        db.execute("COMMIT")


def _indexes() -> dict[str, str]:
    """Returns the statements that create the indexes of a store, by name."""
    schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
    found = re.finditer(r"^CREATE INDEX (\w+) ON [^;]+", schema, re.MULTILINE)
    return {each[1]: each[0] for each in found}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that keeps others out of a store. Raises StoreRefused if it is in use."""
    if rescue.is_open(path):
        raise StoreRefused(
            f"{path} is being served, or open in another program: stop every server on it first"
        )
    with backup.translated(path):
        uri = f"file:{file.quoted(path)}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
            db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            # With a log, a crash in the middle leaves nothing that a server has to roll back.
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")
            yield db


def leftovers(path: Path) -> list[Path]:
    """Returns files beside a store that nobody needs, and that hold no messages of their own.

    Those are unfinished copies of programs that were killed; and, if there is no database, what
    servers keep beside one. Raises OSError.
    """
    found = [*filesystem.drafts_of(path), *partial_files(path), *_sockets(path)]
    log = filesystem.beside(path, "-wal")
    if not path.exists() and not log.exists() and not rescue.rescued(path):
        beside = [filesystem.beside(path, ending) for ending in _WITHOUT_MESSAGES]
        found += [each for each in beside if os.path.lexists(each)]
    return found


def remove(path: Path) -> list[Path]:
    """Remove the `leftovers` of a store. Returns those that were removed. Raises OSError."""
    removed = remove_leftovers(path)
    with filesystem.lock_folder(path.parent):  # no server starts, and writes a draft, meanwhile
        for each in leftovers(path):
            with contextlib.suppress(OSError):
                each.unlink()
                removed.append(each)
    return removed


def _sockets(path: Path) -> list[Path]:
    """Returns the sockets of servers on a store that were killed."""
    folder = filesystem.beside(path, "-hints")
    if not folder.is_dir() or (path.exists() and rescue.is_open(path)):
        return []  # a server removes those of others
    return [each for each in folder.iterdir() if stat.S_ISSOCK(each.lstat().st_mode)]


def close_to_others(path: Path) -> list[Path]:
    """Let only their owner open the files of a store. Returns those that were changed.

    Only those of this user, and of root's all. Raises OSError.
    """
    changed = []
    for each in file.files(path):
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            ours = os.geteuid() in (0, status.st_uid)
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and ours:
                each.chmod(0o600)
                changed.append(each)
    return changed
