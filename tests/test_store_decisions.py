"""What is decided about commands follows from facts alone: no database is needed to test it."""

import copy
from collections import deque
from typing import Any

import pytest

from bus_server.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    BusError,
    CursorInvalid,
    ExpectedSeqRequired,
    MessageNotFound,
    QuotaExceeded,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ThreadNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.store import (
    MAX_SEQ,
    Append,
    Appended,
    AppendMany,
    Checkpoint,
    Command,
    Commit,
    DeleteThread,
    Head,
    LeaveThread,
    Position,
    Purge,
    RotateToken,
)
from bus_server.store.batch import Batch, Changes
from bus_server.store.decide import decide
from bus_server.store.facts import Entry, Facts, Known, Needs, Request, Token, needs
from tests.store.commits import LARGE, create, join, post, register, set_state
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.message_pb2 import WAKE_ALL
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    SYNC_MODE_STRICT,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
)

#: The moment of the commit, in microseconds: since the epoch, and on the store's clock.
NOW, STORE_NOW = 2_000, 5_000
#: The id of thread t; it has three entries: by ann, by ben, and an edit of the first.
T = 7


def token(agent: str, expire_time: int = 0, token_id: str = "") -> Token:
    return Token(agent, expire_time, token_id or agent, ("post", "read"))


def facts(**fields: Any) -> Facts:
    """Returns all facts about thread t, the agents ann and ben, and gone, which is unregistered."""
    found = Facts(
        NOW,
        STORE_NOW,
        heads={"t": Head(T, "epoch", 3, THREAD_STATE_OPEN, SYNC_MODE_OFF)},
        settings={T: Thread(name="t", epoch="epoch")},
        thread_ids=deque([9, 10, 11]),
        requests={(T, "ann", "used"): Request(1, 1_000, post(request_id="used").post_hash)},
        entries={
            (T, 1): Entry("ann", 0, editable=True, wakes=WAKE_ALL),
            (T, 2): Entry("ben", 0, editable=True, wakes=WAKE_ALL),
            (T, 3): Entry("ann", 1, editable=True, wakes=WAKE_ALL),
        },
        read_seqs={(T, "ann"): 1, (T, "ben"): 2},
        agents={
            name: Known(AGENT_KIND_AGENT, registered=name != "gone")
            for name in ("ann", "ben", "gone")
        },
        profiles={name: Agent(name=name, kind=AGENT_KIND_AGENT) for name in ("ann", "ben")},
        tokens={b"ann": token("ann"), b"old": token("ann", STORE_NOW, "old"), b"ben": token("ben")},
    )
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def refused(command: Command[Any], given: Facts) -> BusError:
    """Decide a command. Returns its error; fails if it is not refused, or changes anything."""
    before = copy.deepcopy(given)
    batch = decide([command], given)
    (outcome,) = batch.commit.outcomes
    assert isinstance(outcome, BusError)
    assert batch.changes == Changes()
    assert batch.commit == Commit(outcomes=[outcome])
    assert batch.facts == before
    return outcome


def decided(*commands: Command[Any], given: Facts | None = None) -> Batch:
    """Returns the batch of commands, none of which may be refused."""
    batch = decide(commands, given or facts())
    assert not [each for each in batch.commit.outcomes if isinstance(each, Exception)]
    return batch


# ── The order of checks ─────────────────────────────────────────────────────────────────────────

#: What can be wrong with a post, in the order in which it is checked.
WRONG: dict[str, type[BusError]] = {
    "missing thread": ThreadNotFound,
    "used request_id": RequestIdReused,
    "another epoch": CursorInvalid,
    "closed thread": ThreadClosed,
    "strict thread": ExpectedSeqRequired,
    "another head": SeqConflict,
    "based on the future": ValidationFailed,
    "missing message": MessageNotFound,
    "missing agent": AgentNotFound,
    "another's message": AccessDenied,
    "full thread": QuotaExceeded,
    "unregistered sender": AgentExists,
}


def post_with(wrong: set[str]) -> tuple[Append, Facts]:
    """Returns a post on behalf of an agent with which this is wrong, and the facts about it."""
    seq = MAX_SEQ if "full thread" in wrong else 3
    state = THREAD_STATE_CLOSED if "closed thread" in wrong else THREAD_STATE_OPEN
    mode = SYNC_MODE_STRICT if "strict thread" in wrong else SYNC_MODE_OFF
    sender = "gone" if "unregistered sender" in wrong else "new"
    command = post(
        "nowhere" if "missing thread" in wrong else "t",
        sender,
        register=True,
        request_id="used" if "used request_id" in wrong else "fresh",
        epoch="another" if "another epoch" in wrong else "epoch",
        expected=None if "strict thread" in wrong else 1 if "another head" in wrong else seq,
        based_on_seq=seq + 1 if "based on the future" in wrong else 3,
        reply_to=seq + 1 if "missing message" in wrong else 3,
        mentions=["nobody"] if "missing agent" in wrong else ["ben"],
        edit_of=2 if "another's message" in wrong else 0,
    )
    request = Request(1, 1_000, b"the hash of another post")
    head = Head(T, "epoch", seq, state, mode)
    return command, facts(requests={(T, sender, "used"): request}, heads={"t": head})


@pytest.mark.parametrize("at", range(len(WRONG)), ids=WRONG.keys())
def test_a_post_is_refused_for_the_first_thing_that_is_wrong(at: int) -> None:
    command, given = post_with(set(list(WRONG)[at:]))
    assert isinstance(refused(command, given), list(WRONG.values())[at])


def test_a_post_with_which_nothing_is_wrong_is_appended() -> None:
    command, given = post_with(set())
    batch = decided(command, given=given)
    assert list(batch.commit.entries["t"]) == [4]
    assert list(batch.changes.requests) == [(T, "new", "fresh")]
    assert list(batch.changes.registered) == ["new"]
    assert batch.changes.added == {(T, "new"): 4}


@pytest.mark.parametrize(
    ("sender", "edit_of", "entry", "error"),
    [
        ("ann", 4, None, MessageNotFound),
        ("ann", 2, Entry("ben", 1, editable=False, wakes=WAKE_ALL), AccessDenied),
        ("anonymous", 2, Entry("anonymous", 0, editable=True, wakes=WAKE_ALL), AccessDenied),
        ("ann", 2, Entry("ann", 1, editable=False, wakes=WAKE_ALL), ValidationFailed),
        ("ann", 3, Entry("ann", 1, editable=True, wakes=WAKE_ALL), ValidationFailed),
    ],
)
def test_an_edit_is_refused_for_the_first_thing_that_is_wrong(
    sender: str, edit_of: int, entry: Entry | None, error: type[BusError]
) -> None:
    given = facts(entries={} if entry is None else {(T, edit_of): entry})
    assert isinstance(refused(post(sender=sender, edit_of=edit_of), given), error)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (register("ben", b"old"), ValidationFailed),
        (register("gone", b"old"), ValidationFailed),
        (register("ann", b"old"), TokenExpired),
        (register("gone", b"new"), AgentExists),
        (register("ann", b"new"), AgentExists),
        (register("ann", b"new", operator=True), AgentExists),
        (RotateToken(b"none", b"new", STORE_NOW + 1), TokenInvalid),
        (RotateToken(b"old", b"new", STORE_NOW + 1), TokenExpired),
    ],
)
def test_a_token_is_checked_before_the_name(command: Command[Any], error: type[BusError]) -> None:
    assert isinstance(refused(command, facts()), error)


# ── What is decided ─────────────────────────────────────────────────────────────────────────────


def test_a_repeated_post_is_answered_from_the_facts_and_changes_nothing() -> None:
    closed = Head(T, "epoch", MAX_SEQ, THREAD_STATE_CLOSED, SYNC_MODE_STRICT)
    batch = decided(post(request_id="used", epoch="another"), given=facts(heads={"t": closed}))
    (again,) = batch.commit.outcomes
    assert isinstance(again, Appended)
    assert (again.seq, again.deduplicated, again.last_seq) == (1, True, MAX_SEQ)
    assert again.create_time.ToMicroseconds() == 1_000
    assert batch.changes == Changes()
    assert not (batch.commit.entries or batch.commit.heads)


def test_a_full_thread_takes_no_change_but_what_changes_nothing() -> None:
    full = {"t": Head(T, "epoch", MAX_SEQ, THREAD_STATE_OPEN)}
    assert isinstance(refused(set_state(), facts(heads=full)), QuotaExceeded)
    decided(set_state(state=THREAD_STATE_OPEN), given=facts(heads=full))


def test_refused_commands_leave_no_trace_in_what_others_change() -> None:
    others: list[Command[Any]] = [
        post(request_id="a", mentions=["ben"]),
        AppendMany([post(sender="ben"), post(edit_of=4)]),
        LeaveThread("t", "ben"),
    ]
    in_vain: list[Command[Any]] = [
        post(sender="new", register=True, mentions=["ben", "nobody"]),
        AppendMany([post(expected=0, register=True, request_id="b"), post("nowhere")]),
        register("ben", b"old"),
        DeleteThread("nowhere"),
    ]
    alone = decide(copy.deepcopy(others), facts())
    mixed = decide([in_vain[0], others[0], in_vain[1], others[1], *in_vain[2:], others[2]], facts())
    assert mixed.changes == alone.changes
    assert mixed.facts == alone.facts
    assert mixed.commit.heads == alone.commit.heads
    assert mixed.commit.entries == alone.commit.entries
    assert mixed.commit.edited == alone.commit.edited


def test_all_that_a_batch_creates_has_its_time() -> None:
    batch = decided(create("u"), post("u", request_id="a"), register("cyd"))
    outcomes: list[Any] = batch.commit.outcomes
    thread, done, registered = outcomes
    for made in (thread, done, registered.agent):
        assert made.create_time.ToMicroseconds() == NOW
    assert [request.time for request in batch.changes.requests.values()] == [NOW]


def test_tokens_expire_on_the_stores_clock() -> None:
    given = facts(tokens={b"old": token("ann", STORE_NOW + 1)})
    batch = decided(RotateToken(b"old", b"new", STORE_NOW + 9), given=given)
    assert batch.commit.outcomes == [{b"old": STORE_NOW + 1}]
    assert batch.changes.tokens == {b"old": token("ann", STORE_NOW + 1), b"new": token("ann")}


def test_each_new_thread_has_an_id_of_its_own_even_if_it_is_deleted_at_once() -> None:
    batch = decided(create("u"), DeleteThread("u"), create("u"), join("v", create=True))
    assert {key: made.name for key, made in batch.changes.created_threads.items()} == {
        9: "u",
        10: "u",
        11: "v",
    }
    assert batch.changes.deleted_threads == {9}
    joined: Any = batch.commit.outcomes[3]
    assert joined.thread_id == 11


def test_of_a_deleted_thread_only_the_deletion_is_left() -> None:
    batch = decided(
        post(content=LARGE, request_id="a", mentions=["ben"], based_on_seq=3),
        post(sender="cyd"),
        post(content=LARGE, edit_of=1),
        set_state(),
        DeleteThread("t"),
    )
    assert batch.changes == Changes(deleted_threads={T})
    assert batch.commit.deleted == [("t", "epoch")]
    assert not (batch.commit.heads or batch.commit.entries or batch.commit.edited)


def test_positions_of_one_batch_are_raised_to_the_highest() -> None:
    positions = [Position("epoch", 3, 1), Position("epoch", 1, 2)]
    batch = decided(*(Checkpoint([], {("ann", "t"): each}) for each in positions))
    assert batch.changes.positions == {("ann", "t", "epoch"): Position("epoch", 3, 2)}


@pytest.mark.parametrize(
    ("commands", "leftovers", "more"),
    [([], False, False), ([], True, True), ([DeleteThread("t")], False, True)],
)
def test_there_is_more_to_purge_while_there_are_rows_of_deleted_threads(
    commands: list[Command[Any]], leftovers: bool, more: bool
) -> None:
    batch = decided(*commands, Purge(), given=facts(leftovers=leftovers))
    assert batch.commit.outcomes[-1] is more
    assert batch.changes.purge is more


# ── What is needed ──────────────────────────────────────────────────────────────────────────────


def test_a_batch_needs_what_its_commands_name() -> None:
    post_of_all = post(mentions=["ben"], handoff_to="cyd", request_id="a", edit_of=1, reply_to=2)
    assert needs([post_of_all, AppendMany([post("u", "anonymous")])]) == Needs(
        threads={"t", "u"},
        requests={("t", "ann", "a")},
        entries={("t", 1)},
        authors={("t", 2)},
        replies={("t", "ann", 2)},
        asking={("t", 1)},
        participants={("t", "ann"), ("t", "ben"), ("t", "cyd")},
        agents={"ben", "cyd"},
    )


def test_a_batch_needs_an_id_for_each_command_that_may_create_a_thread() -> None:
    commands: list[Command[Any]] = [
        create("t"),
        DeleteThread("t"),
        create("t"),
        join("t", create=True),
        join("t"),
    ]
    assert needs(commands).new_threads == 3
    assert needs([*commands, create("u"), join("v")]).created_or_deleted == {"t", "u"}
