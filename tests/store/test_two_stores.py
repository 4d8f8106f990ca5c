"""Two stores on one database, like servers in two processes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bus_server.errors import (
    AgentExists,
    BusError,
    SeqConflict,
    ThreadExists,
    ThreadNotFound,
)
from bus_server.store import (
    AppendMany,
    Checkpoint,
    Command,
    DeleteThread,
    Position,
    RotateToken,
    SetOperatorToken,
    UnregisterAgent,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    commit,
    create,
    everything,
    is_revoked,
    join,
    listed,
    log,
    post,
    read_seqs,
    refusal,
    register,
    set_state,
    sighting,
)


async def test_what_one_store_committed_the_other_reads_at_once(store: Store, other: Store) -> None:
    await commit(store, register(), create(topic="topic"), join())
    for number in range(3):
        await commit(store, post(sender="ben", content=str(number)))
        assert await everything(other) == await everything(store)
    await commit(other, post(edit_of=1, sender="ben"), set_state(), UnregisterAgent("ann"))
    assert await everything(other) == await everything(store)
    await commit(other, DeleteThread("t"))
    assert await store.heads(["t"]) == {}


async def test_both_stores_have_one_epoch_and_one_clock(store: Store, other: Store) -> None:
    assert store.epoch
    assert store.epoch == other.epoch
    assert abs(store.clock.now() - other.clock.now()) < 1_000_000


FOREIGN: dict[str, Command[Any]] = {
    "a post": post(),
    "a checkpoint": Checkpoint([sighting("ann", 1)], {}),
    "a new thread": create("u"),
    "a deleted thread": DeleteThread("t"),
    "a registration": register("new"),
    "a rotation": RotateToken(b"ann", b"new", 1),
}


@pytest.mark.parametrize("command", FOREIGN.values(), ids=FOREIGN.keys())
async def test_the_foreign_version_changes_with_what_the_other_wrote(
    store: Store, other: Store, command: Command[Any]
) -> None:
    await commit(store, create(), register())
    versions = [await store.foreign_version() for _ in range(2)]
    await commit(other, command)
    versions += [await store.foreign_version() for _ in range(2)]
    assert versions[0] == versions[1] != versions[2] == versions[3]


async def test_the_foreign_version_does_not_change_with_ones_own_commits(
    store: Store, other: Store
) -> None:
    version = await store.foreign_version()
    await commit(store, create(), register(), post())
    await commit(store, post(), set_state(), Checkpoint([sighting("ann", 1)], {}))
    await log(store)
    await log(other)
    await other.foreign_version()
    assert await store.foreign_version() == version


async def test_concurrent_posts_through_both_have_seqs_without_gaps(
    store: Store, other: Store
) -> None:
    await commit(store, create("t"), create("u"))

    async def post_some(through: Store, sender: str) -> None:
        for number in range(15):
            posts = [post(name, sender) for name in ("t", "u", "t", "u")]
            (done,) = await commit(through, AppendMany(posts))
            assert [each.seq for each in done][::2] == [done[0].seq, done[0].seq + 1], number

    await asyncio.gather(
        *(post_some(each, name) for each in (store, other) for name in ("ann", "ben"))
    )
    for name in ("t", "u"):
        assert len(await log(store, name)) == 120
    assert await everything(store) == await everything(other)


async def test_a_post_repeated_through_the_other_store_is_stored_once(
    store: Store, other: Store
) -> None:
    await commit(store, create())
    for number in range(10):
        first, second = await asyncio.gather(
            *(commit(each, post(request_id=str(number))) for each in (store, other))
        )
        assert first[0].seq == second[0].seq == number + 1
        assert {first[0].deduplicated, second[0].deduplicated} == {False, True}
    assert len(await log(store)) == 10


RACES: dict[str, tuple[Callable[[int], Command[Any]], type[BusError]]] = {
    "posts that expect the same head": (lambda at: post(expected=0), SeqConflict),
    "creating a thread": (lambda at: create("new"), ThreadExists),
    "registering a name": (lambda at: register("new", bytes([at])), AgentExists),
    "deleting a thread": (lambda at: DeleteThread("t"), ThreadNotFound),
}


@pytest.mark.parametrize(("command", "error"), RACES.values(), ids=RACES.keys())
async def test_of_two_who_race_one_wins(
    store: Store, other: Store, command: Callable[[int], Command[Any]], error: type[BusError]
) -> None:
    await commit(store, create())
    racers: list[Awaitable[Any]] = [
        each.commit([command(at)]) for at, each in enumerate((store, other, store, other))
    ]
    outcomes = [commit.outcomes[0] for commit in await asyncio.gather(*racers)]
    assert sum(isinstance(outcome, error) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 3


async def test_of_two_who_join_a_missing_thread_one_creates_it(store: Store, other: Store) -> None:
    done = await asyncio.gather(
        *(
            commit(each, join(create=True, agent=name))
            for each, name in ((store, "a"), (other, "b"))
        )
    )
    (first,), (second,) = done
    assert sorted([first.created, second.created]) == [False, True]
    assert first.thread_id == second.thread_id
    assert list(await read_seqs(store)) == ["a", "b"]


async def test_threads_of_both_are_listed_in_the_order_of_their_activity(
    store: Store, other: Store
) -> None:
    for number, name in enumerate("abcd"):
        await commit((store, other)[number % 2], create(name))
    await commit(other, post("b"))
    await commit(store, post("c"))
    await commit(other, post("a"))
    assert await listed(store) == await listed(other) == list("acbd")


async def test_positions_raised_through_the_other_store_are_not_lowered(
    store: Store, other: Store
) -> None:
    (thread, *_) = await commit(store, create(), join(), *(post(sender="ben") for _ in range(5)))
    for each, read in ((store, 2), (other, 4), (store, 3)):
        await commit(each, Checkpoint([], {("ann", "t"): Position(thread.epoch, read, read)}))
    assert (await read_seqs(other))["ann"] == 4
    (joined,) = await commit(store, join())
    assert joined.after_seq == 4


async def test_tokens_that_the_other_store_ended_are_ended(store: Store, other: Store) -> None:
    await commit(store, register(), SetOperatorToken(b"operator"))
    end = store.clock.now() + 60_000_000
    await commit(other, RotateToken(b"ann", b"new", end), SetOperatorToken(b"next"))
    tokens = [b"ann", b"new", b"operator", b"next"]
    assert await store.expire_times(tokens) == {b"ann": end, b"new": 0, b"next": 0}
    await commit(other, UnregisterAgent("ann"))
    assert await is_revoked(store, b"new")
    assert isinstance(await refusal(store, register()), AgentExists)
