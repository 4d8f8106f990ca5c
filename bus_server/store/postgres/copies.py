"""The ends of a copy that are in PostgreSQL."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any, TypeVar

import psycopg

from bus_server.errors import BusError, StorageFull, StoreBug, StoreBusy, StoreRefused
from bus_server.store.copies import TABLES, Clock, Key, Kind, Mark, Row, Source, Table, Target
from bus_server.store.postgres import checks, schema, wording
from bus_server.store.postgres.connection import (
    NOW,
    Conflict,
    Connection,
    ConnectionLost,
    Database,
    translate_error,
)
from bus_server.store.postgres.history import PLACE
from bus_server.store.postgres.serving import KEYS

T = TypeVar("T")

#: Seconds to wait for a lock: that of a server ends shortly after the server.
LOCK_TIMEOUT = 1.0

#: The types of columns.
_TYPES = {
    Kind.INT: "int8",
    Kind.SMALL: "int4",
    Kind.FLAG: "bool",
    Kind.ORDER: "int8",
    Kind.CLOCK: "int8",
    Kind.NAME: "text",
    Kind.TEXT: "bytea",
    Kind.BYTES: "bytea",
}
#: Columns that may be NULL.
_READ = {"status_text": "coalesce(status_text, ''::bytea)"}

_IDENTITY = """
SELECT (SELECT system_identifier FROM pg_control_system()) || '.' || oid || '.' || current_schema()
FROM pg_database WHERE datname = current_database()
"""
_ALONE = f"SELECT pg_advisory_lock({KEYS})"
_NO_WRITES = "LOCK TABLE writer IN SHARE MODE"
_FINISH = (
    "SET LOCAL synchronous_commit = on",
    f"UPDATE meta SET compatible = version, place = {PLACE}",  # noqa: S608
    "DROP TABLE unfinished_copy",
)


class _Schema:
    """The tables of a store, and a connection that nobody else uses."""

    has_order_times = False
    clock: Clock | None = None

    def __init__(self, name: str, db: psycopg.Connection[Row]) -> None:
        self.name, self._db = name, db
        self.identity = str(self._value(_IDENTITY))

    def now(self) -> int:
        return int(self._value(f"SELECT {NOW}"))

    def rows(
        self, table: Table, after: Key | None = None, *, order_times: bool = True
    ) -> Generator[Row]:
        columns = ", ".join(_READ.get(column, column) for column in table.columns)
        key, newer = ", ".join(table.key), ""
        if after is not None:
            given = ", ".join(f"%s::{_TYPES[table.columns[column]]}" for column in table.key)
            newer = f" AND ({key}) > ({given})"
        query = f"COPY (SELECT {columns} {_from(table)}{newer} ORDER BY {key})"
        texts, read = table.kinds(Kind.TEXT), _reading(table)
        with (
            self._translated(),
            self._db.cursor() as cursor,
            cursor.copy(f"{query} TO STDOUT (FORMAT BINARY)", after) as copied,
        ):
            copied.set_types([_TYPES[kind] for kind in table.columns.values()])
            yield from map(read, copied.rows()) if texts else copied.rows()

    def count(self, table: Table) -> int:
        return int(self._value(f"SELECT count(*) {_from(table)}"))

    def last_thread_id(self) -> int:
        last = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM thread_id"
        return int(self._value(last))

    def lock(self) -> None:
        """Lock the servers out. Raises StoreRefused if there are any, or another copy."""
        try:
            self._value(_ALONE)
        except StoreRefused as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise StoreRefused(
                    f"{self.name} is in use: stop every server on it first, or wait for the other "
                    "copy"
                ) from error
            raise

    def _value(self, query: str) -> Any:
        """Returns the value of a query that has one; None: it has no rows."""
        with self._translated():
            row = self._db.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise StoreRefused instead of PostgreSQL's errors (context manager)."""
        try:
            yield
        except psycopg.Error as error:
            if isinstance(translate_error(error), StorageFull):
                why = "its disk is full: make room, and start again to go on"
            else:
                why = str(translate_error(error))
            raise StoreRefused(f"{self.name}: {why}") from error


class SchemaSource(_Schema):
    """A schema that is read. No server can write to it meanwhile."""

    def __init__(self, name: str, db: psycopg.Connection[Row], epoch: str) -> None:
        super().__init__(name, db)
        self.epoch = epoch
        self.lock()
        with self._translated():
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            db.execute(_NO_WRITES)  # not even by a version that does not know the lock

    def check_unchanged(self) -> None:
        """Does nothing: it is read in one snapshot, and locked."""


class SchemaTarget(_Schema):
    """An unfinished copy in a schema."""

    def __init__(self, name: str, db: psycopg.Connection[Row]) -> None:
        super().__init__(name, db)
        self.lock()
        with self._translated():
            row = db.execute("SELECT fingerprint, shift FROM unfinished_copy").fetchone()
        self.mark = None if row is None else Mark(*row)

    def begin(self, mark: Mark) -> None:
        tables = ", ".join(table.name for table in TABLES)
        with self._translated(), self._db.transaction():
            self._db.execute(f"TRUNCATE {tables}, unfinished_copy".encode())
            self._db.execute("INSERT INTO unfinished_copy VALUES (%s, %s)", mark)
        self.mark = mark

    def last_key(self, table: Table) -> Key | None:
        columns = ", ".join(table.key)
        order = ", ".join(f"{column} DESC" for column in table.key)
        query = f"SELECT {columns} FROM {table.name} ORDER BY {order} LIMIT 1"  # noqa: S608
        with self._translated():
            return self._db.execute(query.encode()).fetchone()

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        columns, written = ", ".join(table.columns), _writing(table)
        with (
            self._translated(),
            self._db.transaction(),
            self._db.cursor() as cursor,
            cursor.copy(
                f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)".encode()
            ) as copied,
        ):
            copied.set_types([_TYPES[kind] for kind in table.columns.values()])
            for row in rows:
                copied.write_row(written(row))

    def finish(self, last_thread_id: int, clock: Clock | None) -> None:
        with self._translated(), self._db.transaction():
            if last_thread_id:
                self._db.execute("SELECT setval('thread_id', %s)", (last_thread_id,))
            for statement in _FINISH:
                self._db.execute(statement.encode())


@contextlib.contextmanager
def opened_source(url: str) -> Iterator[Source]:
    """Open the store in a database to copy it. Raises StoreRefused."""
    database = Database(url, "full", LOCK_TIMEOUT)
    epoch = _run(database, lambda db: schema.whole_store(db, database.lock_timeout))
    with contextlib.closing(_connected(database)) as db:
        yield SchemaSource(str(database), db, epoch)


@contextlib.contextmanager
def opened_target(url: str, source: Source) -> Iterator[Target]:
    """Open an unfinished copy of a store in a database, or create one. Raises StoreRefused."""
    database = Database(url, "fast", LOCK_TIMEOUT)
    with contextlib.closing(_connected(database)) as db:
        if _Schema(str(database), db).identity == source.identity:
            raise StoreRefused(f"{database} is the store itself: name another schema")
        timeout, epoch = database.lock_timeout, source.epoch
        _run(database, lambda opened: schema.prepare_copy(opened, timeout, epoch))
        yield SchemaTarget(str(database), db)


def _run(database: Database, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
    """Returns what some work on a connection returns. Raises StoreRefused."""

    async def run() -> T:
        connection = await database.connect()
        try:
            await checks.check(connection, "fast")  # the servers check what they need
            return await work(connection)
        finally:
            await connection.close()

    try:
        database.check_url()
        return asyncio.run(run())
    except (ConnectionLost, Conflict, StoreRefused, StoreBusy, BusError, StoreBug) as error:
        raise StoreRefused(f"cannot use {database}: {error}") from error


def _connected(database: Database) -> psycopg.Connection[Row]:
    """Returns a new connection. Raises StoreRefused."""
    try:
        database.check_url()
        parameters = database.parameters(idle_in_transaction_session_timeout="0")
        return psycopg.connect(parameters, autocommit=True)
    except (psycopg.Error, UnicodeError, ConnectionLost) as error:
        why = wording.connect_failure(error) if isinstance(error, psycopg.Error) else error
        raise StoreRefused(f"cannot use {database}: {why}") from error


def _from(table: Table) -> str:
    if not table.is_of_threads:
        return f"FROM {table.name} WHERE true"
    return f"FROM {table.name} WHERE thread_id NOT IN (SELECT thread_id FROM purge)"  # noqa: S608


def _reading(table: Table) -> Callable[[Row], Row]:
    """Returns the function from what is read here to a row."""
    texts = table.kinds(Kind.TEXT)

    def read(row: Row) -> Row:
        values = list(row)
        for at in texts:
            values[at] = values[at].decode()
        return tuple(values)

    return read


def _writing(table: Table) -> Callable[[Row], Sequence[Any]]:
    """Returns the function from a row to what is written here."""
    texts, flags = table.kinds(Kind.TEXT), table.kinds(Kind.FLAG)
    if not texts and not flags:
        return lambda row: row

    def written(row: Row) -> Sequence[Any]:
        values = list(row)
        for at in texts:
            values[at] = values[at].encode()
        for at in flags:
            values[at] = bool(values[at])
        return values

    return written
