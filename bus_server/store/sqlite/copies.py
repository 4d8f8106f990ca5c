"""The ends of a copy that are files."""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StorageFull, StoreBusy, StoreLost, StoreRefused
from bus_server.store.clock import StoreClock, boot_id, wall_time
from bus_server.store.commands import MAX_SEQ
from bus_server.store.copies import Clock, Key, Kind, Mark, Row, Source, Table, Target
from bus_server.store.sqlite import connections, file, rescue
from bus_server.store.sqlite.order import WALL
from bus_server.store.sqlite.reads import EVIDENCE_TIME
from bus_server.store.sqlite.write_lock import WriteLock
from threadbus.v1.thread_pb2 import Thread

#: Seconds to wait for the write lock.
LOCK_TIMEOUT = 1.0

#: A thread's id has 31 bits, because the id of a message has room for no more.
_MAX_THREAD_ID = (1 << 31) - 1

_ID = {"thread_id": "id >> 32", "seq": f"id & {MAX_SEQ}"}
# The newest message of a thread.
_HEAD = (
    f"FROM message AS m WHERE m.id BETWEEN thread.id << 32 AND thread.id << 32 | {MAX_SEQ}"
    " ORDER BY m.id DESC LIMIT 1"
)
# How columns are read that are not columns here, or may be NULL.
_READ = {
    "message": _ID,
    "entry": _ID,
    "request": {"post_hash": "coalesce(post_hash, x'')"},
    "thread": {
        "last_seq": f"coalesce((SELECT m.id & {MAX_SEQ} {_HEAD}), first_seq - 1)",
        "last_time": f"coalesce((SELECT m.time {_HEAD}),"
        " iif(first_seq > 1, active_time, create_time(body)))",
    },
}
# How keys are compared, and rows are written, of tables whose columns differ.
_KEYS = {table: ("id", "? << 32 | ?") for table in ("message", "entry")}
_WRITE = {
    "message": "INSERT INTO message VALUES (?1 << 32 | ?2, ?3, ?4, ?5)",
    "entry": "INSERT INTO entry VALUES (?1 << 32 | ?2, ?3, ?4)",
    "thread": "INSERT INTO thread (id, name, epoch, state, sync_mode, active_time, first_seq,"
    " retained, body) VALUES (?1, ?2, ?3, ?4, ?5, ?8, ?9, ?10, ?11)",
}
_MARK = (
    "CREATE TABLE IF NOT EXISTS unfinished_copy"
    " (fingerprint TEXT NOT NULL, shift INTEGER NOT NULL) STRICT"
)


class _File:
    """A database of a store, opened."""

    has_order_times = True

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.name, self._db = str(path), db
        db.create_function("create_time", 1, _create_time, deterministic=True)
        with self._translated():
            ((self.epoch,),) = db.execute("SELECT epoch FROM store")
            row = db.execute("SELECT boot, base FROM clock").fetchone()
        self.clock = None if row is None else Clock(*row)

    def now(self) -> int:
        # As load_clock does.
        with self._translated():
            newest = f"SELECT coalesce(max({EVIDENCE_TIME}), 0) FROM presence"  # noqa: S608
            ((seen,),) = self._db.execute(newest)
        if self.clock is not None and self.clock.boot == boot_id():
            now = StoreClock(self.clock.base).now()
            if self.clock.boot or now >= seen:
                return now
        return max(wall_time(), int(seen))

    def rows(
        self, table: Table, after: Key | None = None, *, order_times: bool = True
    ) -> Generator[Row]:
        read = _READ.get(table.name, {})
        columns = ", ".join(
            f"({read.get(column, column)}) & {WALL}"
            if kind is Kind.ORDER and not order_times
            else read.get(column, column)
            for column, kind in table.columns.items()
        )
        key, given = _key(table)
        newer = "" if after is None else f" AND ({key}) > ({given})"
        query = f"SELECT {columns} {self._from(table)}{newer} ORDER BY {key}"
        with self._translated():
            yield from self._db.execute(query, after or ())

    def count(self, table: Table) -> int:
        with self._translated():
            ((rows,),) = self._db.execute(f"SELECT count(*) {self._from(table)}")
        return int(rows)

    def last_thread_id(self) -> int:
        with self._translated():
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'thread'")
            return int((row.fetchone() or (0,))[0])

    def _from(self, table: Table) -> str:
        if not table.is_of_threads:
            return f"FROM {table.name} WHERE true"
        thread = _READ.get(table.name, {}).get("thread_id", "thread_id")
        return f"FROM {table.name} WHERE {thread} NOT IN (SELECT thread_id FROM purge)"  # noqa: S608

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise StoreRefused instead of SQLite's errors (context manager)."""
        try:
            yield
        except sqlite3.Error as error:
            raise _refused(self.name, error) from error


class FileSource(_File):
    """A file that is read. No server can open it meanwhile."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)
        self._path = path
        self.identity = _identity(path)
        self._state = self._look()

    def check_unchanged(self) -> None:
        if self._look() != self._state:
            raise StoreRefused(
                f"{self.name} was written to while it was copied: end the program that does so, "
                "and start again"
            )

    def _look(self) -> list[tuple[int, int, int]]:
        """Returns what changes if something is written to the database or its log."""
        found = []
        for each in (self._path, filesystem.beside(self._path, "-wal")):
            with contextlib.suppress(FileNotFoundError):
                status = each.stat()
                if status.st_size:
                    found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found


class FileTarget(_File):
    """An unfinished copy in a file."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)
        with self._translated():
            # What is written last is synced; until then, a power failure may undo some steps.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA journal_size_limit = {connections.LOG_LIMIT}").fetchall()
            db.execute("PRAGMA secure_delete = OFF").fetchall()
            db.execute(_MARK)
            row = db.execute("SELECT fingerprint, shift FROM unfinished_copy").fetchone()
        self.mark = None if row is None else Mark(*row)

    def now(self) -> int:
        return wall_time()  # the clock begins with the first server

    def begin(self, mark: Mark) -> None:
        with self._transaction():
            tables = self._db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'store'"
                " AND (name NOT LIKE 'sqlite_%' OR name = 'sqlite_sequence')"
            )
            for (table,) in tables.fetchall():
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608
            self._db.execute("INSERT INTO unfinished_copy (fingerprint, shift) VALUES (?, ?)", mark)
        self.mark = mark

    def last_key(self, table: Table) -> Key | None:
        read = _READ.get(table.name, {})
        columns = ", ".join(read.get(column, column) for column in table.key)
        order = ", ".join(f"{column} DESC" for column in _key(table)[0].split(", "))
        query = f"SELECT {columns} FROM {table.name} ORDER BY {order} LIMIT 1"  # noqa: S608
        with self._translated():
            row: Row | None = self._db.execute(query).fetchone()
        return row

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        values = ", ".join("?" for _ in table.columns)
        columns = ", ".join(table.columns)
        insert = f"INSERT INTO {table.name} ({columns}) VALUES ({values})"  # noqa: S608
        with self._transaction():
            self._db.executemany(_WRITE.get(table.name, insert), rows)

    def finish(self, last_thread_id: int, clock: Clock | None) -> None:
        if last_thread_id > _MAX_THREAD_ID:
            raise StoreRefused(f"{self.name} has no room for ids of threads above 2^31")
        with self._translated():
            faults = self._db.execute("PRAGMA integrity_check(1)").fetchall()
            if faults != [("ok",)]:
                raise StoreRefused(f"{self.name} is damaged ({faults[0][0]}): remove it")
            self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            self._db.execute("DELETE FROM sqlite_sequence")
            if last_thread_id:
                self._db.execute(
                    "INSERT INTO sqlite_sequence VALUES ('thread', ?)", (last_thread_id,)
                )
            self._db.execute("DELETE FROM clock")
            if clock is not None:
                self._db.execute("INSERT INTO clock (boot, base) VALUES (?, ?)", clock)
            self._db.execute(f"PRAGMA application_id = {file.APPLICATION_ID}")
        with self._translated():
            # Servers read the id in the file itself. If it does not get there, the mark is still
            # there, and the copy can be finished again.
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreRefused(f"another program reads {self.name}: end it, and start again")
        with self._transaction():
            self._db.execute("DROP TABLE unfinished_copy")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


@contextlib.contextmanager
def opened_source(path: Path) -> Iterator[Source]:
    """Open the store in a file to copy it. Raises StoreRefused."""
    path = file.locate(path)
    with contextlib.ExitStack() as closing:
        with _file_errors(path):
            if not path.exists() or path.stat().st_size == 0:
                raise StoreRefused(f"there is no store at {path}")
            if rescue.is_log_of_another(path):
                raise StoreRefused(
                    f"{path}-wal belongs to another database: start a server on {path}, which sets "
                    "it aside, stop it, and start again"
                )
            file.check(path, os.geteuid())
            version = file.schema_version(path)
            if version is not None and version < file.SCHEMA_VERSION:
                raise StoreRefused(
                    f"{path} was last served by an older version: start a server of this version "
                    "on it, stop it, and start again"
                )
            closing.enter_context(_locked(path))
            if rescue.is_open(path):
                raise StoreRefused(f"{path} is in use: stop every server on it first")
            # Nothing is written: a log that a killed server left stays. Without one, the file is
            # complete, and reading it must not create one.
            has_log = filesystem.beside(path, "-wal").exists()
            how = "mode=ro" if has_log else "mode=ro&immutable=1"
        try:
            db = sqlite3.connect(f"file:{file.quoted(path)}?{how}", uri=True, isolation_level=None)
            closing.enter_context(contextlib.closing(db))
            db.execute("BEGIN")
        except sqlite3.Error as error:
            raise _refused(str(path), error) from error
        yield FileSource(path, db)


@contextlib.contextmanager
def opened_target(path: Path, source: Source) -> Iterator[Target]:
    """Open an unfinished copy of a store in a file, or create one. Raises StoreRefused."""
    path = file.locate(path)
    if path.exists() and _identity(path) == source.identity:
        raise StoreRefused(f"{path} is the store itself: name another file")
    with contextlib.ExitStack() as closing:
        with _file_errors(path):
            _check_target(path)
            closing.enter_context(_locked(path))
            with filesystem.lock_folder(path.parent):
                _check_target(path)  # again: the other copy may have ended
                filesystem.remove_drafts(path)
                if not path.exists() or path.stat().st_size == 0:
                    file.create(path, file.UNFINISHED_ID, source.epoch)
        try:
            db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise _refused(str(path), error) from error
        closing.enter_context(contextlib.closing(db))
        target = FileTarget(path, db)
        if target.epoch != source.epoch:
            raise StoreRefused(f"{path} is an unfinished copy of another store: name another file")
        yield target


def _check_target(path: Path) -> None:
    """Check that a file is an unfinished copy, or that one can be created. Raises StoreRefused."""
    if path.exists() and path.stat().st_size > 0 and (found := file.header(path)) is not None:
        version, application_id = found
        if application_id == file.UNFINISHED_ID:
            if version != file.SCHEMA_VERSION:
                raise StoreRefused(
                    f"{path} is an unfinished copy by another version: remove it, and start again"
                )
            return
        if application_id == file.APPLICATION_ID:
            raise StoreRefused(f"{path} is a store already: name a file that does not exist")
    file.check(path, os.geteuid())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the write lock of a store, so that no server can start on it (context manager)."""
    lock = WriteLock(path, LOCK_TIMEOUT)
    try:
        with lock.held():
            yield
    except StoreBusy:
        raise StoreRefused(
            f"{path} is in use: stop every server on it first, or wait for the other copy"
        ) from None
    finally:
        lock.close()


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreRefused(f"cannot use {path}: {error.strerror or error}") from error


def _key(table: Table) -> tuple[str, str]:
    """Returns the columns of a table's key as they are here, and placeholders for its values."""
    columns, values = ", ".join(table.key), ", ".join("?" for _ in table.key)
    return _KEYS.get(table.name, (columns, values))


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _create_time(body: bytes) -> int:
    return int(Thread.FromString(body).create_time.ToMicroseconds())


def _refused(name: str, error: sqlite3.Error) -> StoreRefused:
    translated = connections.translate_error(error)
    if isinstance(translated, StorageFull):
        return StoreRefused(f"the disk of {name} is full: make room, and start again to go on")
    if isinstance(translated, StoreLost):
        return StoreRefused(f"{name} is damaged ({error}): restore a backup")
    return StoreRefused(f"cannot use {name}: {error}")
