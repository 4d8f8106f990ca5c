"""Order times: they only grow, and the wall clock's time can be read from each."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from bus_server.store.sqlite.order import BACK, MOST, WALL, Order

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"
SECOND = 1_000_000  # microseconds


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A store without threads."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.executescript(SCHEMA.read_text("utf-8"))
        yield opened


def insert_thread(db: sqlite3.Connection, state: int, time: int) -> None:
    """Add a thread in a state, last active at an order time."""
    db.execute(
        "INSERT INTO thread (name, epoch, state, sync_mode, active_time, body)"
        " VALUES (?, 'e', ?, 1, ?, x'')",
        (f"t{time}", state, time),
    )


def test_order_times_grow_whatever_the_wall_clock_does_and_hold_its_time(
    db: sqlite3.Connection,
) -> None:
    random, order = Random(1), Order()  # noqa: S311
    walls = [random.randrange(10**15) for _ in range(MOST)]
    times = [order.next(db, wall) for wall in walls]
    assert times == sorted(set(times))
    assert [time & WALL for time in times] == walls


def test_order_times_equal_the_wall_clock_while_it_does_not_go_back(db: sqlite3.Connection) -> None:
    order = Order()
    assert [order.next(db, wall) for wall in (5, 5, 6, 600)] == [5, 5, 6, 600]


@pytest.mark.parametrize("state", [1, 2, 3])
def test_another_server_continues_from_what_is_stored(db: sqlite3.Connection, state: int) -> None:
    insert_thread(db, state, 3 * BACK + 10 * SECOND)
    assert Order().next(db, 11 * SECOND) == 3 * BACK + 11 * SECOND
    order = Order()
    assert order.next(db, 9 * SECOND) == 4 * BACK + 9 * SECOND
    insert_thread(db, state, 6 * BACK)
    assert order.next(db, 10 * SECOND) == 4 * BACK + 10 * SECOND
    order.unsure = True
    assert order.next(db, 11 * SECOND) == 6 * BACK + 11 * SECOND


def test_a_clock_that_keeps_going_back_breaks_nothing(db: sqlite3.Connection) -> None:
    order = Order()
    times = [order.next(db, wall) for wall in range(2 * MOST, 0, -1)]
    assert max(times) < 1 << 62
    assert [time & WALL for time in times] == list(range(2 * MOST, 0, -1))


@pytest.mark.parametrize("wall", [-5, 1 << 60])
def test_impossible_wall_times_do_no_harm(db: sqlite3.Connection, wall: int) -> None:
    assert 0 <= Order().next(db, wall) < BACK
