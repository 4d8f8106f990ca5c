"""The store checks posts without reading large messages."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus_server import store
from bus_server.errors import (
    AccessDenied,
    BusError,
    RequestIdReused,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.store.sqlite import participants, reads, writes
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    PRIORITY_NORMAL,
    Attachment,
    Message,
)
from threadbus.v1.thread_pb2 import Thread

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"
#: Microseconds since the epoch.
FIRST, THEN = 1_000, 2_000


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A store with a thread in which `coder` has joined and posted."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as opened:
        opened.executescript(SCHEMA.read_text("utf-8"))
        opened.execute("INSERT INTO store VALUES ('e')")
        commit(opened, store.CreateThread(Thread(name="t")), post("first", request_id="a"))
        yield opened


def post(content: str, **fields: Any) -> store.Append:
    """Returns a post with a large body."""
    given: dict[str, Any] = {
        "thread": "t",
        "sender": "coder",
        "sender_kind": AGENT_KIND_AGENT,
        "kind": MESSAGE_KIND_EDIT if "edit_of" in fields else MESSAGE_KIND_CHAT,
        "priority": PRIORITY_NORMAL,
        "attachments": [Attachment(filename="f", raw=bytes(20_000))],
    }
    return store.Append.of(Message(content=content, **(given | fields)))


def join(**fields: Any) -> store.JoinThread:
    return store.JoinThread(Thread(name="t"), False, "coder", False, 10, 1_000, **fields)


#: Reads small bodies only: SQLite knows the length of a value without reading it.
SMALL = r"CASE WHEN length\(body\) <= \d+ THEN body END"


def commit(db: sqlite3.Connection, *commands: store.Command[Any], now: int = FIRST) -> Any:
    """Run commands as the store does. Returns the Commit."""
    db.execute("BEGIN IMMEDIATE")
    done = writes.run(db, commands, now)
    db.execute("COMMIT")
    return done


def outcomes(db: sqlite3.Connection, *commands: store.Command[Any]) -> list[Any]:
    """Run commands later on. Returns their outcomes; fails if a large body was read or changed."""
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    try:
        done: list[Any] = commit(db, *commands, now=THEN).outcomes
    finally:
        db.set_trace_callback(None)
    assert statements
    statements = [re.sub(SMALL, "", s) for s in statements]
    about = [s for s in statements if re.search(r"\bbody\b", s) and not s.startswith("INSERT")]
    assert about == []
    return done


def edit_seqs(db: sqlite3.Connection) -> list[int]:
    """Returns each message's edit_seq; both ways of reading must agree."""
    page = reads.excerpt(db, "t", 0, 0, 100, 1_000_000, False)
    rows = reads.read(db, 1, 0, page.head.seq, 1_000_000)
    assert rows == page.rows
    return [Message.FromString(body).edit_seq for _, body in rows]


def test_a_retry_is_recognised_without_reading_the_body(db: sqlite3.Connection) -> None:
    again, other = outcomes(db, post("first", request_id="a"), post("other", request_id="a"))
    assert (again.seq, again.deduplicated, again.last_seq) == (1, True, 1)
    assert again.create_time.ToMicroseconds() == FIRST
    assert isinstance(other, RequestIdReused)
    assert other.metadata == {"seq": "1"}


def test_a_retry_in_the_same_transaction_is_recognised_without_reading_the_body(
    db: sqlite3.Connection,
) -> None:
    first, again, other = outcomes(
        db, *(post(content, request_id="b") for content in ("new", "new", "other"))
    )
    assert (first.seq, again.seq) == (2, 2)
    assert (first.deduplicated, again.deduplicated) == (False, True)
    assert again.create_time.ToMicroseconds() == THEN
    assert isinstance(other, RequestIdReused)


@pytest.mark.parametrize(
    "fields",
    [
        {"sender_kind": AGENT_KIND_HUMAN},
        {"based_on_seq": 1},
        {"based_on_seq": 0},
    ],
    ids=str,
)
def test_fields_that_may_differ_in_a_retry_stay_as_first_stored(
    db: sqlite3.Connection, fields: dict[str, Any]
) -> None:
    (again,) = outcomes(db, post("first", request_id="a", **fields))
    assert (again.seq, again.deduplicated) == (1, True)
    commit(db, post("second", request_id="b", **fields))
    page = reads.excerpt(db, "t", 1, 0, 10, 1_000_000, False)
    (second,) = [Message.FromString(body) for _, body in page.rows]
    assert second.sender_kind == fields.get("sender_kind", AGENT_KIND_AGENT)
    assert second.HasField("based_on_seq") == ("based_on_seq" in fields)
    assert second.based_on_seq == fields.get("based_on_seq", 0)
    (again,) = outcomes(db, post("second", request_id="b"))
    assert (again.seq, again.deduplicated) == (2, True)


def test_an_edit_writes_only_the_edit_seq_of_its_message(db: sqlite3.Connection) -> None:
    done = outcomes(db, *(post(f"edit {n}", edit_of=1) for n in range(3)))
    assert [edit.seq for edit in done] == [2, 3, 4]
    assert edit_seqs(db) == [4, 0, 0, 0]
    outcomes(db, post("once more", edit_of=1))
    assert edit_seqs(db) == [5, 0, 0, 0, 0]


def test_a_transaction_returns_the_newest_edit_of_each_message(db: sqlite3.Connection) -> None:
    edits = [post("x", edit_of=seq) for seq in (1, 1, 2)]
    assert commit(db, post("second"), *edits).edited == {"t": {1: 4, 2: 5}}


def test_an_edit_of_what_cannot_be_edited_is_refused_without_reading_the_body(
    db: sqlite3.Connection,
) -> None:
    commit(db, post("edit", edit_of=1))
    others, an_edit = outcomes(db, post("x", edit_of=1, sender="anna"), post("x", edit_of=2))
    assert isinstance(others, AccessDenied)
    assert isinstance(an_edit, ValidationFailed)
    assert "edit message 1" in str(an_edit)


@pytest.mark.parametrize("size", [0, 16_000, 17_000])
def test_edits_do_not_depend_on_the_size_of_the_message(db: sqlite3.Connection, size: int) -> None:
    file = Attachment(filename="f", raw=bytes(size))
    commit(db, post("second", attachments=[file]), post("edit", edit_of=2, attachments=[file]))
    for _ in range(2):
        edit, an_edit = commit(db, post("x", edit_of=2), post("x", edit_of=3)).outcomes
        assert "edit message 2" in str(an_edit)
    assert edit_seqs(db) == [0, edit.seq, 0, 0, 0]


def test_joining_reads_no_message_body(db: sqlite3.Connection) -> None:
    assert outcomes(db, join()) == [store.Joined(1, False, 1)]


def test_the_newest_edit_is_returned_though_the_body_names_an_older_one(
    db: sqlite3.Connection,
) -> None:
    commit(db, post("edit", edit_of=1))
    ((body,),) = db.execute("SELECT body FROM message WHERE id = 1 << 32 | 1")
    body += Message(edit_seq=2).SerializeToString()
    db.execute("UPDATE message SET body = ? WHERE id = 1 << 32 | 1", (body,))
    db.execute("DELETE FROM entry")  # as the upgrade of an older file leaves it
    assert edit_seqs(db) == [2, 0]
    commit(db, post("again", edit_of=1))
    assert edit_seqs(db) == [3, 0, 0]


def test_no_edit_survives_the_clearing_of_a_deleted_thread(db: sqlite3.Connection) -> None:
    commit(db, post("edit", edit_of=1))
    commit(db, store.DeleteThread("t"))
    while commit(db, store.Purge()).outcomes == [True]:
        pass
    assert db.execute("SELECT * FROM entry").fetchall() == []


def test_a_retained_refusal_holds_no_reference_to_its_post(db: sqlite3.Connection) -> None:
    refused = post("other", request_id="a")
    alone, (in_a_batch,), not_there = commit(
        db, refused, store.AppendMany([refused]), store.DeleteThread("nowhere")
    ).outcomes
    assert isinstance(not_there, ThreadNotFound)
    for refusal in (alone, in_a_batch, not_there):
        assert isinstance(refusal, BusError)
        assert (refusal.__traceback__, refusal.__cause__, refusal.__context__) == (None,) * 3


def test_the_context_of_a_join_ends_at_the_head_at_the_join(db: sqlite3.Connection) -> None:
    (joined,) = commit(db, join()).outcomes
    commit(db, post("later"))
    found = participants.entrance(db, join(), joined._replace(after_seq=1))
    assert found is not None
    assert [message.seq for message in found.context] == [1]
    assert found.thread.head_seq == 2
