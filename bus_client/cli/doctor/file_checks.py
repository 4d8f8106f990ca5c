"""Checks of a server's database file and its environment. They change nothing."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bus_client.cli.doctor.check import Check
from bus_client.cli.text import byte_size

_MIB, _GIB = 1024**2, 1024**3
_LARGE_LOG = 32 * _MIB  # a server checkpoints it at about 4 MiB, and also warns at this size
_FEW_INODES = 1_000  # fewer are a warning; a server needs five

# The first version with STRICT tables, which the server uses.
_OLDEST_SQLITE = (3, 37, 0)
# The WAL-reset bug, https://sqlite.org/wal.html#walresetbug: the first version with the bug, and
# the first version with the fix, which was also backported to two older release lines.
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))
_WAL_RESET_REPAIRS = ((3, 44, 6), (3, 50, 7))

# File systems that machines share, on which SQLite's locks or shared memory do not work.
_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("prl_fs", "smb3", "smbfs", "vboxsf", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse"),
    *("fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}
_AS_IT_SAYS = "A server refuses to start with this file; the finding says what to do."
_IN_MEMORY = {"tmpfs", "ramfs"}


def file_checks(path: Path) -> Iterator[Check]:
    """Yields the checks of a database file, without reading all of it, and of its environment."""
    from bus_server.errors import StoreRefused
    from bus_server.store.sqlite import file

    yield sqlite_check(sqlite3.sqlite_version_info)
    try:
        path = file.locate(path)
    except StoreRefused as refusal:
        yield Check("database", "failure", str(refusal), _AS_IT_SAYS)
        return
    yield _database(path)
    if path.parent.is_dir():
        yield _disk(path.parent)
        if kind := file_system_of(path.parent):
            yield file_system_check(path.parent, kind)
    if path.is_file():
        yield _permissions(path)
        yield _log(path)
    for check in (_left_behind(path), _leftovers(path), _indexes(path)):
        if check is not None:
            yield check


async def integrity_check(path: Path) -> Check:
    """Returns the result of checking a whole ThreadBus database file for damage.

    May take minutes for a large file; can be cancelled.
    """
    from bus_server.store.sqlite import upkeep

    faults = await integrity_faults(path)
    if not faults:
        return Check("integrity", "ok", "the whole file is intact")
    finding = f"{path} is damaged: {'; '.join(faults)}"
    advice = "Stop the server, and restore a backup."
    if all(map(upkeep.is_of_an_index, faults)):
        advice = "Stop the server, then add --fix to rebuild the indexes: no message is damaged."
    return Check("integrity", "failure", finding, advice)


async def integrity_faults(path: Path) -> list[str]:
    """Returns up to three faults of a whole database file. Can be cancelled."""
    try:
        return await _check_integrity(path)
    except sqlite3.Error as error:
        return [str(error)]


def sqlite_check(version: tuple[int, int, int]) -> Check:
    """Returns the check of a version of SQLite, for a server that would use it."""
    name = ".".join(map(str, version))
    if version < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        advice = f"Run the server with a Python that uses SQLite {oldest} or newer."
        return Check("sqlite", "failure", f"version {name} is too old", advice)
    first, repaired = _WAL_RESET_BUG
    backported = any(version[:2] == line[:2] and version >= line for line in _WAL_RESET_REPAIRS)
    if first <= version < repaired and not backported:
        # Not a warning: servers write and checkpoint under one lock, so they cannot trigger it.
        return Check(
            "sqlite",
            "ok",
            f"version {name}, whose WAL-reset bug cannot affect the server as long as no other "
            "program writes to the file or checkpoints it",
        )
    return Check("sqlite", "ok", f"version {name}")


def _database(path: Path) -> Check:
    from bus_server.errors import StoreRefused
    from bus_server.store.sqlite import file, rescue

    if not path.exists():
        advice = f"threadbus serve --db {path} creates it; or name another with --db."
        return Check("database", "failure", f"{path} does not exist", advice)
    if rescue.is_log_of_another(path):
        finding = f"{_beside(path, '-wal')} belongs to another file that was at {path} before"
        advice = "The next start moves it aside. Do not open the file with sqlite3 before that."
        return Check("database", "warning", finding, advice)
    try:
        file.check(path, path.stat().st_uid)  # assumes that the server runs as the file's owner
    except (StoreRefused, OSError) as refusal:
        return Check("database", "failure", str(refusal), _AS_IT_SAYS)
    if path.stat().st_size == 0:
        advice = f"threadbus serve --db {path} creates a database in it."
        return Check("database", "warning", f"{path} is empty", advice)
    return Check("database", "ok", f"{path} is a ThreadBus database, readable and writable")


def _disk(folder: Path) -> Check:
    disk = os.statvfs(folder)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    finding = f"{byte_size(free)} free of {byte_size(size)}"
    if free < 64 * _MIB:
        advice = "Free space: posts are refused when the disk is full, but nothing is lost."
        return Check("disk", "failure", finding, advice)
    # 20 GiB are enough even if they are less than 5 % of a large disk.
    if free < max(_GIB, min(size // 20, 20 * _GIB)):
        return Check("disk", "warning", finding, "Free space before the disk is full.")
    if disk.f_files and disk.f_favail < _FEW_INODES:  # f_files is 0 if inodes are not counted
        finding = f"only {disk.f_favail:,} more files can be created (inodes)"
        return Check("disk", "warning", finding, "Delete files that nobody needs.")
    return Check("disk", "ok", finding)


def file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Returns the type of the file system that a folder is on; "" if it cannot be determined.

    `mounts` is the system's list of mounted file systems.
    """
    try:
        table = mounts.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
    folder = folder.resolve()
    found, depth = "", 0
    for line in table.splitlines():
        _, where, kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), where))
        # Of two file systems mounted at the same path, the later one is visible.
        if len(point.parts) >= depth and folder.is_relative_to(point):
            found, depth = kind, len(point.parts)
    return found


def file_system_check(folder: Path, kind: str) -> Check:
    """Returns the check of a folder's file system type: whether a database is safe there."""
    if kind in _NETWORK:
        return Check(
            "file system",
            "failure",
            f"{folder.resolve()} is on {kind}, a network file system, where SQLite is unsafe",
            "Move the file to a local disk of the server's machine.",
        )
    if kind in _IN_MEMORY:
        return Check(
            "file system",
            "warning",
            f"{folder.resolve()} is on {kind}, in memory: a restart of the machine loses the file",
            "Move the file to a disk, unless you can lose it.",
        )
    return Check("file system", "ok", f"{kind}, local")


def _permissions(path: Path) -> Check:
    from bus_server.errors import StoreRefused
    from bus_server.operator_token import read
    from bus_server.store.sqlite import file
    from bus_server.store.sqlite.file import token_file

    token, owner = token_file(path), path.stat().st_uid  # assumed to be the server's user
    try:
        if os.path.lexists(token):
            read(token, owner)
    except StoreRefused as refusal:
        advice = (
            f"{_AS_IT_SAYS} Or add --fix. If others have read it, delete it: the next start "
            "creates a new one."
        )
        return Check("permissions", "failure", str(refusal), advice)
    if risks := file.risks(path, owner):
        advice = "Do as the finding says, or add --fix for the files."
        return Check("permissions", "warning", "; ".join(risks), advice)
    return Check(
        "permissions", "ok", "only the owner can read the messages and the operator's token"
    )


def _log(path: Path) -> Check:
    log = _beside(path, "-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _LARGE_LOG:
        return Check(
            "log",
            "warning",
            f"{log} has grown to {byte_size(size)}",
            "Stop what has kept the file open for a long time (a backup, an open sqlite3): the "
            "server then shrinks the log.",
        )
    return Check("log", "ok", f"{log} has {byte_size(size)}" if size else "there is no log now")


def _left_behind(path: Path) -> Check | None:
    """Returns a warning about what servers left beside the database; None if there is nothing.

    Servers leave copies of a store whose files were lost, and logs of a former database.
    """
    found = [*path.parent.glob(f"{path.name}.rescued*"), *path.parent.glob(f"{path.name}-wal.*")]
    if not found:
        return None
    finding = f"left from lost or replaced files: {', '.join(str(file) for file in sorted(found))}"
    advice = "Delete them if the database lacks nothing; .rescued files are copies of it."
    return Check("left behind", "warning", finding, advice)


def _leftovers(path: Path) -> Check | None:
    """Returns a warning about what killed programs left; None if there is nothing."""
    from bus_server.store.sqlite import upkeep

    try:
        found = upkeep.leftovers(path)
    except OSError:  # there is no such folder, or it cannot be read
        return None
    if not found:
        return None
    finding = f"left by programs that were killed: {', '.join(map(str, found))}"
    return Check("leftovers", "warning", finding, "Add --fix to remove them.")


def _indexes(path: Path) -> Check | None:
    """Returns a warning about missing indexes; None if there are all, or that is unknown."""
    from bus_server.errors import StoreRefused
    from bus_server.store.sqlite import rescue, upkeep

    try:
        if not path.is_file() or not path.stat().st_size or rescue.is_log_of_another(path):
            return None
        missing = upkeep.missing_indexes(path)
    except (StoreRefused, sqlite3.Error):
        return None  # the check of the database says why
    if not missing:
        return None
    finding = f"{path} lacks {', '.join(missing)}, and reads are slow"
    return Check("indexes", "warning", finding, "Stop the server, then add --fix.")


async def _check_integrity(path: Path) -> list[str]:
    from bus_server.store.sqlite.file import locate, quoted

    path = locate(path)
    # A file without a log is complete; immutable=1 keeps SQLite from creating one.
    how = "mode=ro" if _beside(path, "-wal").exists() else "mode=ro&immutable=1"
    uri = f"file:{quoted(path)}?{how}"
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as db:
        query = asyncio.ensure_future(
            asyncio.to_thread(lambda: db.execute("PRAGMA integrity_check(3)").fetchall())
        )
        try:
            rows = await asyncio.shield(query)
        except asyncio.CancelledError:
            db.interrupt()
            await asyncio.gather(query, return_exceptions=True)  # the query must not outlive `db`
            raise
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")
