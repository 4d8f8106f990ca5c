"""A look into the store of a server that runs."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from tests import serving


def peek(db: Path, query: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query on a file, or on the database that stands for it."""
    if serving.database_of is not None:
        import psycopg

        with psycopg.connect(serving.database_of(db)) as opened:
            return opened.execute(query.encode()).fetchall()
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as file:
        return file.execute(query).fetchall()
