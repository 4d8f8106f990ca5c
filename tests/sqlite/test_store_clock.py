"""The store's clock: one for all servers on the file, over their restarts."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_server.store.sqlite.clock import load_clock

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"
DAY = 86_400_000_000  # microseconds
BOOTS = ["first-boot", ""]


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A new store."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.executescript(SCHEMA.read_text("utf-8"))
        yield opened


def wall() -> int:
    """Returns microseconds since the epoch."""
    return time.time_ns() // 1000


def insert_sighting(db: sqlite3.Connection, moment: int) -> None:
    """Store that an agent was last seen at `moment`."""
    values = (f"agent-{moment}", moment)
    db.execute(
        "INSERT INTO presence (agent, status_text, last_seen_time, lease_end_time)"
        " VALUES (?, '', ?, 0)",
        values,
    )


@pytest.mark.parametrize("boot", BOOTS)
def test_the_clock_starts_at_the_wall_clock_and_each_load_continues_it(
    db: sqlite3.Connection, boot: str
) -> None:
    first, second = load_clock(db, boot), load_clock(db, boot)
    before = wall()
    times = [first.now(), second.now(), first.now(), second.now()]
    assert times == sorted(times)
    assert before - 1_000_000 < times[0] < wall() + 1_000_000
    assert abs(first.wall(times[0]) - times[0]) < 1_000_000


@pytest.mark.parametrize("boot", BOOTS)
def test_after_another_boot_the_clock_continues_from_the_wall_clock(
    db: sqlite3.Connection, boot: str
) -> None:
    before = load_clock(db, boot)
    insert_sighting(db, before.now())
    # The monotonic clock starts from zero with each boot.
    db.execute("UPDATE clock SET base = base - ?", (DAY,))
    after = load_clock(db, "second-boot" if boot else "")
    assert abs(after.now() - wall()) < 1_000_000
    assert db.execute("SELECT count(*) FROM clock").fetchone() == (1,)


@pytest.mark.parametrize("boot", BOOTS)
def test_if_the_wall_clock_is_behind_stored_times_the_clock_continues_from_those(
    db: sqlite3.Connection, boot: str
) -> None:
    load_clock(db, boot)
    newest = wall() + DAY
    insert_sighting(db, newest - 1)
    insert_sighting(db, newest)
    after = load_clock(db, "second-boot" if boot else "")
    assert newest <= after.now() < newest + 10_000_000
    told = after.wall(newest)
    assert abs(told - wall()) < 10_000_000


def test_within_a_boot_nothing_moves_the_clock(db: sqlite3.Connection) -> None:
    load_clock(db, "first-boot")
    insert_sighting(db, wall() + DAY)
    assert abs(load_clock(db, "first-boot").now() - wall()) < 1_000_000


def test_no_rotated_token_is_valid_for_more_than_an_hour(db: sqlite3.Connection) -> None:
    lasting = wall() + DAY
    ends = {b"never": 0, b"soon": wall() + 60_000_000, b"late": wall() + DAY, b"lasting": lasting}
    db.executemany(
        "INSERT INTO token (hash, agent, create_time, expire_time, id, scopes, prefixes, end_time)"
        " VALUES (?, 'agent', 0, ?, 'id', 'read', '', ?)",
        [(key, end, lasting if key == b"lasting" else 0) for key, end in ends.items()],
    )
    now = load_clock(db, "first-boot").now()
    found = dict(db.execute("SELECT hash, expire_time FROM token"))
    assert 0 <= now + 3_600_000_000 - found.pop(b"late") < 1_000_000
    assert found == {b"never": 0, b"soon": ends[b"soon"], b"lasting": lasting}
