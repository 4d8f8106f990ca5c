"""Commands that are committed as one batch do what they do one by one."""

import contextlib
import itertools
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from bus_server import store
from bus_server.errors import BusError
from bus_server.store.sqlite import writes
from bus_server.store.sqlite.remembered import Remembered
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, PRESENCE_IDLE, PRESENCE_WORKING, Agent
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    WAKE_ADDRESSED,
    WAKE_NOBODY,
    Attachment,
    Message,
)
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_STRICT,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
)

SCHEMA = Path(__file__).parents[2] / "bus_server/store/sqlite/schema.sql"
#: The time of the first batch and the time between batches, in microseconds. The activity of a
#: thread is stored once a second.
NOW, THEN = 1_000_000, 700_000
KEPT = {
    **dict.fromkeys(("thread", "agent", "presence", "purge"), "true"),
    **dict.fromkeys(("message", "entry"), "id >> 32 IN (SELECT id FROM thread)"),
    **dict.fromkeys(
        ("request", "participant", "addressed", "quiet"), "thread_id IN (SELECT id FROM thread)"
    ),
}
#: What is compared of each table. A token that ends and is set again gets a new create_time.
ROWS = {f"SELECT * FROM {table} WHERE {kept}" for table, kept in KEPT.items()} | {  # noqa: S608
    "SELECT hash, agent, expire_time FROM token"
}

# No names that differ by case: which ones an error suggests may lag behind by a batch.
threads = st.sampled_from(["t", "u"])
agents = st.sampled_from(["ann", "ben", "cyd"])
tokens = st.sampled_from([b"1", b"2", b"3", b"4"])
new_tokens = st.uuids().map(lambda uuid: uuid.bytes)
epochs = st.sampled_from(["", "epoch-0", "epoch-1"])
seqs = st.integers(1, 4)
positions = st.builds(store.Position, epochs, seqs, seqs, st.integers(0, 4))


def message(**fields: Any) -> Message:
    return Message(sender_kind=AGENT_KIND_AGENT, **fields)


#: What a post may have besides its content.
_KINDS = ["id", "edit", "mention", "reply", "based", "quiet", "large"]


@st.composite
def posts(draw: st.DrawFn) -> store.Append:
    """Posts of every kind: small and large, repeated, edited, addressed, expected."""
    fields: dict[str, Any] = {
        "thread": draw(threads),
        "sender": draw(agents | st.just("anonymous")),
        "content": draw(st.sampled_from(["one", "two"])),
        "kind": MESSAGE_KIND_CHAT,
    }
    also = draw(st.sets(st.sampled_from(_KINDS)))
    if "id" in also:
        fields["request_id"] = draw(st.sampled_from(["a", "b"]))
    if "edit" in also:
        fields |= {"edit_of": draw(seqs), "kind": MESSAGE_KIND_EDIT}
    if "mention" in also:
        fields["mentions"] = draw(st.lists(agents, max_size=2, unique=True))
    if "reply" in also:
        fields["reply_to"] = draw(seqs)
    if "based" in also:
        fields["based_on_seq"] = draw(seqs)
    if "quiet" in also:
        fields["wakes"] = draw(st.sampled_from([WAKE_ADDRESSED, WAKE_NOBODY]))
    if "large" in also:
        fields["attachments"] = [Attachment(filename="f", raw=bytes(20_000))]
    return store.Append.of(
        message(**fields),
        expected_last_seq=draw(st.none() | seqs),
        epoch=draw(epochs),
        register_sender=draw(st.booleans()),
        position=draw(st.none() | positions),
    )


def entries(sender: str) -> Message:
    return message(sender=sender)


commands: st.SearchStrategy[store.Command[Any]] = st.one_of(
    posts(),
    posts(),
    st.lists(posts(), min_size=1, max_size=5).map(store.AppendMany),
    st.builds(store.CreateThread, st.builds(Thread, name=threads, topic=st.just("topic"))),
    st.builds(
        store.JoinThread,
        thread=st.builds(Thread, name=threads),
        create=st.booleans(),
        agent=st.none() | agents,
        from_first=st.booleans(),
        context_limit=st.just(0),
        context_bytes=st.just(0),
    ),
    st.builds(
        store.SetThreadState,
        threads,
        st.sampled_from([THREAD_STATE_OPEN, THREAD_STATE_CLOSED]),
        agents.map(entries),
    ),
    st.builds(
        store.UpdateThread,
        threads,
        agents.map(entries),
        st.builds(
            Thread,
            topic=st.sampled_from(["x", "y"]),
            sync_mode=st.sampled_from([1, SYNC_MODE_STRICT]),
        ),
        st.lists(st.sampled_from(["topic", "sync_mode"]), unique=True),
    ),
    st.builds(store.LeaveThread, threads, agents),
    st.builds(store.DeleteThread, threads),
    st.builds(
        store.RegisterAgent,
        st.builds(Agent, name=agents, kind=st.just(AGENT_KIND_AGENT)),
        tokens,
        st.booleans(),
    ),
    st.builds(store.SetOperatorToken, tokens),
    st.builds(
        store.UpdateAgent,
        agents,
        st.builds(Agent, description=st.sampled_from(["x", "y"])),
        st.just(["description"]),
    ),
    st.builds(store.UnregisterAgent, agents),
    st.builds(store.RotateToken, tokens, new_tokens, st.sampled_from([NOW - 1, NOW, NOW + 9])),
    st.builds(
        store.Checkpoint,
        st.lists(
            st.builds(
                store.PresenceRow,
                agent=agents,
                reported=st.sampled_from([PRESENCE_IDLE, PRESENCE_WORKING]),
                state_time=st.integers(1, 3),
                work_time=st.integers(1, 3),
                status_text=st.none() | st.just("busy"),
                last_seen_time=st.integers(1, 3),
                lease_end_time=st.just(NOW),
            ),
            max_size=2,
        ),
        st.dictionaries(st.tuples(agents, threads), positions, max_size=2),
    ),
)


class Trial:
    """A store in memory whose epochs are epoch-0, epoch-1, …"""

    def __init__(self, db: sqlite3.Connection, remembered: Remembered | None) -> None:
        """`remembered`: what it remembers between batches; None: nothing."""
        self.db = db
        self._epochs = itertools.count()
        self._remembered = remembered

    def commit(
        self, batch: list[store.Command[Any]], number: int, end: str = "COMMIT"
    ) -> list[Any]:
        """Commit commands, or roll them back. Returns their outcomes, errors as texts.

        `number`: of the batch.
        """
        epochs = itertools.count() if end == "ROLLBACK" else self._epochs
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(secrets, "token_hex", lambda _: f"epoch-{next(epochs)}")
            self.db.execute("BEGIN IMMEDIATE")
            done = writes.run(self.db, batch, NOW + number * THEN, remembered=self._remembered)
            self.db.execute(end)
        if end == "ROLLBACK" and self._remembered is not None:
            self._remembered.forget()
        return [plain(outcome) for outcome in done.outcomes]

    def rows(self) -> dict[str, list[Any]]:
        """Returns all that is stored, except what deleted threads leave."""
        return {query: sorted(self.db.execute(query)) for query in ROWS}


def plain(outcome: Any) -> Any:
    """Returns an outcome that can be compared."""
    if isinstance(outcome, list):
        return [plain(each) for each in outcome]
    if isinstance(outcome, store.Registered):
        return plain(outcome.agent), outcome.created
    if isinstance(outcome, Agent):  # its presence is that of the last checkpoint
        return outcome.name, outcome.kind, outcome.description
    if isinstance(outcome, BusError):
        return f"{type(outcome).__name__}: {outcome}"
    return outcome


@contextlib.contextmanager
def trial(remembered: Remembered | None = None) -> Iterator[Trial]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.executescript(SCHEMA.read_text("utf-8"))
        yield Trial(db, remembered)


def started(*then: store.Command[Any]) -> list[tuple[list[store.Command[Any]], bool]]:
    """Returns batches: ann has joined a thread in which ben posted; then one for each command."""
    ann = Agent(name="ann", kind=AGENT_KIND_AGENT)
    first: list[store.Command[Any]] = [
        store.CreateThread(Thread(name="t")),
        store.RegisterAgent(ann, b"1", operator=False),
        post_of_ben(),
        join(from_first=True),
    ]
    return [(first, False), *(([command], False) for command in then)]


def post_of_ben() -> store.Append:
    return store.Append.of(message(thread="t", sender="ben", content="x", kind=MESSAGE_KIND_CHAT))


def join(*, from_first: bool) -> store.JoinThread:
    return store.JoinThread(Thread(name="t"), False, "ann", from_first, 0, 0)


# What is remembered of a thread and its participants from one batch to the next.
@example(started(store.DeleteThread("t"), post_of_ben()))
@example(started(post_of_ben(), post_of_ben()))
@example(started(store.LeaveThread("t", "ann"), join(from_first=False)))
@example(started(store.UnregisterAgent("ann"), join(from_first=False)))
@example(
    started(
        store.Checkpoint([], {("ann", "t"): store.Position("epoch-0", 1, 1)}),
        join(from_first=False),
    )
)
@pytest.mark.slow
@pytest.mark.timeout(300)  # a failure is shrunk before it is reported
@settings(deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate, Phase.shrink])
@given(
    st.lists(
        st.tuples(st.lists(commands, min_size=1, max_size=12), st.booleans()),
        min_size=1,
        max_size=3,
    )
)
def test_a_batch_does_what_its_commands_do_one_by_one(
    batches: list[tuple[list[store.Command[Any]], bool]],
) -> None:
    with trial(Remembered()) as together, trial() as apart:
        for number, (batch, failed_before) in enumerate(batches):
            if failed_before:
                together.commit(batch, number, "ROLLBACK")
            outcomes = together.commit(batch, number)
            assert outcomes == [apart.commit([command], number)[0] for command in batch]
            assert together.rows() == apart.rows()
