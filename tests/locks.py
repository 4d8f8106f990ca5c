"""Locks of other programs on a store."""

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests import serving


@contextlib.contextmanager
def locked(db: Path) -> Iterator[None]:
    """Keep servers over a file, or the database that stands for it, from committing anything."""
    if serving.database_of is not None and not db.exists():
        import psycopg

        with psycopg.connect(serving.database_of(db)) as opened:
            opened.execute("LOCK TABLE writer IN SHARE MODE")
            yield
            opened.rollback()
        return
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def commit_lock_held(db: Path) -> Iterator[None]:
    """Hold the servers' lock as another server that hangs within a commit."""
    with db.with_name(f"{db.name}-writer").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
