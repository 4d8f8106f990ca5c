"""Whom entries address and wake, and what an agent has not read of that."""

import random
from typing import Any

import pytest

from bus_server.store import (
    MAX_ADDRESSED_COUNT,
    Append,
    AppendMany,
    Checkpoint,
    Command,
    DeleteThread,
    Position,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    commit,
    create,
    join,
    log,
    outcomes,
    post,
    register,
    set_state,
)
from tests.store.test_threads import purge
from threadbus.v1.message_pb2 import (
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Wake,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN

AGENTS = ("ann", "ben", "cyd")


@pytest.fixture
async def thread(store: Store) -> int:
    """A thread that three agents have joined. Returns its id."""
    await commit(store, *map(register, AGENTS), create(), *(join(agent=name) for name in AGENTS))
    return (await store.heads(["t"]))["t"].thread_id


async def addressed(store: Store, thread_id: int) -> dict[str, list[int] | None]:
    """Returns the seqs of the entries that address each agent; None: there is no such thread."""
    return {name: await store.addressed(name, thread_id, 0, 1 << 32, 1_000) for name in AGENTS}


async def unread(
    store: Store, agent: str, read: dict[str, int] | None = None
) -> dict[str, tuple[int, int]]:
    """Returns an agent's unread threads: read_seq and addressed_count."""
    found = await store.unread(agent, 1_000, (), read)
    return {each.thread: (each.read_seq, each.addressed_count) for each, _ in found}


@pytest.mark.parametrize("together", [True, False])
async def test_an_entry_addresses_those_it_mentions_hands_off_to_and_replies_to(
    store: Store, thread: int, together: bool
) -> None:
    posts: list[Command[Any]] = [
        post(),
        post(sender="ben", mentions=["cyd", "ben"]),
        post(sender="ben", handoff_to="cyd"),
        post(sender="cyd", reply_to=1),
        post(sender="cyd", reply_to=1, mentions=["ann"], handoff_to="ann"),
        post(sender="ann", reply_to=1),  # itself
        post(sender="anonymous", reply_to=2),
        post(sender="ann", reply_to=7),  # anonymous
        post(sender="ben", edit_of=2, content="new"),
    ]
    await outcomes(store, posts, together=together)
    assert await addressed(store, thread) == {"ann": [4, 5], "ben": [7], "cyd": [2, 3]}
    assert await store.addressed("anonymous", thread, 0, 100, 100) == []


async def test_the_entries_of_one_agent_are_read_in_parts(store: Store, thread: int) -> None:
    wakes = [WAKE_NOBODY, WAKE_ALL, WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY, WAKE_NOBODY]
    await commit(store, *(post(mentions=["ben"], wakes=each) for each in wakes))
    assert await store.addressed("ben", thread, 0, 100, 100) == [1, 2, 3, 4, 5, 6]
    assert await store.addressed("ben", thread, 1, 5, 100) == [2, 3, 4, 5]
    assert await store.addressed("ben", thread, 0, 100, 2) == [1, 2]
    assert await store.addressed("ben", thread, 4, 100, 1) == [5]
    assert await store.addressed("ben", thread + 1, 0, 100, 100) is None
    assert await store.addressed("b\0en", thread, 0, 100, 100) == []


async def test_a_refused_post_addresses_nobody(store: Store, thread: int) -> None:
    done = await store.commit([post(mentions=["ben"], expected=7), post(mentions=["zoe"])])
    assert all(isinstance(outcome, Exception) for outcome in done.outcomes)
    assert await addressed(store, thread) == {"ann": [], "ben": [], "cyd": []}


async def test_an_entry_says_whom_it_wakes(store: Store, thread: int) -> None:
    await commit(store, post(), post(wakes=WAKE_ALL), post(wakes=WAKE_NOBODY))
    await commit(store, post(wakes=WAKE_ADDRESSED), set_state())
    wanted = [WAKE_ALL, WAKE_ALL, WAKE_NOBODY, WAKE_ADDRESSED, WAKE_NOBODY]
    assert [entry.wakes for entry in await log(store)] == wanted


@pytest.mark.parametrize("content", ["text", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("wakes", [WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY])
@pytest.mark.parametrize("together", [True, False])
async def test_an_edit_wakes_as_its_message(
    store: Store, thread: int, content: str, wakes: Wake.ValueType, together: bool
) -> None:
    edits = [post(edit_of=1, content="new"), post(edit_of=1, content="again", mentions=["ben"])]
    await outcomes(store, [post(content=content, wakes=wakes), *edits], together=together)
    assert [entry.wakes for entry in await log(store)] == [wakes] * 3
    count = 0 if wakes == WAKE_NOBODY else 1
    assert (await unread(store, "ben")).get("t", (0, 0))[1] == count


async def test_what_wakes_nobody_is_not_unread(store: Store, thread: int) -> None:
    await commit(store, post(wakes=WAKE_NOBODY, mentions=["ben"]), set_state())
    await commit(store, set_state(state=THREAD_STATE_OPEN), post(wakes=WAKE_ADDRESSED))
    assert await unread(store, "ben") == {}
    await commit(store, post())
    assert await unread(store, "ben") == {"t": (0, 0)}


async def test_what_addresses_an_agent_is_unread_for_that_one(store: Store, thread: int) -> None:
    await commit(store, post(sender="ben"), AppendMany([post(sender="ben")]))
    for name in AGENTS:
        epoch = (await store.heads(["t"]))["t"].epoch
        await commit(store, Checkpoint([], {(name, "t"): Position(epoch, 0, 2)}))
    await commit(store, post(sender="cyd", wakes=WAKE_ADDRESSED, reply_to=2))
    await commit(store, post(sender="ben", wakes=WAKE_ADDRESSED, mentions=["cyd"]))
    assert await unread(store, "ann") == {}
    assert await unread(store, "ben") == {"t": (2, 1)}
    assert await unread(store, "cyd") == {"t": (3, 1)}
    assert await unread(store, "cyd", {"t": 4}) == {}


async def test_addressed_entries_are_counted_up_to_a_limit(store: Store, thread: int) -> None:
    posts = [post(mentions=["ben"], wakes=WAKE_ADDRESSED) for _ in range(MAX_ADDRESSED_COUNT)]
    await commit(store, AppendMany(posts))
    assert await unread(store, "ben", {"t": 1}) == {"t": (1, MAX_ADDRESSED_COUNT - 1)}
    await commit(store, AppendMany(posts))
    assert await unread(store, "ben") == {"t": (0, MAX_ADDRESSED_COUNT)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_what_is_unread_is_what_wakes_after_the_read_position(
    store: Store, thread: int, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - not a secret
    waking: list[set[str]] = []
    addressing: list[set[str]] = []

    def entry() -> Append:
        wakes = chance.choice([WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY, WAKE_NOBODY])
        mentions = chance.choices(AGENTS, k=chance.randrange(2))
        everybody = {WAKE_ALL: {*AGENTS}, WAKE_ADDRESSED: {*mentions}}.get(wakes, set())
        waking.append(everybody)
        addressing.append(everybody & {*mentions})
        return post(sender="dan", wakes=wakes, mentions=mentions)

    for _ in range(6):
        await commit(store, *(entry() for _ in range(chance.randrange(1, 5))))
        closing = set_state(state=chance.choice([THREAD_STATE_CLOSED, THREAD_STATE_OPEN]))
        head = (await store.heads(["t"]))["t"].seq
        await commit(store, closing, set_state(state=THREAD_STATE_OPEN))
        for _ in range((await store.heads(["t"]))["t"].seq - head):
            waking.append(set())
            addressing.append(set())
        for name in AGENTS:
            for read in range(len(waking) + 1):
                wanted = {}
                if any(name in each for each in waking[read:]):
                    wanted = {"t": (read, sum(name in each for each in addressing[read:]))}
                assert await unread(store, name, {"t": read}) == wanted


async def test_unread_can_be_asked_for_some_threads(store: Store) -> None:
    names = ["a", "b", "c"]
    await commit(store, *map(create, names), *map(join, names))
    await commit(store, *(post(name, "ben") for name in ("a", "b", "c", "b")), create("other"))
    assert await unread(store, "ann", {"a": 0, "b": 1, "c": 1, "other": 0, "none": 0}) == {
        "a": (0, 0),
        "b": (1, 0),
    }
    assert await unread(store, "ann", {}) == {}
    epoch = (await store.heads(["b"]))["b"].epoch
    await commit(store, Checkpoint([], {("ann", "b"): Position(epoch, 0, 2)}))
    assert await unread(store, "ann", {"b": 1}) == {}


async def test_a_deleted_thread_leaves_nothing_that_addresses(store: Store, thread: int) -> None:
    await commit(store, *(post(mentions=["ben"], wakes=WAKE_NOBODY) for _ in range(600)))
    await commit(store, DeleteThread("t"), create(), join(agent="ben", from_first=True))
    assert await unread(store, "ben") == {}
    await purge(store)
    assert await addressed(store, thread) == dict.fromkeys(AGENTS)


async def test_a_thread_deleted_in_the_batch_that_posted_to_it_addresses_nobody(
    store: Store, thread: int
) -> None:
    await commit(store, post(mentions=["ben"], wakes=WAKE_ADDRESSED), DeleteThread("t"), create())
    await commit(store, join(agent="ben", from_first=True))
    assert await addressed(store, thread) == dict.fromkeys(AGENTS)
    assert await unread(store, "ben") == {}
