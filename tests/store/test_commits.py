"""Commits: what they return, that they are whole, and that their commands see one another."""

import asyncio
from typing import Any

import pytest

from bus_server.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    BusError,
    CursorInvalid,
    MessageNotFound,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ThreadExists,
    ThreadNotFound,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.store import (
    AppendMany,
    Checkpoint,
    Command,
    DeleteThread,
    LeaveThread,
    Position,
    RotateToken,
    UnregisterAgent,
    UpdateAgent,
    UpdateThread,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    commit,
    create,
    everything,
    is_revoked,
    join,
    log,
    outcomes,
    participants,
    post,
    refusal,
    register,
    set_state,
)
from tests.store.conftest import Database
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Thread

# ── What a commit returns ───────────────────────────────────────────────────────────────────────


async def test_a_commit_has_the_entries_of_each_thread_as_they_are_read(store: Store) -> None:
    await commit(store, create("t"), create("u"), post("t"))
    done = await store.commit([post("t"), post("u"), set_state("t"), post("t")])
    assert {name: list(rows) for name, rows in done.entries.items()} == {"t": [2, 3], "u": [1]}
    heads = await store.heads(["t", "u"])
    for name, rows in done.entries.items():
        read = await store.read(heads[name].thread_id, 0, 100, 1 << 20)
        assert read[-len(rows) :] == list(rows.values())
    assert Message.FromString(done.entries["t"][3][1]).kind == MESSAGE_KIND_THREAD


async def test_a_commit_has_the_new_heads_of_threads_with_new_entries(store: Store) -> None:
    await commit(store, create("quiet"))
    done = await store.commit([create("t"), create("new"), post("t"), set_state("t"), join("new")])
    assert done.heads == await store.heads(["t"])
    assert done.heads["t"].seq == 2


async def test_a_commit_without_entries_has_no_heads(store: Store) -> None:
    await commit(store, create(), post(request_id="a"), register())
    done = await store.commit(
        [
            post(request_id="a"),
            set_state(state=THREAD_STATE_OPEN),
            join(),
            LeaveThread("t", "ann"),
            UpdateAgent("ann", Agent(description="x"), ["description"]),
            Checkpoint([], {("ann", "t"): Position("", 1, 1)}),
        ]
    )
    assert not (done.heads or done.entries or done.edited or done.deleted)


async def test_a_commit_has_the_newest_edit_of_each_edited_message(store: Store) -> None:
    await commit(store, create("t"), post("t"), create("u"), post("u"))
    posts = [post("t", edit_of=1), post("u", edit_of=1), post("t"), post("t", edit_of=3)]
    done = await store.commit([*posts, post("t", edit_of=1)])
    assert done.edited == {"t": {1: 5, 3: 4}, "u": {1: 2}}


async def test_a_commit_names_the_threads_that_it_deleted(store: Store) -> None:
    first, second = await commit(store, create("t"), create("u"))
    done = await store.commit([post("t"), DeleteThread("u"), DeleteThread("t")])
    assert done.deleted == [("u", second.epoch), ("t", first.epoch)]
    assert not (done.heads or done.entries)


async def test_a_commit_of_nothing_returns_nothing(store: Store) -> None:
    done = await store.commit([])
    assert not (done.outcomes or done.heads or done.entries or done.edited or done.deleted)


# ── Commands of one commit see one another ──────────────────────────────────────────────────────


async def test_a_thread_is_made_anew_within_a_commit(store: Store) -> None:
    await commit(store, create(), post(request_id="a"), post(edit_of=1))
    done = await store.commit(
        [
            post(content="lost"),
            DeleteThread("t"),
            post(content="too late"),
            create(),
            post(content="first", request_id="a"),
            DeleteThread("t"),
            create(topic="last"),
            post(content="second", request_id="a"),
            post(content="third", edit_of=1),
        ]
    )
    answers: list[Any] = done.outcomes
    old, _, late, one, lone, _, two, *posts = answers
    assert isinstance(late, ThreadNotFound)
    assert [each.seq for each in (old, lone, *posts)] == [3, 1, 1, 2]
    assert done.deleted == [("t", old.epoch), ("t", one.epoch)]
    assert list(done.entries["t"]) == [1, 2]
    assert done.edited == {"t": {1: 2}}
    assert done.heads == await store.heads(["t"])
    assert done.heads["t"].epoch == two.epoch
    assert [entry.content for entry in await log(store)] == ["second", "third"]
    (thread,) = await store.threads(["t"])
    assert (thread.topic, thread.head_seq) == ("last", 2)


async def test_an_agent_registers_posts_and_rotates_its_token_in_a_commit(store: Store) -> None:
    later = store.clock.now() + 60_000_000
    *_, first, second = await commit(
        store,
        create(),
        register("ann", b"one"),
        post(mentions=["ann"]),
        RotateToken(b"one", b"two", later),
        RotateToken(b"two", b"three", later),
    )
    assert first == {b"one": later}
    assert second == {b"one": later, b"two": later}
    ends = {b"one": later, b"two": later, b"three": 0}
    assert await store.expire_times([b"one", b"two", b"three"]) == ends


async def test_an_agent_joins_leaves_and_joins_again_in_a_commit(store: Store) -> None:
    await commit(store, create(), post(sender="ben"))
    first, _, second, _, _ = await commit(
        store, join(), LeaveThread("t", "ann"), join(from_first=True), join(), join(agent="cyd")
    )
    assert (first.after_seq, second.after_seq) == (1, 0)
    found = await participants(store)
    assert {name: each.read_seq for name, each in found.items()} == {"ann": 0, "ben": 1, "cyd": 1}
    await commit(store, join(), LeaveThread("t", "ann"))
    assert list(await participants(store)) == ["ben", "cyd"]


async def test_an_agent_is_gone_for_the_rest_of_the_commit(store: Store) -> None:
    await commit(store, create(), register("ann"), join(), post(sender="ben"))
    gone: list[Command[Any]] = [
        UnregisterAgent("ann"),
        post(sender="ben", mentions=["ann"]),
        join(),
        post(sender="ann"),
        register("ann", b"new"),
        register("ben", b"ann"),
    ]
    _, mention, _, _, again, other = await outcomes(store, gone, together=True)
    assert isinstance(mention, AgentNotFound)
    assert isinstance(again, AgentExists)
    assert isinstance(other, ValidationFailed)  # the token stays ann's
    assert list(await participants(store)) == ["ben"]
    assert await is_revoked(store, b"ann")


# ── Refused commands ────────────────────────────────────────────────────────────────────────────


def refused_commands() -> dict[str, tuple[Command[Any], type[BusError]]]:
    """Returns commands that are refused after `begin`, and why."""
    return {
        "a post to a missing thread": (post("nowhere", register=True), ThreadNotFound),
        "a post to a closed thread": (post("closed", "new", register=True), ThreadClosed),
        "a post to another epoch": (post(epoch="another"), CursorInvalid),
        "a post that expects another head": (post(expected=0), SeqConflict),
        "a post with a used request_id": (post(content="other", request_id="a"), RequestIdReused),
        "a post that mentions nobody": (
            post(sender="new", register=True, mentions=["nobody", "ann"]),
            AgentNotFound,
        ),
        "a reply to a missing message": (post(mentions=["ben"], reply_to=1 << 40), MessageNotFound),
        "an edit of another's message": (post(sender="ben", edit_of=1), AccessDenied),
        "a post by an unregistered agent": (
            post(sender="gone", register=True, mentions=["ben"]),
            AgentExists,
        ),
        "the creation of an existing thread": (create(topic="new"), ThreadExists),
        "joining a missing thread": (join("nowhere"), ThreadNotFound),
        "leaving a missing thread": (LeaveThread("nowhere", "ann"), ThreadNotFound),
        "closing a missing thread": (set_state("nowhere"), ThreadNotFound),
        "changing a missing thread": (
            UpdateThread("nowhere", Message(sender="ann"), Thread(topic="x"), ["topic"]),
            ThreadNotFound,
        ),
        "deleting a missing thread": (DeleteThread("nowhere"), ThreadNotFound),
        "registering a taken name": (register("ben", b"other"), AgentExists),
        "claiming a taken name": (register("ben", b"other", operator=True), AgentExists),
        "registering an unregistered name": (register("gone", b"other"), AgentExists),
        "registering with another's token": (register("new", b"ben"), ValidationFailed),
        "changing a missing agent": (
            UpdateAgent("nobody", Agent(description="x"), ["description"]),
            AgentNotFound,
        ),
        "unregistering a missing agent": (UnregisterAgent("nobody"), AgentNotFound),
        "unregistering an agent again": (UnregisterAgent("gone"), AgentNotFound),
        "rotating an unknown token": (RotateToken(b"unknown", b"other", 1 << 60), TokenInvalid),
        "rotating an ended token": (RotateToken(b"gone", b"other", 1 << 60), TokenInvalid),
    }


async def begin(store: Store) -> None:
    """Commit what `refused_commands` are about."""
    await commit(store, *map(register, ("ann", "ben", "gone")), UnregisterAgent("gone"))
    await commit(store, create("t"), create("closed"), set_state("closed"))
    await commit(store, post(request_id="a"))


async def test_a_refused_command_changes_nothing(store: Store) -> None:
    await begin(store)
    before = await everything(store)
    for what, (command, error) in refused_commands().items():
        assert isinstance(await refusal(store, command), error), what
    assert await everything(store) == before


async def test_refused_commands_affect_no_other_of_their_commit(store: Store) -> None:
    await begin(store)
    before = await everything(store)
    refused = refused_commands()
    batch: list[Command[Any]] = []
    for command, _ in refused.values():
        batch += [command, post(sender="anonymous")]
    answers = await outcomes(store, batch, together=True)
    for (what, (_, error)), outcome in zip(refused.items(), answers[::2], strict=True):
        assert isinstance(outcome, error), what
    assert [each.seq for each in answers[1::2]] == list(range(2, len(refused) + 2))
    after = await everything(store)
    assert after["agents"] == before["agents"]
    assert after["owners"] == before["owners"]
    assert [found.keys() for found in after["participants"]] == [
        found.keys() for found in before["participants"]
    ]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_refused_command_may_be_the_whole_commit(store: Store, count: int) -> None:
    done = await store.commit([post() for _ in range(count)])
    assert [type(outcome) for outcome in done.outcomes] == [ThreadNotFound] * count
    assert done.heads == {}


# ── Whole, durable, and one after the other ─────────────────────────────────────────────────────


async def test_what_was_committed_is_there_after_the_store_was_closed(database: Database) -> None:
    async with database() as first:
        await begin(first)
        before, epoch = await everything(first), first.epoch
    async with database() as second:
        assert await everything(second) == before
        assert second.epoch == epoch
        (again,) = await commit(second, post(request_id="a"))
        assert again.deduplicated


async def test_concurrent_commits_are_made_one_after_the_other(store: Store) -> None:
    await commit(store, create())
    done = await asyncio.gather(
        *(commit(store, post(sender=f"agent{number}"), post()) for number in range(20))
    )
    seqs = [(first.seq, second.seq) for first, second in done]
    assert sorted(seqs) == [(seq, seq + 1) for seq in range(1, 41, 2)]
    assert len(await log(store)) == 40


@pytest.mark.parametrize("turns", [1, 2, 5, 20])
async def test_a_cancelled_commit_is_made_whole_or_not_at_all(store: Store, turns: int) -> None:
    await commit(store, create("t"))
    batch = [post("t", content=str(at), request_id=str(at)) for at in range(30)]
    task = asyncio.create_task(commit(store, create("u"), AppendMany(batch), register("ann")))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await commit(store, create("last"))
    stored = "u" in await store.heads(["u"])
    assert len(await log(store, "t")) == 30 * stored
    assert (await store.agent("ann") is not None) == stored
    (again,) = await commit(store, AppendMany(batch))
    assert [each.seq for each in again] == list(range(1, 31))
    assert [each.deduplicated for each in again] == [stored] * 30
    assert [entry.content for entry in await log(store, "t")] == [str(at) for at in range(30)]
