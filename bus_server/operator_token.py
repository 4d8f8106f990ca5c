"""The operator's token, in a file that only the server's user can read."""

import errno
import os
import stat
from pathlib import Path

from bus_server import filesystem
from bus_server.auth import new_token
from bus_server.errors import StoreRefused
from threadbus.names import TOKEN

#: Maximum bytes to read: more than any token has.
_MAX_READ = 1024


def operator_token(path: Path) -> str:
    """Returns the operator's token in a file, creating the file if there is none.

    Raises:
        StoreRefused: the file holds no valid token, or another user may have written or read it.
        OSError: the file cannot be created, or the folder stays locked.
    """
    with filesystem.lock_folder(path.parent):
        filesystem.remove_drafts(path)
        if not os.path.lexists(path):
            _create(path)
    return read(path, os.geteuid())


def read(path: Path, uid: int) -> str:
    """Returns the token in a file.

    Raises StoreRefused if the file cannot be read or holds no valid token, or if a user other than
    `uid` may have written or read it.
    """
    # NONBLOCK: opening a named pipe would hang. NOFOLLOW: a link may lead to another user's file.
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, how)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _not_regular(path, path.lstat()) from error
        raise StoreRefused(f"cannot read {path}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as opened:
        _check(path, os.fstat(handle), uid)
        secret = opened.read(_MAX_READ).decode("utf-8", "replace").strip()
    if not TOKEN.fullmatch(secret):
        raise StoreRefused(
            f"{path} has no valid token: delete it; the next start creates a new one"
        )
    return secret


def _check(path: Path, status: os.stat_result, uid: int) -> None:
    """Check that only `uid` can have written or read the file. Raises StoreRefused."""
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(path, status)
    if status.st_uid != uid:
        owner, we = filesystem.user(status.st_uid), filesystem.user(uid)
        raise StoreRefused(
            f"{path} belongs to {owner}, who could act as operator; the server runs as {we}: run "
            f"it as {owner}, or delete the file for a new token"
        )
    if status.st_mode & 0o077:
        raise StoreRefused(
            f"others can read or write {path}: chmod 600 {path}, or delete it for a new token"
        )
    if status.st_nlink > 1:
        raise StoreRefused(
            f"{path} has a second name elsewhere (a hard link): delete it for a new token"
        )


def _not_regular(path: Path, status: os.stat_result) -> StoreRefused:
    return StoreRefused(
        f"{path} is {filesystem.kind_of(status)}, but the operator's token is only read from a "
        "regular file: remove it; the next start creates a new one"
    )


def _create(path: Path) -> None:
    """Create the file with a new token, atomically, readable by its owner only. Raises OSError."""
    draft = filesystem.draft_of(path)
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as opened:
            opened.write(new_token() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
