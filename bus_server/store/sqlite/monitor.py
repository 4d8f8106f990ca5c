"""Checks that the files at a store's path are the ones that it has open, and complete."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreLost

#: The header of SQLite's wal-index, the -shm file, which is there twice (size of a page, committed
#: frames of the log, pages of the database, salt of the log), and how many of the frames are in the
#: database. https://sqlite.org/walformat.html#the_wal_index_file_format
_HEADER = 48
_INDEX = struct.Struct("=48x14xHII8xQ8xI")
#: The byte of that file that SQLite locks while it checkpoints.
_CHECKPOINT_LOCK = 121
#: Bytes of the log's header, and of each frame's.
_LOG_HEADER, _FRAME_HEADER = 32, 24

#: Bytes that are read at a time.
_BLOCK = 1024 * 1024


class FileMonitor:
    """Compares the files of an open store with those at their paths.

    SQLite keeps using files that were removed or replaced, and a log that was truncated: what it
    then commits is lost when the process ends, or destroys another file.

    Not thread-safe. Speed matters: each batch of posts is checked twice.
    """

    def __init__(self, path: Path) -> None:
        """Open the files. Raises OSError.

        SQLite must have them open already. Call `close` after SQLite has closed them, since closing
        any descriptor of a file ends all locks of the process on it.
        """
        self.path = path
        #: Why the files are no longer the store's; None if they are. Set by callers.
        self.loss: StoreLost | None = None
        self.log = filesystem.beside(path, "-wal")
        index = filesystem.beside(path, "-shm")
        self._database_file, self._log_file, self._index_file = [
            (str(file), file.stat()) for file in (path, self.log, index)
        ]
        #: At the last `check`: the database's size, and its last checkpoint.
        self._size = 0
        self._checkpoint: tuple[int, int] | None = None
        self._log_size = 0
        #: Descriptor and offset of the last failed read.
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

    def check(self) -> None:
        """Raises StoreLost if a file was removed, replaced or truncated. Takes 12 µs.

        Raises OSError if that cannot be checked.
        """
        self._found(self._index_file)
        if not self._cut():
            return
        # A checkpoint may be truncating the database: it updates the index when it is done. Check
        # again under its lock. This process runs its checkpoints on this thread.
        with contextlib.suppress(BlockingIOError):  # if it is taken, check again next time
            fcntl.lockf(self._index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _CHECKPOINT_LOCK)
            try:
                if cut := self._cut():
                    raise StoreLost(f"{cut} was cut")
            finally:
                fcntl.lockf(self._index, fcntl.LOCK_UN, 1, _CHECKPOINT_LOCK)

    def check_log(self) -> None:
        """Raises StoreLost if the log is shorter than at the last `check`. Takes 1 µs.

        The caller must hold the write lock, so that no server or checkpoint can have truncated it.
        """
        if self.log_size < self._log_size:
            raise StoreLost(f"{self.log} was cut")

    def read_all(self) -> None:
        """Read all of the database and the log. Raises OSError if the disk fails.

        It may take seconds, but is quick while the disk fails at the same offset. Unlike `check`,
        it may be called from any thread.
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
        """Returns whether the database's path is now empty or has another file."""
        return not is_file(*self._database_file)

    def folder_is_moved(self) -> bool:
        """Returns whether the folder was moved, not removed: the database still has a link."""
        here = os.path.isdir(self.path.parent)  # noqa: PTH112 - that one may raise OSError
        return not here and os.fstat(self._database).st_nlink > 0

    def log_is_gone(self) -> bool:
        """Returns whether there is no file at the log's path."""
        return not os.path.lexists(self.log)

    def owns_log(self) -> bool:
        """Returns whether the log at its path is the one that is open."""
        return is_file(*self._log_file)

    def log_is_whole(self) -> bool:
        """Returns whether the log at its path is the one that is open, and not truncated."""
        try:
            return self.owns_log() and self._cut() != str(self.log)
        except (StoreLost, OSError):
            return True  # something else is wrong with the files

    def _cut(self) -> str:
        """Returns the path of a truncated file, "" if there is none. Raises as `check`."""
        # Read the header first: files that grow afterwards are not mistaken for truncated ones.
        index = os.pread(self._index, _INDEX.size, 0)
        size, log_size = self._found(self._database_file), self._found(self._log_file)
        self._log_size = log_size
        if len(index) < _INDEX.size or index[:_HEADER] != index[_HEADER : 2 * _HEADER]:
            return ""  # it is being written
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
            return cut  # the log was not restarted in between
        if not cut:
            self._size, self._checkpoint = size, (salt, checkpointed)
        return ""

    def _found(self, file: tuple[str, os.stat_result]) -> int:
        """Returns the size of the file at a path. Raises as `check`."""
        path, known = file
        try:
            found = os.stat(path)  # noqa: PTH116 - half the time
        except (FileNotFoundError, NotADirectoryError):
            raise StoreLost(f"{path} was removed") from None
        if not os.path.samestat(found, known):
            raise StoreLost(f"{path} was replaced by another file")
        return found.st_size


def is_file(path: str, known: os.stat_result) -> bool:
    """Returns whether the file at `path` has the device and inode of `known`."""
    try:
        return os.path.samestat(Path(path).stat(), known)
    except OSError:
        return False
