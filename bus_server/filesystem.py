"""Files and folders of a server: who else has a hand in them, and starts that take turns."""

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

#: Seconds to wait for others that start in the same folder; each takes some milliseconds.
PATIENCE = 10.0
#: Seconds between two looks whether it is our turn.
TURN = 0.005

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock under which servers create files and sockets in `folder`.

    The lock is the folder's own (flock), so it leaves no file behind and ends with its process.
    Where a file system has no locks for folders, starts at one instant may refuse each other.

    Raises:
        OSError: the folder cannot be read, or somebody else held the lock for PATIENCE.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise TimeoutError(
                        f"another program has held a lock on {folder} for {PATIENCE:g} s"
                    ) from None
                time.sleep(TURN)
            except OSError:
                break  # there are none, as on NFS
        yield
    finally:
        os.close(handle)


def beside(path: Path, ending: str) -> Path:
    """Returns the path of the file that belongs to `path`: its name and an ending."""
    return path.with_name(f"{path.name}{ending}")


def draft_of(path: Path) -> Path:
    """Returns a path, which nothing has yet, to write a new file at before it gets its name."""
    return beside(path, f"-draft-{secrets.token_hex(4)}")


def drafts_of(path: Path) -> list[Path]:
    """Returns the drafts of `path`, and SQLite's files beside them, that are there.

    Drafts are only written under `alone_in`: to who holds it they are left of killed starts.
    """
    draft = re.compile(re.escape(path.name) + r"-draft-[0-9a-f]{8}(-journal|-wal|-shm)?")
    return [found for found in path.parent.iterdir() if draft.fullmatch(found.name)]


def remove_drafts(path: Path) -> None:
    """Remove what killed starts left of `path`. Call it under `alone_in`."""
    for draft in drafts_of(path):
        with contextlib.suppress(OSError):  # another user's: it does no harm
            draft.unlink()


def kind_of(status: os.stat_result) -> str:
    """Returns what a thing is that is no regular file, such as "a folder"."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")


def user(uid: int) -> str:
    """Returns a user's name, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def replaceable(folder: Path, uid: int) -> str:
    """Returns why others than this user could replace the files in `folder`; empty: they cannot."""
    status = folder.stat()
    if status.st_uid not in (0, uid):
        return f"{folder} belongs to {user(status.st_uid)}, who can replace what is in it"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"any user of this machine can replace what is in {folder}: chmod o-w {folder}"
    return ""
