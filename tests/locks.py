"""Locks of other programs on a database file."""

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(db: Path) -> Iterator[None]:
    """Hold the database's write lock as another program: nothing can be committed."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def commit_lock_held(db: Path) -> Iterator[None]:
    """Hold the servers' lock as another server that hangs within a commit."""
    with db.with_name(f"{db.name}-writer").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
