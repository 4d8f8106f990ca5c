"""Files that have a temporary name until they are whole, so that a crash leaves no part of one."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreRefused

#: Bytes that must stay free on a disk: a server on it refuses posts below one MiB.
MARGIN = 16 * 1024 * 1024
_INFIX = "-partial-"


class Partial:
    """A file beside its later path, removed unless it was placed. `partial` creates it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        while True:
            self.path = filesystem.beside(target, f"{_INFIX}{secrets.token_hex(4)}")
            how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.descriptor = os.open(self.path, how, 0o600)
            with contextlib.suppress(OSError):  # not supported, as on NFS
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if os.fstat(self.descriptor).st_nlink:  # else it was taken for a leftover
                return
            os.close(self.descriptor)

    def flush(self) -> None:
        """Write to the disk what was written so far. Raises OSError."""
        os.fsync(self.descriptor)

    def place(self, *, replace: bool) -> None:
        """Flush the file, and give it its name. The caller must hold the lock of its folder.

        Raises FileExistsError if the name is taken, unless `replace` is set, and OSError.
        """
        self.flush()
        if not replace and os.path.lexists(self.target):
            raise FileExistsError(f"{self.target} exists")
        self.path.replace(self.target)
        flush_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the file, unless it was placed, and close it."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


@contextlib.contextmanager
def partial(target: Path) -> Iterator[Partial]:
    """Create an empty file beside `target`, with mode 0600, to be placed there (context manager).

    Removes what killed processes left of earlier ones. A process that runs keeps its own locked
    (flock). Raises OSError.
    """
    remove_leftovers(target)
    created = Partial(target)
    try:
        yield created
    finally:
        created.discard()


def leftovers(target: Path) -> list[Path]:
    """Returns the partial files of `target` that no process writes. Raises OSError."""
    name = re.compile(re.escape(f"{target.name}{_INFIX}") + "[0-9a-f]{8}")
    found = sorted(file for file in target.parent.iterdir() if name.fullmatch(file.name))
    return [file for file in found if _take(file, remove=False)]


def remove_leftovers(target: Path) -> list[Path]:
    """Remove `leftovers`. Returns those that were removed. Raises OSError."""
    return [file for file in leftovers(target) if _take(file, remove=True)]


def _take(file: Path, *, remove: bool) -> bool:
    """Returns whether nobody holds the lock of a file, and removes it then if `remove` is set."""
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(file, how)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            file.unlink()
    except OSError:  # it is locked, cannot be locked, or is another user's
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_file(path: Path, *, force: bool, what: str) -> Path:
    """Returns where a file can be written, with symbolic links resolved. Only reads.

    Raises StoreRefused if there is one, unless `force` is set; something that is not a regular
    file; or no folder that can be written. `what`: what the file will be, such as "the backup".
    """
    path = Path(os.path.realpath(path))
    if os.path.lexists(path):
        if not path.is_file():
            kind = filesystem.kind_of(path.lstat())
            raise StoreRefused(f"{path} is {kind}: name a file for {what}")
        if not force:
            raise StoreRefused(f"{path} exists: name another file, or add --force to replace it")
    if not path.parent.is_dir():
        raise StoreRefused(f"{path.parent} is not a folder: make it, or name another file")
    if not os.access(path.parent, os.W_OK):
        raise StoreRefused(f"{path.parent} is read-only: name a file elsewhere for {what}")
    return path


def need_space(folder: Path, size: int, what: str) -> None:
    """Raises StoreRefused unless a folder's disk has room for `size` bytes and MARGIN."""
    free = shutil.disk_usage(folder).free
    if free < size + MARGIN:
        needed = (size + MARGIN) / 2**20
        raise StoreRefused(
            f"the disk of {folder} has {free / 2**20:,.0f} MiB free, and {what} needs"
            f" {needed:,.0f} MiB: free some space. Nothing was changed"
        )


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Raise StoreRefused if the disk of `path` is full (context manager)."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreRefused(
            f"the disk of {path.parent} is full: free some space. Nothing was changed"
        ) from error
