"""Writes and restores backups of a store, with the programs of PostgreSQL; and cleans its tables.

pg_dump and pg_restore are fed by pipes: if this process is killed, they end, too.
"""

import asyncio
import contextlib
import logging
import os
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import conninfo, pq

from bus_server import filesystem
from bus_server.errors import BusError, StoreBug, StoreBusy, StoreRefused
from bus_server.partial import full_disk, new_file, partial
from bus_server.store.postgres.connection import (
    Conflict,
    Connection,
    ConnectionLost,
    Database,
)
from bus_server.store.postgres.gather import lock_key
from bus_server.store.postgres.history import PLACE
from bus_server.store.postgres.schema import SCHEMA_VERSION
from bus_server.store.postgres.serving import KEYS

T = TypeVar("T")

#: What the files of pg_dump begin with, in its custom format.
MAGIC = b"PGDMP"
#: Bytes to read at a time.
BLOCK = 1024 * 1024
#: Bytes after which a backup is flushed to the disk.
FLUSH_BYTES = 16 * BLOCK
#: Seconds to wait for a lock that others hold.
LOCK_TIMEOUT = 5.0
#: The tables of a store.
TABLES = (
    *("meta", "writer", "thread", "message", "entry", "request", "addressed", "quiet", "asked"),
    *("participant", "agent", "presence", "token", "purge", "server", "wait"),
)
#: Those that a backup has without rows: they tell of servers that run.
_OF_SERVERS = ("server", "wait")

#: Called with the number of bytes that are done, and of all (0: unknown).
Progress = Callable[[int, int], object]

_WHERE = "SELECT current_schema(), to_regclass('meta') IS NOT NULL"
_ALONE = f"SELECT pg_advisory_lock({KEYS})"
_LOCK = "SELECT pg_try_advisory_lock(%(key)s)"
_KEEP = f"UPDATE meta SET place = {PLACE}"  # noqa: S608
_SIZES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY (%(tables)s)
"""
#: Parameters of libpq that nobody should see.
_SECRETS = {
    option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.dispchar == b"*"
}
_INSTALL = (
    "is not on the PATH: install PostgreSQL's client programs of the database's version, or a newer"
    " one (Debian: postgresql-client)"
)
_MISMATCH = re.compile("server version mismatch|unsupported version")
_TABLE = re.compile(r"^\d+; \d+ \d+ TABLE (\S+) (\S+) ", re.MULTILINE)
_COPIED = re.compile(r"^COPY \S+ \((.*)\) FROM stdin;\n(.*)$", re.MULTILINE)


async def back_up(url: str, target: Path, *, force: bool, progress: Progress) -> None:
    """Write a backup of the store in a database to a new file, in pg_dump's custom format.

    It is of one moment, and servers go on. It was read again, and is on the disk, when this
    returns. In any other case there is no file, or the one that was there before.

    Raises StoreRefused, and OSError if the file cannot be written.
    """
    target = new_file(target, force=force, what="the backup")
    async with _connected(url) as (db, name):
        schema, there = (await db.run((_WHERE, {})))[0][0]
        if not there:
            raise StoreRefused(f"{name} has no store in its schema")
    # Level 1 takes a third of the CPU time of the default, for a few percent more bytes.
    options = ["--format=custom", "--compress=1", "--no-owner", "--no-privileges"]
    options += [f"--table={_name(schema, table)}" for table in (*TABLES, "thread_id")]
    options += [f"--exclude-table-data={_name(schema, table)}" for table in _OF_SERVERS]
    with full_disk(target), partial(target) as draft:
        async with _running("pg_dump", url, *options, stdout=PIPE) as process:
            done = flushed = 0
            while block := await _read(process):
                await asyncio.to_thread(_write, draft.descriptor, block)
                done += len(block)
                progress(done, 0)
                if done - flushed >= FLUSH_BYTES:
                    await asyncio.to_thread(draft.flush)
                    flushed = done
        # Reads and decompresses all of it.
        check = ["--file=/dev/null", str(draft.path)]
        async with _running("pg_restore", "", *check):
            pass
        with filesystem.lock_folder(target.parent):
            draft.place(replace=force)


async def restore(
    source: Path, url: str, *, force: bool, keep_history: bool, progress: Progress
) -> None:
    """Restore a backup into a database, in one transaction.

    The first server that starts on it gives the threads new epochs, as history.py says.

    Args:
        force: whether to replace a store that no server serves.
        keep_history: whether threads keep their epochs: nothing was posted since the backup.

    Raises StoreRefused, and OSError if the file cannot be read.
    """
    async with _connected(url) as (db, name):
        schema, there = (await db.run((_WHERE, {})))[0][0]
        if schema is None:
            raise StoreRefused(f"{name}: no schema of its search_path exists: create one")
        has = await _tables(source, schema)
        # Servers that start wait for this lock before they look for tables, and give up.
        if not (await db.run((_LOCK, {"key": lock_key("schema")})))[0][0][0]:
            raise StoreRefused(f"{name}: a server is starting, or another restore is running")
        if there and not force:
            raise StoreRefused(
                f"{name} has a store in its schema {schema}: name another database, or add"
                " --force to replace it"
            )
        if there:
            try:  # waits, as the lock of a server ends shortly after the server
                await db.run((_ALONE, {}))
            except StoreBusy as error:
                raise StoreRefused(f"{name} is being served: stop every server on it") from error
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        options += ["--clean", "--if-exists"] if there else []
        with source.open("rb") as given:
            size, done = os.fstat(given.fileno()).st_size, 0
            async with _running("pg_restore", url, *options, stdin=PIPE) as process:
                pipe = _pipe(process.stdin)
                with contextlib.suppress(ConnectionError):  # it has failed, and says why
                    while block := await asyncio.to_thread(given.read, BLOCK):
                        pipe.write(block)
                        await pipe.drain()
                        done += len(block)
                        progress(done, size)
                    pipe.close()
                    await pipe.wait_closed()
        # Those of a newer version, which the next start creates again.
        for table in sorted(set(TABLES) - has):
            await db.run_script(f"DROP TABLE IF EXISTS {table}")
        if keep_history:
            await db.run((_KEEP, {}))


async def vacuum(url: str) -> tuple[int, int]:
    """Vacuum and analyse the tables of a store. Returns their sizes before and after, in bytes.

    Servers go on. Raises StoreRefused.
    """
    async with _connected(url) as (db, name):
        if not (await db.run((_WHERE, {})))[0][0][1]:
            raise StoreRefused(f"{name} has no store in its schema")
        sizes = [await _size(db)]
        for table in TABLES:
            await db.run_script(f"VACUUM (ANALYZE) {table}")
        return sizes[0], await _size(db)


async def _size(db: Connection) -> int:
    names = "{" + ",".join(TABLES) + "}"
    return int((await db.run((_SIZES.replace("%(tables)s", f"'{names}'"), {})))[0][0][0])


def _write(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


async def _tables(source: Path, schema: str) -> set[str]:
    """Returns the tables of a backup.

    Raises StoreRefused unless they are those of a store, of this schema and of a known version.
    """
    found = dict(reversed(each) for each in _TABLE.findall(await _printed("--list", str(source))))
    if "meta" not in found:
        raise StoreRefused(f"{source} is not a backup of threadbus")
    if (theirs := found["meta"]) != schema:
        raise StoreRefused(
            f"{source} is of the schema {theirs}, and the URL leads to {schema}: create the schema"
            f" {theirs}, and name it in the URL: ?options=-csearch_path%3D{theirs}"
        )
    meta = _COPIED.search(await _printed("--data-only", "--table=meta", "--file=-", str(source)))
    if meta is None:
        raise StoreRefused(f"{source} is damaged: it has no version. Restore another backup")
    version = dict(zip(meta[1].split(", "), meta[2].split("\t"), strict=False))
    if int(version["compatible"]) > SCHEMA_VERSION:
        raise StoreRefused(
            f"{source} has schema version {version['version']}, and this program knows up to"
            f" {SCHEMA_VERSION}: upgrade threadbus"
        )
    return set(found)


async def _printed(*options: str) -> str:
    """Returns what pg_restore prints with these options. Raises StoreRefused if it fails."""
    async with _running("pg_restore", "", *options, stdout=PIPE) as process:
        return b"".join([block async for block in _blocks(process)]).decode("utf-8", "replace")


async def _blocks(process: Process) -> AsyncIterator[bytes]:
    while block := await _read(process):
        yield block


async def _read(process: Process) -> bytes:
    return await _pipe(process.stdout).read(BLOCK)


def _pipe(stream: T | None) -> T:
    """Returns a pipe that a process was started with."""
    if stream is None:
        raise ValueError("the process has no such pipe")
    return stream


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[Connection, str]]:
    """A connection to a database, and its name. Raises StoreRefused if it fails."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    database = Database(url, "full", LOCK_TIMEOUT)
    database.check_url()
    try:
        connection = await database.connect()
        try:
            yield connection, str(database)
        finally:
            await connection.close()
    except (ConnectionLost, Conflict, BusError, StoreBug) as error:
        raise StoreRefused(f"cannot use {database}: {error}") from error


@contextlib.asynccontextmanager
async def _running(
    program: str, url: str, *options: str, stdin: int = DEVNULL, stdout: int = DEVNULL
) -> AsyncIterator[Process]:
    """Run a program of PostgreSQL; wait for its end after the block, and kill it if that fails.

    `url`: the database that it connects to; empty: none. Raises StoreRefused if the program is
    missing or fails.
    """
    place, environment = _without_password(url)
    try:
        process = await asyncio.create_subprocess_exec(
            program, *place, *options, stdin=stdin, stdout=stdout, stderr=PIPE, env=environment
        )
    except FileNotFoundError:
        raise StoreRefused(f"{program} {_INSTALL}") from None
    errors = asyncio.create_task(_pipe(process.stderr).read())
    try:
        yield process
        said = (await errors).decode("utf-8", "replace").strip()
        if await process.wait():
            raise StoreRefused(_failure(program, said))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        errors.cancel()


def _failure(program: str, said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith(f"{program}: error:")]
    text = " ".join((lines or said.splitlines() or ["it failed"])[0].split())
    if _MISMATCH.search(said):
        detail = "; ".join(line.partition("detail: ")[2] for line in said.splitlines()[1:2])
        return f"{text} ({detail}): install {program} of the newer version, or put it first on PATH"
    return text if text.startswith(program) else f"{program}: {text}"


def _without_password(url: str) -> tuple[Sequence[str], dict[str, str]]:
    """Returns the option for a database, and an environment with its password.

    Raises StoreRefused if the URL has another secret: libpq has no variable for one.
    """
    environment = dict(os.environ)
    if not url:
        return [], environment
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise StoreRefused("this is no connection URI or string of libpq") from error
    if password := given.pop("password", None):
        environment["PGPASSWORD"] = str(password)
    if secrets := sorted(given.keys() & _SECRETS):
        raise StoreRefused(
            f"other users would see {secrets[0]} in the list of processes: put it into"
            " ~/.pg_service.conf, and name the service in the URL: postgresql://?service=NAME"
        )
    given.setdefault("target_session_attrs", "read-write")  # as a server: not a standby
    return [
        f"--dbname={conninfo.make_conninfo(**{key: str(value) for key, value in given.items()})}"
    ], environment


def _name(schema: str, table: str) -> str:
    """Returns the pattern that matches one table."""
    quoted = schema.replace('"', '""')
    return f'"{quoted}".{table}'
