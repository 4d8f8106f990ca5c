"""Others that lock a database file."""

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(db: Path) -> Iterator[None]:
    """Another program holds the database's write lock: nothing can be committed meanwhile."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextlib.contextmanager
def turn_taken(db: Path) -> Iterator[None]:
    """Another server hangs in the midst of a commit: it holds the lock that servers share."""
    with db.with_name(f"{db.name}-writer").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
