"""Stores in files for tests of backups: filled, and what is in them."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests import own_bus
from tests.store.commits import commit, create, post


def filled(db: Path, *, messages: int, size: int = 1_000, thread: str = "t") -> Path:
    """Create a store whose thread has messages with `size` bytes that cannot be compressed."""

    async def fill() -> None:
        async with own_bus.opened(db) as store:
            texts = [f"{number} {os.urandom(size // 2).hex()}" for number in range(messages)]
            await commit(store, create(thread), *(post(thread, content=text) for text in texts))

    asyncio.run(fill())
    return db


def rows(db: Path, query: str) -> list[tuple[object, ...]]:
    """Returns the rows of a query on a store that nobody serves."""
    with contextlib.closing(sqlite3.connect(db)) as opened:
        return opened.execute(query).fetchall()


def logs(db: Path) -> list[tuple[object, ...]]:
    """Returns all entries of a store: their ids and bytes."""
    return rows(db, "SELECT id, time, sender, body FROM message ORDER BY id")


def empty_index(store: Path, name: str) -> None:
    """Let an index lack all rows of its table, as after a fault of the disk."""
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as db:
        ((sql,),) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
        db.execute(f"DROP INDEX {name}")
        db.execute(f"{sql} WHERE 0")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which files get their names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
