"""Checks that the files at a store's path are the ones that it has open, and are complete."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreLost

#: The start of SQLite's wal-index (the -shm file): two copies of its header, of _HEADER bytes each,
#: then the number of the log's frames that are in the database already. What is unpacked of the
#: second copy: page size, committed frames of the log, pages of the database, salts of the log.
#: https://sqlite.org/walformat.html#the_wal_index_file_format
_HEADER = 48
_INDEX = struct.Struct("=48x14xHII8xQ8xI")
#: The byte of that file that SQLite locks while it checkpoints.
_CHECKPOINT_LOCK = 121
#: Bytes of the log's header, and of each frame's.
_LOG_HEADER, _FRAME_HEADER = 32, 24

#: Bytes that read_all reads at a time.
_BLOCK = 1024 * 1024


class FileMonitor:
    """A monitor of an open store's files: removed, replaced and truncated ones are detected.

    SQLite keeps using files that were removed or replaced, and a log that was truncated: what it
    then commits is lost when the process ends, or destroys another file.

    Not thread-safe. `check` must be fast: it runs twice for each batch of posts.
    """

    def __init__(self, path: Path) -> None:
        """Open the files. Raises OSError.

        SQLite must have them open already. Call `close` after SQLite has closed them, since closing
        any descriptor of a file ends all locks of the process on it.
        """
        self.path = path
        #: How the store was lost; None if it was not. Set by callers.
        self.loss: StoreLost | None = None
        self.log = filesystem.beside(path, "-wal")
        index = filesystem.beside(path, "-shm")
        self._database_file, self._log_file, self._index_file = [
            (str(file), file.stat()) for file in (path, self.log, index)
        ]
        #: As of the last `check`: the sizes of database and log in bytes; the log's salt and how
        #: many of its frames were in the database.
        self._size = 0
        self._checkpoint: tuple[int, int] | None = None
        self._log_size = 0
        #: Descriptor and offset at which read_all failed; None if it succeeded.
        self._unreadable: tuple[int, int] | None = None
        self._index = os.open(index, os.O_RDONLY | os.O_CLOEXEC)
        self._log = os.open(self.log, os.O_RDONLY | os.O_CLOEXEC)
        self._database = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the files."""
        for opened in (self._index, self._log, self._database):
            os.close(opened)

    @property
    def log_size(self) -> int:
        """The size of the open log in bytes; the last one known if that cannot be read."""
        with contextlib.suppress(OSError):
            return os.lseek(self._log, 0, os.SEEK_END)
        return self._log_size

    @property
    def size(self) -> int:
        """The size of the open database in bytes."""
        return os.fstat(self._database).st_size

    @property
    def disk_free(self) -> int:
        """Bytes that are free for this process in the file system of the open database."""
        found = os.fstatvfs(self._database)
        return found.f_bavail * found.f_frsize

    def check(self) -> None:
        """Check the files. Takes 12 µs.

        Raises:
            StoreLost: a file was removed, replaced or truncated.
            OSError: the files cannot be examined.
        """
        self._found(self._index_file)
        if not self._cut():
            return
        # A checkpoint of another process may be truncating the database: it updates the index when
        # it is done. Check again under its lock. This process's checkpoints run on this OS thread.
        with contextlib.suppress(BlockingIOError):  # it is running: leave it to the next `check`
            fcntl.lockf(self._index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _CHECKPOINT_LOCK)
            try:
                if cut := self._cut():
                    raise StoreLost(f"{cut} was truncated")
            finally:
                fcntl.lockf(self._index, fcntl.LOCK_UN, 1, _CHECKPOINT_LOCK)

    def check_log(self) -> None:
        """Raises StoreLost if the log is shorter than at the last `check`. Takes 1 µs.

        The caller must hold the write lock, so that no server or checkpoint can have truncated it.
        """
        if self.log_size < self._log_size:
            raise StoreLost(f"{self.log} was truncated")

    def read_all(self) -> None:
        """Read all of the database and the log. Raises OSError if the disk fails.

        It can take seconds, but starts with the read that failed last time. Unlike `check`, it may
        be called on any OS thread.
        """
        if self._unreadable:
            os.pread(self._unreadable[0], _BLOCK, self._unreadable[1])
        for opened in (self._database, self._log):
            at = 0
            try:
                while read := os.pread(opened, _BLOCK, at):
                    at += len(read)
            except OSError:
                self._unreadable = opened, at
                raise
        self._unreadable = None

    def is_moved(self) -> bool:
        """Returns whether the database was removed from its path, or replaced there."""
        return not is_file(*self._database_file)

    def folder_is_moved(self) -> bool:
        """Returns whether the folder was moved, not removed: the open database still has a link."""
        here = os.path.isdir(self.path.parent)  # noqa: PTH112 - Path.is_dir may raise OSError
        return not here and os.fstat(self._database).st_nlink > 0

    def log_is_gone(self) -> bool:
        """Returns whether there is no file at the log's path."""
        return not os.path.lexists(self.log)

    def owns_log(self) -> bool:
        """Returns whether the log at its path is the one that is open."""
        return is_file(*self._log_file)

    def log_is_whole(self) -> bool:
        """Returns whether the log at its path is the one that is open, and not truncated.

        Returns True if that cannot be examined.
        """
        try:
            return self.owns_log() and self._cut() != str(self.log)
        except (StoreLost, OSError):
            return True  # something other than the log is wrong

    def _cut(self) -> str:
        """Returns the path of a truncated file; "" if there is none. Raises what `check` raises."""
        # Read the header first: files that grow afterwards are not mistaken for truncated ones.
        index = os.pread(self._index, _INDEX.size, 0)
        size, log_size = self._found(self._database_file), self._found(self._log_file)
        self._log_size = log_size
        if len(index) < _INDEX.size or index[:_HEADER] != index[_HEADER : 2 * _HEADER]:
            return ""  # the header is being written
        page_size, frames, pages, salt, checkpointed = _INDEX.unpack(index)
        page_size = page_size if page_size > 1 else 65_536
        needed = 0
        if frames == checkpointed and pages:
            needed = pages * page_size
        elif (salt, checkpointed) == self._checkpoint:
            # Only a checkpoint changes the size, and there has been none since.
            needed = min(self._size, pages * page_size) if pages else self._size
        cut = ""
        if frames and log_size < _LOG_HEADER + frames * (page_size + _FRAME_HEADER):
            cut = str(self.log)
        elif size < needed:
            cut = str(self.path)
        if cut and os.pread(self._index, _INDEX.size, 0) == index:
            return cut  # the log was not restarted after the sizes were read
        if not cut:
            self._size, self._checkpoint = size, (salt, checkpointed)
        return ""

    def _found(self, file: tuple[str, os.stat_result]) -> int:
        """Returns the size of a file, after checking that its path still leads to it.

        Raises what `check` raises.
        """
        path, known = file
        try:
            found = os.stat(path)  # noqa: PTH116 - takes half as long as Path.stat
        except (FileNotFoundError, NotADirectoryError):
            raise StoreLost(f"{path} was removed") from None
        if not os.path.samestat(found, known):
            raise StoreLost(f"{path} was replaced by another file")
        return found.st_size


def is_file(path: str, known: os.stat_result) -> bool:
    """Returns whether the file at `path` has the device and inode of `known`.

    Returns False if there is none, or it cannot be examined.
    """
    try:
        return os.path.samestat(Path(path).stat(), known)
    except OSError:
        return False
