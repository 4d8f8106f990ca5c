"""Rescues the contents of a store whose files were removed, replaced or damaged while open."""

import contextlib
import fcntl
import itertools
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreRefused
from bus_server.store.sqlite.monitor import FileMonitor

# FILE-writer, the lock file of all servers on a database, is empty or has three lines, the first of
# which is one of these. _BELONGS: the log and the database that it belongs to, each as
# DEVICE:INODE. _INCOMPLETE: a database that must not be served, as DEVICE:INODE:MODIFIED, and what
# the user should do.
_BELONGS, _INCOMPLETE = "log", "incomplete"
#: The ending of files with the contents of a lost store.
_RESCUED = ".rescued"
#: Offset and size of SQLite's shared lock. In WAL mode, a process holds it while the database is
#: open.
_SHARED_LOCK = 0x40000002, 510
#: Maximum bytes to read of FILE-writer. What servers write there is shorter.
_MORE = 16 * 1024


def rescued(path: Path) -> Path | None:
    """Returns the newest file that `save` wrote for this store; None if there is none."""
    name = re.compile(re.escape(filesystem.beside(path, _RESCUED).name) + r"(-\d+)?")
    found = [file for file in path.parent.iterdir() if name.fullmatch(file.name) and file.is_file()]
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def save(db: sqlite3.Connection, monitor: FileMonitor) -> tuple[Path, bool]:
    """Copy everything that a connection can still read to a new file beside its own.

    Returns the file's path, and whether the file is sound. Creates the folder if it was removed.
    Raises sqlite3.Error or OSError if copying fails; then no file is left.
    """
    path = monitor.path
    if monitor.folder_is_moved():
        raise FileNotFoundError(f"{path.parent} was moved")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Copying may take minutes. If the process is killed, an incomplete copy must not look complete.
    draft = filesystem.draft_of(filesystem.beside(path, _RESCUED))
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(draft)) as copy:
            db.backup(copy)
            sound = _is_sound(copy)
        names = _numbered(filesystem.beside(path, _RESCUED))
        while True:
            target = next(names)
            with contextlib.suppress(FileExistsError):  # another server's, or from an earlier loss
                target.touch(0o600, exist_ok=False)
                draft.replace(target)
                return target, sound
    finally:
        draft.unlink(missing_ok=True)


def leave(monitor: FileMonitor, lock: int, saved: Path | None) -> str:
    """Prevent the next start from replaying the wrong log. Returns what the user should do.

    Args:
        monitor: the files of the lost store.
        lock: the descriptor of FILE-writer.
        saved: the sound copy that `save` made of the store; None: there is none.
    """
    path = monitor.path
    go_on = f"mv {saved} {path}" if saved else "restore a backup"
    if not os.path.isdir(path.parent):  # noqa: PTH112 - Path.is_dir may raise OSError
        return f"put {path.parent} back, with all that was in it"
    if monitor.is_moved():
        # With neither a file nor a copy, leave the log there: servers then refuse to start.
        if monitor.owns_log() and (saved or os.path.lexists(path)):
            _try_to_set_aside(path)
        if not os.path.lexists(path):
            return go_on
        return f"start again, for the file at {path} now; or move that elsewhere, and {go_on}"
    if saved and monitor.log_is_gone():
        return f"start again, or {go_on} should {path} lack messages"
    if saved and monitor.log_is_whole():
        return "start again"
    if monitor.owns_log():
        _try_to_set_aside(path)
    record_incomplete(lock, path, go_on)
    return go_on


def set_aside(path: Path) -> Path:
    """Rename a log that does not belong to the database beside it. Returns its new path.

    SQLite would replay it into that database, and destroy it. Raises OSError.
    """
    log = filesystem.beside(path, "-wal")
    names = _numbered(filesystem.beside(log, ".set-aside"))
    aside = next(name for name in names if not os.path.lexists(name))
    log.rename(aside)
    # The index belongs to the log that was renamed.
    filesystem.beside(path, "-shm").unlink(missing_ok=True)
    return aside


def _try_to_set_aside(path: Path) -> None:
    """Call `set_aside`, and ignore errors, such as those of a disk that became read-only."""
    with contextlib.suppress(OSError):
        set_aside(path)


def record(lock: int, path: Path) -> None:
    """Record in FILE-writer, open as `lock`, that the log belongs to the database."""
    log = filesystem.beside(path, "-wal")
    _write(lock, f"{_BELONGS}\n{_identity(log)}\n{_identity(path)}\n")


def record_incomplete(lock: int, path: Path, remedy: str) -> None:
    """Record in FILE-writer that the database, as it is now, must not be served.

    `remedy`: what the user should do.
    """
    _write(lock, f"{_INCOMPLETE}\n{_state(path)}\n{remedy}\n")


def forget(lock: int, path: Path) -> None:
    """Clear FILE-writer if there is no log.

    The caller must hold the lock: a starting server creates the log, and then calls `record`.
    """
    if not filesystem.beside(path, "-wal").exists():
        _write(lock, "")


def check_complete(path: Path) -> None:
    """Raises StoreRefused if FILE-writer says that the database is incomplete."""
    kind, state, remedy = _record_of(path)
    if kind == _INCOMPLETE and state == _state(path):
        # Another server on the file may have saved more than the one that wrote this record.
        newest = rescued(path)
        also = f" (there is {newest}, too)" if newest and str(newest) not in remedy else ""
        raise StoreRefused(
            f"{path} is incomplete: it or its log was damaged under a running server. To continue: "
            f"{remedy}{also}; or, to serve it as it is, rm {path}-writer"
        )


def is_log_of_another(path: Path) -> bool:
    """Returns whether the log beside a database belongs to a former database at the same path.

    Returns False if there is no database or an empty one: the log may be all that is left. Also
    returns False while a program has the database open: that program's log may have been given the
    inode number of a removed one.

    Must not be called while this process has the database open: this would release its locks.
    """
    kind, log, database = _record_of(path)
    try:
        there = path.stat().st_size > 0
    except OSError:
        return False
    return (
        there
        and kind == _BELONGS
        and log == _identity(filesystem.beside(path, "-wal"))
        and database != _identity(path)
        and not is_open(path)
    )


def _record_of(path: Path) -> tuple[str, str, str]:
    # NONBLOCK: opening a named pipe would hang.
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(filesystem.beside(path, "-writer"), how), "rb") as opened:
            kind, first, second = opened.read(_MORE).decode().splitlines()
    except (OSError, ValueError):
        return "", "", ""  # nothing is recorded
    return kind, first, second


def is_open(path: Path) -> bool:
    """Returns whether another process has a database open, which locks it in WAL mode.

    Also returns True if that cannot be checked. Must not be called while this process has the
    database open: this would release its locks.
    """
    start, size = _SHARED_LOCK
    try:
        with path.open("r+b") as opened:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, size, start)
    except OSError:
        return True
    return False


def _is_sound(db: sqlite3.Connection) -> bool:
    try:
        return db.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.Error:
        return False


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    yield from (filesystem.beside(path, f"-{n}") for n in itertools.count(2))


def _identity(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def _state(path: Path) -> str:
    """Returns a string that changes when a file is replaced, or a backup is copied over it."""
    return f"{_identity(path)}:{path.stat().st_mtime_ns}"


def _write(lock: int, text: str) -> None:
    with contextlib.suppress(OSError):  # this is only a precaution, and the disk may be full
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)
