"""Locates, checks and creates the database file, before the store opens it."""

import contextlib
import logging
import os
import re
import secrets
import sqlite3
import stat
import struct
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from bus_server import filesystem
from bus_server.errors import StoreRefused
from bus_server.store.sqlite import rescue

logger = logging.getLogger(__name__)

#: SQLite's application_id of our files: "TBus".
APPLICATION_ID = 0x54427573
#: That of copies that are not finished, which no server may serve: "TBuC".
UNFINISHED_ID = 0x54427543
SCHEMA_VERSION = 12
_TABLES = ("thread", "message", "request", "participant", "agent", "token", "purge")
#: The tables added after version 1, by the version that added them.
_LATER_TABLES = {
    "presence": 2,
    "entry": 4,
    "clock": 5,
    "server": 7,
    "wait": 7,
    "addressed": 9,
    "quiet": 9,
    "asked": 10,
}


#: Endings of a store's files: the database, and those that SQLite and servers keep beside it.
_ENDINGS = ("", "-wal", "-shm", "-journal", "-writer")
#: Bytes of the longest ending: that of the journal of a draft of a rescued file.
_LONGEST_ENDING = 31
_LONGEST_NAME = 255


def locate(path: Path) -> Path:
    """Returns the path of the database that `path` leads to, with symbolic links resolved.

    The other files of a store are found by this path: servers that reach a database by different
    links can share it only if they all call this first. Only reads.

    Raises:
        StoreRefused: there can be no database at `path`.
    """
    if not path.name:
        raise StoreRefused("--db names no file: give one, such as threadbus.db")
    if str(path) == ":memory:":
        raise StoreRefused(
            "--db :memory: is not supported, as messages must outlive the server: name a file"
        )
    if re.match(r"file:|[a-z][a-z0-9+.-]*:/", str(path)):
        raise StoreRefused(f"--db {path} is a URI: name a file, such as threadbus.db")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StoreRefused(f"--db {str(path)!a} is not UTF-8: choose another name") from None
    if len(os.fsencode(path.name)) > _LONGEST_NAME - _LONGEST_ENDING:
        raise StoreRefused(
            f"the name {path.name} is too long: {_LONGEST_NAME - _LONGEST_ENDING} bytes leave room "
            "for those of the files beside it"
        )
    try:
        link = path.lstat()
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
            raise StoreRefused(
                f"{path} is a symbolic link that belongs to {filesystem.user(link.st_uid)}: name "
                "the file that it leads to"
            )
        _check_kind(path, path.stat())
    except FileNotFoundError:
        pass  # it will be created there
    except OSError as error:
        raise StoreRefused(f"cannot use {path} ({error.strerror}): choose another --db") from error
    try:
        real = Path(os.path.realpath(path))
        return path if real == Path(os.path.abspath(path)) else real  # noqa: PTH100 - without links
    except OSError as error:
        raise StoreRefused("the current folder is gone: change to another one") from error


def token_file(path: Path) -> Path:
    """Returns the file that holds the operator token of the store at `path`."""
    return filesystem.beside(path, ".operator-token")


def files(path: Path) -> list[Path]:
    """Returns the files that a store at `path` can have, whether they exist or not."""
    return [*(filesystem.beside(path, ending) for ending in _ENDINGS), token_file(path)]


@contextlib.contextmanager
def prepared(path: Path) -> Iterator[None]:
    """Check the store at `path`, or create one if there is none or the file is empty.

    Also removes the drafts of killed servers, and sets aside the log of another database. Within
    the block, no restore replaces the file: open it there (context manager).

    Raises:
        StoreRefused: the file is not a store, is damaged, cannot be created or written, or others
            can write to it. The file was not changed.
    """
    folder = path.parent
    try:
        _check_folder(folder)
        with filesystem.lock_folder(folder):
            _check_files(path, os.geteuid())  # before anything is moved
            if rescue.is_log_of_another(path):
                # SQLite would replay it into this database, and so destroy the database.
                log, aside = filesystem.beside(path, "-wal"), rescue.set_aside(path)
                logger.warning("%s belonged to another %s: it was renamed to %s", log, path, aside)
            check(path, os.geteuid())
            filesystem.remove_drafts(path)
            if not path.exists() or path.stat().st_size == 0:
                create(path, APPLICATION_ID, secrets.token_hex(8))
                check(path, os.geteuid())
            yield
    except OSError as error:
        raise StoreRefused(f"cannot use {path}: {error.strerror or error}") from error


def check(path: Path, uid: int) -> None:
    """Check whether a server of this user can serve the store at `path`, or create one there.

    Only reads.

    Raises:
        StoreRefused: it cannot. The message says why.
        OSError: the files cannot be read.
    """
    _check_folder(path.parent)
    log = filesystem.beside(path, "-wal")
    left_over = log.exists()  # checked first: another server creates its log after its file
    version = _check_files(path, uid)
    if version is not None:
        rescue.check_complete(path)
        _check_tables(path, log, version)
    elif left_over:
        raise StoreRefused(
            f"{log} is the log of a database that is gone, and may hold its newest messages: put "
            "the database back beside it, or move the log elsewhere"
        )
    elif saved := rescue.rescued(path):
        raise StoreRefused(
            f"{path} was lost under a running server, which saved what it held. Unless the server "
            f"logged that this is damaged, continue with it: mv {saved} {path}. To start over, "
            f"move {saved} elsewhere"
        )


def risks(path: Path, uid: int) -> list[str]:
    """Returns how other users could read or change the store at `path`, one sentence each.

    Raises OSError if the files cannot be examined.
    """
    loose = []
    for file in (filesystem.beside(path, ending) for ending in _ENDINGS):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mode & 0o077:
                loose.append(str(file))
    found = []
    if loose:
        found.append(
            f"other users can open {' and '.join(loose)}, so that they can read messages or hold "
            f"up posts: chmod 600 {' '.join(loose)} unless that is meant"
        )
    owner = path.stat().st_uid
    if owner not in (0, uid):
        found.append(
            f"{path} belongs to {filesystem.user(owner)}, who can change all that is in it"
        )
    if folder := filesystem.replaceable(path.parent, uid):
        found.append(folder)
    return found


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreRefused(f"{folder} is not a folder: make it, or choose another --db")
    if not os.access(folder, os.W_OK):
        raise StoreRefused(
            f"{folder.absolute()} is read-only: the database needs a folder that the server can "
            "write to; choose another --db"
        )


def _check_files(path: Path, uid: int) -> int | None:
    """Check the kinds and owners of the files. Returns the schema version.

    Returns None if there is no database; an empty file is none. Raises what `check` raises.
    """
    version = None
    if path.exists():
        _check_kind(path, path.stat())
        if path.stat().st_size > 0:
            version = _version(path)
    _check_owners(path, uid)  # last, so that another program's file is refused as such
    return version


def _check_kind(file: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise StoreRefused(f"{file} is a folder: name a file in it, such as {file}/threadbus.db")
    if not stat.S_ISREG(status.st_mode):
        raise StoreRefused(
            f"{file} is {filesystem.kind_of(status)}, not a regular file: choose another --db"
        )


def _check_owners(path: Path, uid: int) -> None:
    """Check that each of a store's files is a regular one that is safe to use.

    It must belong to this user or root (if this user is root, also to the owner of the database),
    not be world-writable, and have no other hard link. SQLite replays what it finds in a log or a
    journal: write access to one is write access to the database. Raises StoreRefused.
    """
    trusted = {0, uid}
    if uid == 0:  # as in a container: root may serve a file that a user of the host owns
        with contextlib.suppress(FileNotFoundError):
            trusted.add(path.stat().st_uid)
    for file in (filesystem.beside(path, ending) for ending in _ENDINGS):
        try:
            status = file.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise StoreRefused(
                f"{file} is {filesystem.kind_of(status)}, not a file of a server: remove it, or "
                "choose another --db"
            )
        if status.st_uid not in trusted:
            owner, we = filesystem.user(status.st_uid), filesystem.user(uid)
            raise StoreRefused(
                f"{file} belongs to {owner}, and the server runs as {we}: run it as {owner}, or "
                f"chown {we} {file}"
            )
        if status.st_mode & stat.S_IWOTH:
            raise StoreRefused(f"any user of this machine can write to {file}: chmod 600 {file}")
        drafts = filesystem.drafts_of(path) if status.st_nlink > 1 else []
        if status.st_nlink > 1 + sum(draft.samefile(file) for draft in drafts):
            raise StoreRefused(
                f"{file} has a second name elsewhere (a hard link), and a server there would "
                "damage it: remove the other name, or serve a copy"
            )


def quoted(path: Path) -> str:
    """Returns the path, quoted for use in SQLite's file: URIs."""
    return urllib.parse.quote(str(path))


def create(path: Path, application_id: int, epoch: str) -> None:
    """Create the database in a draft beside `path`, then move it there.

    A crash leaves a whole file or none. Call it under `lock_folder`. Raises StoreRefused.
    """
    draft = filesystem.draft_of(path)
    try:
        draft.touch(mode=0o600, exist_ok=False)
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.execute(f"PRAGMA application_id = {application_id}")
            schema = Path(__file__).with_name("schema.sql").read_text("utf-8")
            db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            db.execute("INSERT INTO store (epoch) VALUES (?)", (epoch,))
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        # That of a database that is gone: SQLite would roll it back into this one.
        filesystem.beside(path, "-journal").unlink(missing_ok=True)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            if path.stat().st_size == 0:  # else another program has created it
                draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the name survives a power failure
        finally:
            os.close(folder)
    except (OSError, sqlite3.Error) as error:
        raise StoreRefused(f"cannot make a database at {path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _version(path: Path) -> int:
    """Returns the schema version of a store's file.

    Raises StoreRefused for any other file, a read-only one, or one of a newer version.
    """
    if not os.access(path, os.W_OK):
        raise StoreRefused(f"{path} is read-only: the database must be writable")
    found = header(path)
    if found is None:
        raise StoreRefused(f"{path} is not a SQLite database: choose another --db")
    version, application_id = found
    if application_id == UNFINISHED_ID:
        raise StoreRefused(
            f"{path} is an unfinished copy of a store: repeat the `threadbus copy` that began it, "
            "or remove the file"
        )
    if application_id != APPLICATION_ID:
        raise StoreRefused(f"{path} belongs to another program: choose another --db")
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"{path} has schema version {version}, this server knows {SCHEMA_VERSION}: "
            "upgrade threadbus"
        )
    return version


def schema_version(path: Path) -> int | None:
    """Returns the schema version of a store's file; 0 for another program's database.

    Returns None for a file that is no SQLite database. Raises StoreRefused if it cannot be read.
    """
    found = header(path)
    if found is None:
        return None
    version, application_id = found
    return version if application_id == APPLICATION_ID else 0


def header(path: Path) -> tuple[int, int] | None:
    """Returns the schema version and the application_id of a database, as they are in the file.

    Returns None for a file that is no SQLite database. Raises StoreRefused if it cannot be read.
    """
    # Read the header directly: SQLite could change another program's file by opening it.
    try:
        with path.open("rb") as opened:
            found = opened.read(100)
    except OSError as error:
        raise StoreRefused(f"cannot read {path}: {error}") from error
    if len(found) < 100 or not found.startswith(b"SQLite format 3\0"):
        return None
    version, application_id = struct.unpack(">60xI4xI28x", found)
    return version, application_id


def _check_tables(path: Path, log: Path, version: int) -> None:
    try:
        # A file without a log is complete, and reading it must not create one.
        _validate_tables(path, "mode=ro" if log.exists() else "mode=ro&immutable=1", version)
    except sqlite3.Error as error:
        if not log.exists():
            raise _damaged(path, error) from error
        try:  # again: another server may have just begun to write to the file
            _validate_tables(path, "mode=ro", version)
        except sqlite3.Error as again:
            raise _damaged(path, again) from again


def _damaged(path: Path, error: sqlite3.Error) -> StoreRefused:
    # PROTOCOL: a program that has stopped holds a lock that is otherwise held for microseconds.
    locked = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in locked:
        return StoreRefused(f"{path} is locked by another program: end that first")
    return StoreRefused(f"{path} is damaged ({error}): restore a backup")


def _validate_tables(path: Path, how: str, version: int) -> None:
    """Check that all tables exist and can be read. Raises sqlite3.Error.

    Reads the definition and the first row of each. `how`: the parameters of SQLite's URI.
    """
    uri = f"file:{quoted(path)}?{how}"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        later = (table for table, since in _LATER_TABLES.items() if version >= since)
        for table in (*_TABLES, *later):
            db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall()  # noqa: S608
        if db.execute("SELECT count(*) FROM store").fetchone() != (1,):
            raise sqlite3.DatabaseError("its identity is missing")
