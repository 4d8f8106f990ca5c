"""The database file: made whole or not at all, and looked at before SQLite may touch it."""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import struct
import urllib.parse
from pathlib import Path

from bus_server.errors import StoreRefused
from bus_server.store import rescue

logger = logging.getLogger(__name__)

#: SQLite's application_id of our files: "TBus".
APPLICATION_ID = 0x54427573
SCHEMA_VERSION = 4
_TABLES = ("thread", "message", "request", "participant", "agent", "token", "purge")
#: By the version that they came with.
_LATER_TABLES = {2: "presence", 4: "entry"}


def prepare(path: Path) -> None:
    """Make sure that a store of ours is at `path`; make one where there is nothing.

    Raises:
        StoreRefused: there is something else, or it cannot be written. It is untouched.
    """
    _check_folder(path.parent)
    log = path.with_name(f"{path.name}-wal")
    left_over = log.exists()  # looked at first: another server makes its log after its file
    if not path.exists() or path.stat().st_size == 0:
        if left_over:
            raise StoreRefused(
                f"{log} is left of a database that is gone, and may hold its newest messages: put "
                "the database back beside it, or move the log elsewhere"
            )
        if (saved := rescue.rescued(path)).exists():
            raise StoreRefused(
                f"{path} was lost under a running server, which saved what it held. To go on with "
                f"that: mv {saved} {path}. To begin anew, move {saved} elsewhere"
            )
        _create(path)
    elif rescue.is_log_of_another(path):
        # SQLite would replay it into this one, and destroy it.
        aside = rescue.set_aside(path)
        logger.warning("%s was left of another %s: it is %s now", log, path, aside)
    check(path)


def check(path: Path) -> None:
    """Make sure that a file is a store of ours that can be served. It is only read.

    Raises StoreRefused.
    """
    _check_folder(path.parent)
    rescue.check_complete(path)
    _check(path, path.with_name(f"{path.name}-wal"))


def upgrade(db: sqlite3.Connection) -> None:
    """Bring an older file's schema up to date: each version in a transaction, or not at all."""
    while True:
        db.execute("BEGIN IMMEDIATE")  # from here on no other server can do the same
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version >= SCHEMA_VERSION:
                return
            script = Path(__file__).with_name(f"upgrade-{version + 1}.sql").read_text("utf-8")
            for statement in script.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def quoted(path: Path) -> str:
    """The path as a part of SQLite's file: URIs."""
    return urllib.parse.quote(str(path))


def _create(path: Path) -> None:
    """Build the schema beside `path`, then put it there at once.

    So that a crash, or another server starting at the same moment, leaves a whole file or none.
    """
    draft = path.with_name(f"{path.name}-draft-{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
            db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            db.execute("INSERT INTO store (epoch) VALUES (?)", (secrets.token_hex(8),))
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            _replace_empty(path, draft)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, must outlive a power cut
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefused(f"cannot make a database at {path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _replace_empty(path: Path, draft: Path) -> None:
    """Put the draft in an empty file's place, unless another server was first."""
    with path.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        now = path.stat()
        if os.path.samestat(now, os.fstat(opened.fileno())) and now.st_size == 0:
            draft.replace(path)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreRefused(f"{folder} is not a folder: make it, or choose another --db")
    if not os.access(folder, os.W_OK):
        raise StoreRefused(f"{folder} is read-only: the database needs a folder it can write to")


def _check(path: Path, log: Path) -> None:
    # The header is read as bytes: opening it with SQLite could already change a foreign file.
    try:
        if not os.access(path, os.W_OK):
            raise StoreRefused(f"{path} is read-only: the database must be writable")
        with path.open("rb") as opened:
            header = opened.read(100)
    except OSError as error:
        raise StoreRefused(f"cannot read {path}: {error}") from error
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise StoreRefused(f"{path} is not a SQLite database: choose another --db")
    version, application_id = struct.unpack(">60xI4xI28x", header)
    if application_id != APPLICATION_ID:
        raise StoreRefused(f"{path} belongs to another program: choose another --db")
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"{path} has schema version {version}, this server knows {SCHEMA_VERSION}: "
            "upgrade threadbus"
        )
    try:
        # A file without a log is complete, and looking at it need not make one.
        _look(path, "mode=ro" if log.exists() else "mode=ro&immutable=1", version)
    except sqlite3.Error as error:
        if not log.exists():
            raise _damaged(path, error) from error
        try:
            _look(path, "mode=ro", version)  # another server may just have begun to write to it
        except sqlite3.Error as again:
            raise _damaged(path, again) from again


def _damaged(path: Path, error: sqlite3.Error) -> StoreRefused:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreRefused(f"{path} is locked by another program: end that first")
    return StoreRefused(f"{path} is damaged ({error}): restore a backup")


def _look(path: Path, how: str, version: int) -> None:
    """Walk the table definitions and the first page of each table. Raises sqlite3.Error."""
    uri = f"file:{quoted(path)}?{how}"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        later = (table for since, table in _LATER_TABLES.items() if version >= since)
        for table in (*_TABLES, *later):
            db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall()  # noqa: S608
        if db.execute("SELECT count(*) FROM store").fetchone() != (1,):
            raise sqlite3.DatabaseError("its identity is missing")
