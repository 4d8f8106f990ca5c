"""The list of threads by their last activity, with a clock that the tests set."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus_server import store
from bus_server.store.sqlite import activity, writes
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN, Thread

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"
SECOND = 1_000_000  # microseconds
STATES = [THREAD_STATE_OPEN, THREAD_STATE_CLOSED]


@dataclass
class Clocked:
    """A store with a clock that the test sets, and what was done to each of its threads."""

    db: sqlite3.Connection
    now: int = 1_000 * SECOND
    #: By thread: the times of its creation and of its entries.
    times: dict[str, list[int]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)

    def run(self, *commands: store.Command[Any]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        for outcome in writes.run(self.db, commands, self.now).outcomes:
            assert not isinstance(outcome, Exception)
        self.db.execute("COMMIT")

    def create(self, name: str) -> None:
        self.run(store.CreateThread(Thread(name=name)))
        self.times[name] = [self.now]

    def post(self, *names: str, by: str = "anonymous") -> None:
        """Post to threads in one commit."""
        self.run(
            *(
                store.Append.of(
                    Message(thread=name, sender=by, content="x", kind=MESSAGE_KIND_CHAT),
                )
                for name in names
            )
        )
        for name in names:
            self.times[name].append(self.now)
            if by == "member":
                self.members.add(name)

    def close(self, name: str) -> None:
        self.run(store.SetThreadState(name, THREAD_STATE_CLOSED, Message(sender="anonymous")))
        self.times[name].append(self.now)
        self.closed.add(name)

    def page(
        self, size: int, after: store.ThreadPageKey | None = None, **filters: Any
    ) -> tuple[list[str], store.ThreadPageKey | None]:
        """Returns the names of a page's threads, and the key of the last one."""
        asked = {"states": STATES, "prefix": "", "participant": ""} | filters
        listed = activity.list_threads(self.db, **asked, limit=size, after=after)
        return [thread.name for thread, _ in listed], listed[-1][1] if listed else after

    def active(self, name: str) -> int:
        """Returns the active_time of a thread's row."""
        (found,) = self.db.execute("SELECT active_time FROM thread WHERE name = ?", (name,))
        return int(found[0])


@contextlib.contextmanager
def opened() -> Iterator[Clocked]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.executescript(SCHEMA.read_text("utf-8"))
        made = Clocked(db)
        member = Agent(name="member", kind=AGENT_KIND_AGENT)
        made.run(store.RegisterAgent(member, b"token", operator=False))
        yield made


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    with opened() as made:
        yield made


def test_the_row_of_a_busy_thread_is_written_at_most_once_a_second(clocked: Clocked) -> None:
    clocked.create("busy")
    began = clocked.now
    for after in (1, SECOND // 2, SECOND - 1):
        clocked.now, before = began + after, clocked.db.total_changes
        clocked.post("busy")
        assert clocked.db.total_changes == before + 1  # the message
        assert clocked.active("busy") == began
    clocked.now = began + SECOND
    clocked.post("busy", "busy")
    assert clocked.active("busy") == clocked.now


def test_after_the_clock_goes_back_an_active_thread_takes_the_new_time(clocked: Clocked) -> None:
    for name in ("a", "b"):
        clocked.create(name)
    clocked.now -= 3_600 * SECOND
    clocked.post("a")
    assert clocked.active("a") == clocked.now
    assert clocked.page(2)[0] == ["b", "a"]
    clocked.now += SECOND
    clocked.create("c")
    assert clocked.page(3)[0] == ["b", "c", "a"]


def test_threads_active_in_one_commit_are_listed_once_newest_first(clocked: Clocked) -> None:
    for name in "abcdef":
        clocked.create(name)
    clocked.now += 10 * SECOND
    clocked.post("b", "e", "b", "c")
    found, after = [], None
    for _ in range(6):
        names, after = clocked.page(1, after)
        found += names
    assert found == ["e", "c", "b", "f", "d", "a"]
    assert clocked.page(1, after)[0] == []


@pytest.mark.parametrize(
    ("filters", "count"), [({"prefix": "a"}, 15), ({"participant": "member"}, 10)]
)
def test_filters_that_match_many_threads_list_the_same_as_those_that_match_few(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any], count: int
) -> None:
    for number in range(30):
        name = f"{'ab'[number % 2]}{number}"
        clocked.create(name)
        clocked.post(name, by=("member", "anonymous")[number % 3 > 0])
        clocked.now += SECOND // 3
    few = clocked.page(30, **filters)
    assert len(few[0]) == count
    monkeypatch.setattr(activity, "FEW", count - 1)
    assert clocked.page(30, **filters) == few


def expected(clocked: Clocked, prefix: str, participant: str) -> list[tuple[int, int, str]]:
    """Returns last activity, id and name of the threads that pass the filters, in order."""
    found = [
        (times[-1], thread_id, name)
        for thread_id, (name, times) in enumerate(clocked.times.items(), start=1)
        if name.startswith(prefix) and (not participant or name in clocked.members)
    ]
    return sorted(found, reverse=True)


@given(st.integers(0, 2**32), st.sampled_from([0, 3, 1_000]), st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@pytest.mark.slow
def test_each_page_equals_a_full_scan_whatever_the_clock_does(
    seed: int, few: int, back: bool
) -> None:
    random, steps = Random(seed), [0, 1, SECOND // 3, SECOND - 1, SECOND, 5 * SECOND]  # noqa: S311
    with opened() as clocked, pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "FEW", few)

        def do_something() -> None:
            clocked.now += random.choice(steps)
            if back and random.random() < 0.2:
                clocked.now -= random.choice(steps)
            names = [name for name in clocked.times if name not in clocked.closed]
            what = random.random()
            if what < 0.25 or not names:
                clocked.create(f"{random.choice('ab')}{len(clocked.times)}")
            elif what < 0.3:
                clocked.close(random.choice(names))
            else:
                by = random.choice(["member", "anonymous"])
                clocked.post(*random.choices(names, k=random.randint(1, 4)), by=by)

        for _ in range(40):
            do_something()
        filters: dict[str, Any] = {
            "prefix": random.choice(["", "a", "b1"]),
            "participant": random.choice(["", "member"]),
        }
        names, after = clocked.page(3, **filters)
        assert names == [name for *_, name in expected(clocked, **filters)[:3]]
        while after is not None and names:
            do_something()
            rest = expected(clocked, **filters)
            onward = [name for active, number, name in rest if (active, number) < after]
            names, after = clocked.page(3, after, **filters)
            assert names == onward[:3]
