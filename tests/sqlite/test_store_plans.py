"""The store's queries use indexes: none gets slower with the number of messages."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus_server import store
from bus_server.store.sqlite import activity, asked, compact, participants, reads, tokens, writes
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, PRESENCE_IDLE, Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, WAKE_ADDRESSED, Message
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, Thread

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A store with a thread, an agent and a few messages."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.executescript(SCHEMA.read_text("utf-8"))
        opened.execute("INSERT INTO store VALUES ('e')")
        commit(opened, store.CreateThread(Thread(name="t")))
        commit(opened, store.RegisterAgent(agent("a"), b"token", operator=False))
        commit(opened, *(store.Append.of(message(str(n))) for n in range(5)))
        yield opened


def agent(name: str) -> Agent:
    return Agent(name=name, kind=AGENT_KIND_AGENT)


def message(content: str, **fields: Any) -> Message:
    return Message(
        thread="t",
        sender="a",
        content=content,
        kind=MESSAGE_KIND_CHAT,
        request_id=content,
        **fields,
    )


def commit(db: sqlite3.Connection, *commands: store.Command[Any]) -> None:
    """Run commands as the store does."""
    db.execute("BEGIN IMMEDIATE")
    for outcome in writes.run(db, commands, time.time_ns() // 1000).outcomes:
        assert not isinstance(outcome, Exception)
    db.execute("COMMIT")


def plan(db: sqlite3.Connection, run: Callable[[], object]) -> list[str]:
    """Returns the steps of the query plans of what is run."""
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    try:
        run()
    finally:
        db.set_trace_callback(None)
    queries = [s for s in statements if re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH)\b", s)]
    assert queries
    return [row[3] for query in queries for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]


def scanned(db: sqlite3.Connection, run: Callable[[], object]) -> set[str]:
    """Returns the tables that what is run scans from end to end."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    tables.remove("sqlite_sequence")  # it has one row
    aliases = {"t": "thread", "m": "participant", "a": "agent", "p": "presence", "r": "request"}
    found = set()
    for step in plan(db, run):
        if went := re.match(r"SCAN (\w+)", step):
            found |= {aliases.get(went[1], went[1])} & tables
    return found


COMMANDS: dict[str, Callable[[], store.Command[Any]]] = {
    "append": lambda: store.Append.of(message("new", mentions=["a"], based_on_seq=1)),
    "append_again": lambda: store.Append.of(message("1")),
    "append_many": lambda: store.AppendMany([store.Append.of(message(x)) for x in "vwxyz"]),
    "edit": lambda: store.Append.of(message("edit", edit_of=1)),
    "reply": lambda: store.Append.of(message("reply", reply_to=1, wakes=WAKE_ADDRESSED)),
    "join_thread": lambda: store.JoinThread(
        Thread(name="t"),
        create=True,
        agent="a",
        from_first=True,
        context_limit=10,
        context_bytes=1000,
        participant_limit=100,
    ),
    "join_thread_anew": lambda: store.JoinThread(
        Thread(name="T"),
        create=True,
        agent="a",
        from_first=False,
        context_limit=0,
        context_bytes=1000,
    ),
    "set_thread_state": lambda: store.SetThreadState("t", THREAD_STATE_CLOSED, Message(sender="a")),
    "update_thread": lambda: store.UpdateThread(
        "t", Message(sender="a"), Thread(topic="new"), ["topic"]
    ),
    "leave_thread": lambda: store.LeaveThread("t", "a"),
    "compact": lambda: store.Compact("t", store.Limits(max_messages=1)),
    "forget_addressed": lambda: store.ForgetAddressed("t"),
    "delete_thread": lambda: store.DeleteThread("t"),
    "register_agent": lambda: store.RegisterAgent(agent("b"), b"other", operator=False),
    "update_agent": lambda: store.UpdateAgent("a", Agent(description="new"), ["description"]),
    "checkpoint": lambda: store.Checkpoint(
        [
            store.PresenceRow(
                agent="a",
                reported=PRESENCE_IDLE,
                status_text="here",
                last_seen_time=1,
                lease_end_time=2,
            )
        ],
        {("a", "t"): store.Position("e", 1, 1)},
    ),
}
KEY = store.ThreadPageKey(active=1 << 59, thread_id=1)
READS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "heads": lambda db: reads.heads(db, ["t"]),
    "participations": lambda db: reads.participations(db, "a", ["t"]),
    "read": lambda db: reads.read(db, 1, 0, 5, 1000),
    "page": lambda db: reads.excerpt(db, "t", 0, 0, 10, 1000, False),
    "newest_page": lambda db: reads.excerpt(db, "t", 0, 0, 10, 1000, True),
    "similar": lambda db: reads.similar(db, ["T"]),
    "senders": lambda db: reads.senders(db, 1, [1, 2]),
    "threads": lambda db: reads.threads(db, ["t"]),
    "agent": lambda db: reads.agent(db, "a"),
    "list_agents": lambda db: reads.list_agents(db, 10, "a"),
    "owner": lambda db: tokens.owner(db, b"token"),
    "list_tokens": lambda db: tokens.list_tokens(db, None, 10, store.FIRST_PAGE, 1),
    "list_tokens_of": lambda db: tokens.list_tokens(db, "a", 10, store.FIRST_PAGE, 1),
    "participants": lambda db: participants.participants(db, "t", first=["a"], limit=10),
    "unread": lambda db: participants.unread(db, "a", 10),
    "unread_after": lambda db: participants.unread(db, "a", 10, (), {"t": 1}),
    "addressed": lambda db: participants.addressed(db, "a", 1, 0, 10, 10),
    "kept": lambda db: compact.kept(db, 0, 10, False),
    "sizes": lambda db: compact.sizes(db, 1, 0, 10),
    "list_threads": lambda db: activity.list_threads(db, [1, 2], "", "", 10, None),
    "list_threads_onward": lambda db: activity.list_threads(db, [1, 2], "", "", 10, KEY),
    "list_threads_by_prefix": lambda db: activity.list_threads(db, [1, 2], "t", "", 10, KEY),
    "list_threads_of_agent": lambda db: activity.list_threads(db, [1, 2], "", "a", 10, KEY),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_scans_a_table(db: sqlite3.Connection, name: str) -> None:
    assert scanned(db, lambda: commit(db, COMMANDS[name]())) == set()


@pytest.mark.parametrize("name", READS)
def test_no_query_scans_a_table(db: sqlite3.Connection, name: str) -> None:
    assert scanned(db, lambda: READS[name](db)) == set()


@pytest.mark.parametrize("after", [None, KEY])
@pytest.mark.parametrize(("prefix", "participant"), [("", ""), ("t", ""), ("", "a")])
def test_the_list_of_many_threads_is_read_in_index_order(
    db: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    after: store.ThreadPageKey | None,
    prefix: str,
    participant: str,
) -> None:
    monkeypatch.setattr(activity, "FEW", 0)
    steps = plan(db, lambda: activity.list_threads(db, [1, 2], prefix, participant, 10, after))
    walks = [step for step in steps if "USING INDEX thread_active" in step]
    assert len(walks) == 2  # one for each state
    assert all("(state=? AND active_time" in step for step in walks)
    assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize(
    ("filters", "index"), [(("t", ""), "(name>? AND name<?)"), (("", "a"), "participant_agent")]
)
def test_the_few_threads_that_a_filter_matches_are_found_by_its_index(
    db: sqlite3.Connection, filters: tuple[str, str], index: str
) -> None:
    steps = plan(db, lambda: activity.list_threads(db, [1, 2], *filters, 10, None))
    assert any(index in step for step in steps)
    assert not [step for step in steps if "thread_active" in step]


def test_threads_with_a_retention_are_found_by_their_index(db: sqlite3.Connection) -> None:
    steps = plan(db, lambda: compact.kept(db, 0, 10, every=False))
    assert any("USING INDEX thread_retained" in step for step in steps)
    assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "asked_state (state=?"),
        ({"prefixes": ("t",)}, "asked_state (state=?"),
        ({"agent": "a"}, "asked_agent (agent=? AND state=?"),
        ({"asker": "a"}, "asked_asker (asker=? AND state=?"),
        ({"thread": "t"}, "PRIMARY KEY (thread_id=?)"),
        ({"thread": "t", "asker": "a"}, "PRIMARY KEY (thread_id=?)"),
    ],
)
def test_requests_are_found_by_the_index_of_their_filter(
    db: sqlite3.Connection, filters: dict[str, Any], index: str
) -> None:
    wanted = store.RequestsWanted([REQUEST_STATE_OPEN], **filters)
    steps = plan(db, lambda: asked.requests(db, wanted, 10, store.FIRST_REQUEST))
    (found,) = [step for step in steps if step.startswith(("SEARCH a ", "SCAN a "))]
    assert index in found
