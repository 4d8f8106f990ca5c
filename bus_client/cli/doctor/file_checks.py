"""What `threadbus doctor` looks at around a server's database file. It changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bus_client.cli.doctor.check import Check

_MIB, _GIB = 1024**2, 1024**3
_LARGE_LOG = 32 * _MIB  # a server folds it in at about 4 MiB, and warns of so much, too
_FEW_INODES = 1_000  # a server's files are five

# The oldest with STRICT tables.
_OLDEST_SQLITE = (3, 37, 0)
# The WAL-reset bug, https://sqlite.org/wal.html#walresetbug: from the first to before the second;
# two older lines got the repair, too.
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))
_WAL_RESET_REPAIRS = ((3, 44, 6), (3, 50, 7))

# Where SQLite's locks or its shared memory do not hold: what other machines reach, too.
_NETWORK = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("prl_fs", "smb3", "smbfs", "vboxsf", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse"),
    *("fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}
_AS_IT_SAYS = "No server starts with it: do as it says."
_IN_MEMORY = {"tmpfs", "ramfs"}


def file_checks(path: Path) -> Iterator[Check]:
    """Looks at a database file, quickly, and at its surroundings."""
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
    if check := _left_behind(path):
        yield check


async def integrity_check(path: Path) -> Check:
    """Looks at all that is in a database file of ours. It may take long; cancelling it ends it."""
    try:
        faults = await _quick_check(path)
    except sqlite3.Error as error:
        faults = [str(error)]
    if faults:
        finding = f"{path} is damaged: {'; '.join(faults)}"
        return Check("integrity", "failure", finding, "Stop the server, and restore a backup.")
    return Check("integrity", "ok", "the whole file is sound")


def sqlite_check(version: tuple[int, int, int]) -> Check:
    """What is to be known of a version of SQLite."""
    name = ".".join(map(str, version))
    if version < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        advice = f"Run the server with a Python that is linked to SQLite {oldest} or newer."
        return Check("sqlite", "failure", f"version {name} is too old", advice)
    first, repaired = _WAL_RESET_BUG
    backported = any(version[:2] == line[:2] and version >= line for line in _WAL_RESET_REPAIRS)
    if first <= version < repaired and not backported:
        # No warning: servers write and checkpoint under one lock, so none of them can meet it.
        return Check(
            "sqlite",
            "ok",
            f"version {name}, whose WAL-reset bug our servers are safe from as long as no other "
            "program writes to the file or checkpoints it",
        )
    return Check("sqlite", "ok", f"version {name}")


def _database(path: Path) -> Check:
    from bus_server.errors import StoreRefused
    from bus_server.store.sqlite import file, rescue

    if not path.exists():
        advice = f"threadbus serve --db {path} makes it; or say where it is with --db."
        return Check("database", "failure", f"{path} is not there", advice)
    if rescue.is_log_of_another(path):
        finding = f"{_beside(path, '-wal')} was left of another file that was {path} before"
        advice = "The next start moves it aside. sqlite3 must not open the file before that."
        return Check("database", "warning", finding, advice)
    try:
        file.check(path, path.stat().st_uid)  # by whom it is served, too
    except (StoreRefused, OSError) as refusal:
        return Check("database", "failure", str(refusal), _AS_IT_SAYS)
    if path.stat().st_size == 0:
        advice = f"threadbus serve --db {path} makes a database of it."
        return Check("database", "warning", f"{path} is empty", advice)
    return Check("database", "ok", f"{path} is ours, readable and writable")


def _disk(folder: Path) -> Check:
    disk = os.statvfs(folder)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    finding = f"{_size(free)} free of {_size(size)}"
    if free < 64 * _MIB:
        advice = "Make room: posts are refused when it is full, and nothing is lost."
        return Check("disk", "failure", finding, advice)
    # Of a large disk 5 % is plenty.
    if free < max(_GIB, min(size // 20, 20 * _GIB)):
        return Check("disk", "warning", finding, "Make room before it is full.")
    if disk.f_files and disk.f_favail < _FEW_INODES:  # some file systems do not count them
        finding = f"only {disk.f_favail:,} more files can be made (inodes)"
        return Check("disk", "warning", finding, "Remove small files that nobody needs.")
    return Check("disk", "ok", finding)


def file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that a folder is on; empty where that cannot be known."""
    try:
        table = mounts.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
    folder = folder.resolve()
    found, depth = "", 0
    for line in table.splitlines():
        _, where, kind, *_ = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), where))
        # Of two at one place the later one is seen.
        if len(point.parts) >= depth and folder.is_relative_to(point):
            found, depth = kind, len(point.parts)
    return found


def file_system_check(folder: Path, kind: str) -> Check:
    """Whether a store can be on a file system of this type."""
    if kind in _NETWORK:
        return Check(
            "file system",
            "failure",
            f"{folder.resolve()} is on {kind}, a network file system, where SQLite's log is unsafe",
            "Move the file to a disk of the machine that the server runs on.",
        )
    if kind in _IN_MEMORY:
        return Check(
            "file system",
            "warning",
            f"{folder.resolve()} is on {kind}, in memory: it is gone when the machine restarts",
            "Move the file to a disk unless that is meant.",
        )
    return Check("file system", "ok", f"{kind}, local")


def _permissions(path: Path) -> Check:
    from bus_server.errors import StoreRefused
    from bus_server.operator_token import read, token_file
    from bus_server.store.sqlite import file

    token, owner = token_file(path), path.stat().st_uid  # by whom it is served, too
    try:
        if os.path.lexists(token):
            read(token, owner)
    except StoreRefused as refusal:
        advice = f"{_AS_IT_SAYS} If others were here, delete it: the next start makes a new one."
        return Check("permissions", "failure", str(refusal), advice)
    if risks := file.risks(path, owner):
        return Check("permissions", "warning", "; ".join(risks), "Do as it says.")
    return Check("permissions", "ok", "only the owner reads the messages and the operator's token")


def _log(path: Path) -> Check:
    log = _beside(path, "-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _LARGE_LOG:
        return Check(
            "log",
            "warning",
            f"{log} has grown to {_size(size)}",
            "End what has been reading the file for long (a backup, an open sqlite3): the server "
            "then shrinks it.",
        )
    return Check("log", "ok", f"{log} takes {_size(size)}" if size else "there is none now")


def _left_behind(path: Path) -> Check | None:
    """Whether a server that lost its files left some."""
    found = [*path.parent.glob(f"{path.name}.rescued*"), *path.parent.glob(f"{path.name}-wal.*")]
    if not found:
        return None
    finding = f"a server that lost its files left {', '.join(str(file) for file in sorted(found))}"
    advice = "Remove them once the database has all it should; the first hold what it held then."
    return Check("left behind", "warning", finding, advice)


async def _quick_check(path: Path) -> list[str]:
    from bus_server.store.sqlite.file import locate, quoted

    path = locate(path)
    # A file without a log is complete, and looking at it need not make one.
    how = "mode=ro" if _beside(path, "-wal").exists() else "mode=ro&immutable=1"
    uri = f"file:{quoted(path)}?{how}"
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as db:
        query = asyncio.ensure_future(
            asyncio.to_thread(lambda: db.execute("PRAGMA quick_check(3)").fetchall())
        )
        try:
            rows = await asyncio.shield(query)
        except asyncio.CancelledError:
            db.interrupt()
            await asyncio.gather(query, return_exceptions=True)  # it must not outlive `db`
            raise
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}{ending}")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
