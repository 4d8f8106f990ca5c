"""A server's files: names of companion files, drafts, owners, and the lock held at startup."""

import contextlib
import fcntl
import os
import pwd
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds to wait for other servers that start in the same folder; each takes a few milliseconds.
LOCK_TIMEOUT = 10.0
#: Seconds between two attempts to lock.
LOCK_POLL_INTERVAL = 0.005

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock under which servers create files and sockets in `folder` (context manager).

    The folder itself is locked (flock), so no lock file is left behind, and the lock ends with the
    process. Where a file system cannot lock folders (NFS), nothing is locked: of servers that start
    at the same time, some may then refuse to start. Blocks the event loop while it waits.

    Raises:
        TimeoutError: another process held the lock for LOCK_TIMEOUT seconds.
        OSError: the folder cannot be opened.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            lock(handle, timeout=LOCK_TIMEOUT, interval=LOCK_POLL_INTERVAL)
        except TimeoutError:
            raise TimeoutError(
                f"another program has held a lock on {folder} for {LOCK_TIMEOUT:g} s"
            ) from None
        except OSError:
            pass  # not supported, as on NFS
        yield
    finally:
        os.close(handle)


def lock(descriptor: int, *, timeout: float, interval: float) -> None:
    """Take the exclusive lock (flock) of an open file or folder.

    Polls, because a blocking flock has no timeout: a process that hangs while it holds the lock
    must not hang the others.

    Args:
        descriptor: the open file or folder.
        timeout: seconds to wait for another process to release the lock.
        interval: seconds between two attempts.

    Raises:
        TimeoutError: another process held the lock for that long.
        OSError: the file system does not support the lock.
    """
    give_up = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise TimeoutError from None
            time.sleep(interval)
        else:
            return


def beside(path: Path, ending: str) -> Path:
    """Returns the path of a companion file: `path` with an ending appended to its name."""
    return path.with_name(f"{path.name}{ending}")


def draft_of(path: Path) -> Path:
    """Returns a random path beside `path`, at which to write a file that then moves to `path`."""
    return beside(path, f"-draft-{secrets.token_hex(4)}")


def drafts_of(path: Path) -> list[Path]:
    """Returns the existing drafts of `path`, and SQLite's files beside them.

    Drafts are only written under `lock_folder`, so under that lock they are leftovers of servers
    that were killed while they started. Raises OSError if the folder cannot be read.
    """
    draft = re.compile(re.escape(path.name) + r"-draft-[0-9a-f]{8}(-journal|-wal|-shm)?")
    return [found for found in path.parent.iterdir() if draft.fullmatch(found.name)]


def remove_drafts(path: Path) -> None:
    """Remove the drafts of `path` that killed servers left. Call it under `lock_folder`.

    Raises OSError if the folder cannot be read.
    """
    for draft in drafts_of(path):
        with contextlib.suppress(OSError):  # it is another user's, and harmless
            draft.unlink()


def kind_of(status: os.stat_result) -> str:
    """Returns the kind of a file that is not a regular one, such as "a folder"."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")


def user(uid: int) -> str:
    """Returns a user's name, or "user UID" if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def replaceable(folder: Path, uid: int) -> str:
    """Returns why users other than `uid` and root could replace files in `folder`, or "".

    Checks the folder's owner and its permissions for everyone, but not those for its group. Raises
    OSError if the folder cannot be read.
    """
    status = folder.stat()
    if status.st_uid not in (0, uid):
        return f"{folder} belongs to {user(status.st_uid)}, who can replace what is in it"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"any user of this machine can replace what is in {folder}: chmod o-w {folder}"
    return ""
