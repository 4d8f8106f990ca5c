"""Copies a store, which servers may be using, into one file that needs no other."""

import contextlib
import errno
import hashlib
import os
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bus_server import filesystem
from bus_server.errors import StoreRefused
from bus_server.partial import Partial, full_disk, need_space, new_file, partial
from bus_server.store.sqlite import file, rescue
from bus_server.store.sqlite.connections import translate_error

#: Called with the number of bytes that are done, and of all. May raise, to end the work.
Progress = Callable[[int, int], object]

#: Pages to copy between two calls of Progress.
PAGES = 64
#: Bytes after which a copy is flushed to the disk. If all were flushed in the end, the commits of
#: servers would wait for it.
FLUSH_BYTES = 1024 * 1024
#: Bytes to read at a time.
BLOCK = 1024 * 1024
#: Seconds to wait for another program that has locked the file.
BUSY_TIMEOUT = 10.0

#: The last line of a backup, behind the database: a hash of all bytes before it. SQLite ignores it.
_LAST = b"ThreadBus backup 1 sha256 %s\n"
_LAST_SIZE = len(_LAST % (b"0" * 64))
_LAST_LINE = re.compile(rb"ThreadBus backup (\d+) sha256 ([0-9a-f]{64})\n")
#: Where the header of a file says that it has a log, and what it says if it has none.
_MODE_OFFSET, _NO_LOG = 18, b"\x01\x01"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds."""

    threads: int
    messages: int
    agents: int


def back_up(source: Path, target: Path, *, force: bool, progress: Progress) -> Contents:
    """Write a backup of the store at `source` to a new file. Returns what it holds.

    The backup is of one moment, while servers go on: SQLite's log grows meanwhile. It was checked
    and is on the disk when this returns. In any other case there is no file, or the one that was
    there before.

    Args:
        force: whether to replace a file at `target`.

    Raises:
        StoreRefused: the store cannot be read or is damaged, there is a file, or the disk is full.
        OSError: a file cannot be read or written.
    """
    source = checked(source)
    target = spare(target, force=force)
    taken = (*file.files(source), filesystem.beside(source, "-hints"))
    if str(target) in map(os.path.realpath, taken):
        raise StoreRefused(f"{target} is a file of the store: name another file for the backup")
    need_space(target.parent, source.stat().st_size, "the backup")
    with full_disk(target), partial(target) as draft:
        with translated(source):
            contents = _copy(source, draft, progress)
        seal(draft.path)
        with translated(source):
            found = verify(draft.path, progress, source, "threadbus doctor --deep says more")
        if found != contents:
            raise StoreRefused(f"the copy of {source} holds {found}, and not {contents}")
        _sign(draft.path, progress)
        with filesystem.lock_folder(target.parent):
            progress(1, 1)
            draft.place(replace=force)
    return contents


def spare(path: Path, *, force: bool) -> Path:
    """Returns where a backup can be written, with symbolic links resolved. Only reads.

    Raises StoreRefused for what `new_file` refuses; and, whatever `force` says, for a store that is
    served or has a log: its newest messages are there, and would be lost.
    """
    path = new_file(path, force=force, what="the backup")
    log = filesystem.beside(path, "-wal")
    if path.exists() and (log.exists() or rescue.is_open(path)):
        raise StoreRefused(
            f"{path} is a store that is served or has a log, and not a backup: name another file"
        )
    return path


def checked(path: Path) -> Path:
    """Returns the path of the store that `path` leads to. Raises StoreRefused if there is none.

    Opening what this has refused could damage it. Only reads.
    """
    path = file.locate(path)
    if not path.exists():
        raise StoreRefused(f"{path} does not exist: name the database with --db")
    if path.stat().st_size == 0:
        raise StoreRefused(f"{path} is empty: name the database with --db")
    if rescue.is_log_of_another(path):
        log = filesystem.beside(path, "-wal")
        raise StoreRefused(f"{log} belongs to another {path}: start a server, which moves it aside")
    try:
        file.check(path, os.geteuid())
    except OSError as error:
        raise StoreRefused(f"cannot read {path}: {error.strerror}") from error
    return path


def _copy(source: Path, draft: Partial, progress: Progress) -> Contents:
    """Copy a database as it is at one moment. Returns what it holds. Raises sqlite3.Error."""
    uri = f"file:{file.quoted(source)}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT)
    with contextlib.closing(db), contextlib.closing(unshared(draft.path)) as copy:
        # The transaction holds on to the moment. Without it, SQLite would start the copy again
        # after each commit of a server.
        db.execute("BEGIN")
        (size,) = db.execute("PRAGMA page_size").fetchone()
        db.execute("SELECT epoch FROM store").fetchone()
        flushed = 0

        def advance(_: int, remaining: int, total: int) -> None:
            nonlocal flushed
            done = (total - remaining) * size
            progress(done, total * size)
            if done - flushed >= FLUSH_BYTES:
                draft.flush()
                flushed = done

        db.backup(copy, pages=PAGES, progress=advance)
        contents = _contents(db)
        db.execute("ROLLBACK")
    return contents


def unshared(path: Path) -> sqlite3.Connection:
    """Returns a connection to a file that nobody else uses. A crash may damage it.

    Without SQLite's locks: on some systems they are in the way of that of Partial.
    """
    uri = f"file:{file.quoted(path)}?mode=rw&nolock=1"
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    db.execute("PRAGMA journal_mode = OFF").fetchall()
    db.execute("PRAGMA synchronous = OFF")
    return db


def seal(path: Path) -> None:
    """Make a database that nobody uses one file, which can be read where nothing can be written.

    A server keeps a log again once it has opened it.
    """
    with path.open("r+b") as opened:
        opened.seek(_MODE_OFFSET)
        opened.write(_NO_LOG)


def verify(path: Path, progress: Progress, source: Path, remedy: str) -> Contents:
    """Check a whole database that nobody changes. Returns what it holds.

    Raises StoreRefused if it is damaged, and sqlite3.Error. `source`: what it was copied from, and
    `remedy`: what to do about that.
    """
    uri = f"file:{file.quoted(path)}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db, interruptible(db, progress):
        faults = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)").fetchall()]
        if faults != ["ok"]:
            raise StoreRefused(f"{source} is damaged ({'; '.join(faults)}): {remedy}")
        return _contents(db)


@contextlib.contextmanager
def interruptible(db: sqlite3.Connection, progress: Progress) -> Iterator[None]:
    """Call `progress` while a statement runs. What it raises ends the statement, and is raised."""
    stopped: list[BaseException] = []

    def look() -> bool:
        try:
            progress(1, 1)
        except BaseException as error:  # noqa: BLE001 - raised below
            stopped.append(error)
        return bool(stopped)

    db.set_progress_handler(look, 100_000)
    try:
        yield
    except sqlite3.OperationalError:
        if stopped:
            raise stopped[0] from None
        raise
    finally:
        db.set_progress_handler(None, 0)


def _contents(db: sqlite3.Connection) -> Contents:
    counted = (
        "SELECT (SELECT count(*) FROM thread), (SELECT count(*) FROM message),"
        " (SELECT count(*) FROM agent)"
    )
    return Contents(*db.execute(counted).fetchone())


def _sign(path: Path, progress: Progress) -> None:
    """Append the last line. Raises OSError."""
    with path.open("r+b") as opened:
        digest, size = hashlib.sha256(), path.stat().st_size
        for block in blocks(opened, size):
            digest.update(block)
            progress(1, 1)
        opened.write(_LAST % digest.hexdigest().encode())


def last_line(path: Path) -> tuple[int, str]:
    """Returns how many bytes are before the last line of a backup, and the hash that it names.

    A file that another program copied has no such line: then the hash is empty. Raises OSError, and
    StoreRefused if the line is not whole or of a newer version.
    """
    size = path.stat().st_size
    with path.open("rb") as opened:
        (page,) = struct.unpack(">16xH", opened.read(18))
        opened.seek(max(0, size - _LAST_SIZE))
        found = _LAST_LINE.fullmatch(opened.read())
    if found is None and size % (page if page > 1 else 65_536):
        raise StoreRefused(f"{path} is damaged: its end is missing. Restore another backup")
    if found is None:
        return size, ""
    if found[1] != b"1":
        raise StoreRefused(f"{path} is a backup of a newer version: upgrade threadbus")
    return size - _LAST_SIZE, found[2].decode()


def blocks(opened: BinaryIO, size: int) -> Iterator[bytes]:
    """Yields the next `size` bytes of a file. Raises OSError."""
    while size > 0 and (block := opened.read(min(BLOCK, size))):
        size -= len(block)
        yield block


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise StoreRefused for an error of SQLite about `path` (context manager)."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise StoreRefused(f"cannot use {path}: {translate_error(error)}") from error
