"""Every table and column of both schemas is copied, or left out for a reason."""

import re
from pathlib import Path

import pytest

from bus_server.store import copies
from bus_server.store.copies import TABLES

_STORE = Path(copies.__file__).parent
#: Which are not copied: the docstring of copies.py says why.
LEFT_OUT = {"purge", "server", "wait", "writer", "clock", "store", "meta"}


def columns(engine: str) -> dict[str, set[str]]:
    """Returns the columns of the tables of a schema."""
    script = re.sub("--.*", "", (_STORE / engine / "schema.sql").read_text("utf-8"))
    tables = re.findall(r"CREATE TABLE (\w+) \((.*?)\)(?: STRICT| WITH|;)", script, re.DOTALL)
    return {
        table: set(re.findall(r"(?:^|,)\s*([a-z_]+) (?!KEY)\w+", definition))
        for table, definition in tables
    }


def copied(engine: str) -> dict[str, set[str]]:
    """Returns the columns of the tables that are copied, as they are in a schema."""
    found = {table.name: set(table.columns) for table in TABLES}
    if engine == "sqlite":  # the rest follows from the messages, and these have one id
        found["thread"] -= {"last_seq", "last_time"}
        for name in ("message", "entry"):
            found[name] = found[name] - {"thread_id", "seq"} | {"id"}
    return found


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_table_and_column_of_a_schema_is_accounted_for(engine: str) -> None:
    there = columns(engine)
    assert {name: there[name] for name in there.keys() - LEFT_OUT} == copied(engine)


def test_what_is_left_out_has_its_reason() -> None:
    for table in LEFT_OUT:
        assert f"`{table}`" in str(copies.__doc__), table
