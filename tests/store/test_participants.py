"""Participants: who becomes one, what they have read, and the presence of agents."""

from dataclasses import replace
from typing import Any

import pytest

from bus_server.store import (
    Checkpoint,
    Command,
    Head,
    LeaveThread,
    Position,
    PresenceRow,
    SetThreadState,
    UnregisterAgent,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    TEXTS,
    commit,
    create,
    join,
    outcomes,
    participants,
    post,
    read_seqs,
    register,
    set_state,
    sighting,
)
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WORKING,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED

SECOND = 1_000_000  # microseconds


async def head(store: Store) -> Head:
    """Returns the head of thread t."""
    return (await store.heads(["t"]))["t"]


async def raised(store: Store, *positions: tuple[int, int], epoch: str = "") -> tuple[int, int]:
    """Store these positions (delivered, read) of ann in t. Returns the one that it has then."""
    epoch = epoch or (await head(store)).epoch
    for each in positions:
        await commit(store, Checkpoint([], {("ann", "t"): Position(epoch, *each)}))
    found = (await participants(store))["ann"]
    return found.delivered_seq, found.read_seq


@pytest.fixture
async def thread(store: Store) -> str:
    """A thread in which ann has joined, and ben has posted nine messages. Returns its epoch."""
    (made,) = await commit(store, create())
    await commit(store, join(), *(post(sender="ben") for _ in range(9)))
    epoch: str = made.epoch
    return epoch


# ── Participants ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("command", "new"),
    [
        pytest.param(post(), ["ann"], id="a post"),
        pytest.param(post(mentions=["cyd", "ben"]), ["ann", "ben", "cyd"], id="mentions"),
        pytest.param(post(handoff_to="ben"), ["ann", "ben"], id="a handoff"),
        pytest.param(post(sender="anonymous", mentions=["ben"]), ["ben"], id="anonymous"),
        pytest.param(join(), ["ann"], id="joining"),
        pytest.param(join(agent=None), [], id="joining anonymously"),
        pytest.param(set_state(by="ann"), [], id="a change of the thread"),
    ],
)
async def test_those_who_join_post_or_are_addressed_become_participants(
    store: Store, command: Command[Any], new: list[str]
) -> None:
    await commit(store, create(), *map(register, ("ann", "ben", "cyd")))
    await commit(store, command)
    assert list(await participants(store)) == new


async def test_a_hundred_agents_become_participants_in_one_commit(store: Store) -> None:
    names = [f"agent{number:03}" for number in range(100)]
    await commit(store, create("t"), create("u"), *map(register, names))
    await commit(store, *(post("t", name) for name in names[::2]))
    await commit(store, *(post(thread, name) for name in names for thread in ("t", "u")))
    for thread in ("t", "u"):
        assert list(await participants(store, thread)) == names


async def test_a_participant_is_told_with_its_kind_and_when_it_joined(store: Store) -> None:
    await commit(store, create(), register(kind=AGENT_KIND_HUMAN))
    (first,) = await commit(store, post())
    await commit(store, join(), post())
    found = (await participants(store))["ann"]
    assert (found.kind, found.join_time) == (AGENT_KIND_HUMAN, first.create_time)


async def test_one_who_left_is_no_participant_until_it_posts_or_joins_again(store: Store) -> None:
    await commit(store, create(), join(), join(agent="ben"), post(sender="ben"))
    await commit(store, LeaveThread("t", "ann"), LeaveThread("t", "nobody"))
    assert list(await participants(store)) == ["ben"]
    await commit(store, post())
    assert await read_seqs(store) == {"ann": 0, "ben": 1}


# ── What a participant has read ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("senders", "read"),
    [("a", 1), ("aaa", 3), ("ba", 0), ("ab", 1), ("aba", 1), ("baaa", 0)],
)
async def test_own_messages_are_read_up_to_the_first_of_another(
    store: Store, senders: str, read: int, together: bool
) -> None:
    await commit(store, create())
    posts = [post(sender={"a": "ann", "b": "ben"}[each]) for each in senders]
    await outcomes(store, posts, together=together)
    assert (await read_seqs(store))["ann"] == read


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ({"based_on_seq": 3}, 4),
        ({"based_on_seq": 2}, 2),
        ({"position": Position("", 3, 3)}, 0),
        ({"position": Position("another", 3, 3)}, 0),
    ],
    ids=["all", "some", "no epoch", "another epoch"],
)
@pytest.mark.parametrize("joined", [True, False])
async def test_one_who_read_the_whole_thread_has_read_its_own_message_too(
    store: Store, fields: dict[str, Any], read: int, joined: bool
) -> None:
    await commit(store, create(), *[join()] * joined, *(post(sender="ben") for _ in range(3)))
    await commit(store, post(**fields))
    assert (await read_seqs(store))["ann"] == read


@pytest.mark.parametrize(("read", "after"), [(9, 10), (8, 8), (0, 0)])
async def test_a_position_that_comes_with_a_post_counts(
    store: Store, thread: str, read: int, after: int
) -> None:
    await commit(store, post(position=Position(thread, 0, read)))
    assert (await read_seqs(store))["ann"] == after


@pytest.mark.parametrize("sender", ["ann", "new"])
async def test_a_position_that_comes_with_a_change_of_the_thread_counts(
    store: Store, thread: str, sender: str
) -> None:
    entry, position = Message(sender=sender), Position(thread, 9, 9)
    await commit(store, SetThreadState("t", THREAD_STATE_CLOSED, entry, position))
    assert await read_seqs(store) == {"ann": 10 if sender == "ann" else 0, "ben": 9}


async def test_a_post_lowers_no_position(store: Store, thread: str) -> None:
    assert await raised(store, (7, 7)) == (7, 7)
    await commit(store, post(position=Position(thread, 2, 2), based_on_seq=3))
    assert await raised(store) == (7, 7)


@pytest.mark.parametrize("together", [True, False])
async def test_a_checkpoint_raises_positions_and_lowers_none(
    store: Store, thread: str, together: bool
) -> None:
    positions = [(2, 0), (3, 2), (1, 1), (2, 4)]
    checkpoints = [Checkpoint([], {("ann", "t"): Position(thread, *each)}) for each in positions]
    await outcomes(store, checkpoints, together=together)
    assert await raised(store) == (3, 4)


async def test_a_checkpoint_of_a_hundred_positions_raises_each(store: Store) -> None:
    threads = {f"t{number}": Position("", 0, 0) for number in range(10)}
    names = [f"agent{number}" for number in range(10)]
    made = await commit(store, *map(create, threads))
    await commit(store, *(post(thread, "ben") for thread in threads for _ in range(9)))
    await commit(store, *(join(thread, name) for thread in threads for name in names))
    positions = {
        (name, thread.name): Position(thread.epoch, at, 9 - at)
        for thread in made
        for at, name in enumerate(names)
    }
    await commit(store, Checkpoint([], positions))
    for thread in threads:
        found = await participants(store, thread)
        assert [found[name].delivered_seq for name in names] == list(range(10))
        assert [found[name].read_seq for name in names] == [9] * 10


async def test_positions_of_other_epochs_and_of_those_who_left_are_dropped(
    store: Store, thread: str
) -> None:
    assert await raised(store, (5, 5), epoch="another") == (0, 0)
    positions = {
        ("nobody", "t"): Position(thread, 1, 1),
        ("ann", "nowhere"): Position(thread, 1, 1),
        ("ann", "T"): Position(thread, 1, 1),
    }
    await commit(store, LeaveThread("t", "ann"), Checkpoint([], positions))
    await commit(store, Checkpoint([], {("ann", "t"): Position(thread, 5, 5)}))
    assert list(await participants(store)) == ["ben"]
    await commit(store, post())
    assert await raised(store) == (0, 0)


@pytest.mark.parametrize(
    ("epochs", "together"),
    [
        ("this, another", False),
        ("another, this", False),
        ("another, this", True),
        ("this, another", True),
    ],
)
async def test_a_position_of_another_epoch_does_not_displace_one(
    store: Store, thread: str, epochs: str, together: bool
) -> None:
    checkpoints = [
        Checkpoint([], {("ann", "t"): Position(thread if epoch == "this" else epoch, 5, 5)})
        for epoch in epochs.split(", ")
    ]
    await outcomes(store, checkpoints, together=together)
    assert await raised(store) == (5, 5)


async def test_a_checkpoint_counts_for_the_rest_of_its_commit(store: Store, thread: str) -> None:
    checkpoint = Checkpoint([], {("ann", "t"): Position(thread, 9, 9)})
    _, joined, _ = await commit(store, checkpoint, join(), post())
    assert joined.after_seq == 9
    assert await raised(store) == (9, 10)


async def test_what_one_had_read_does_not_outlive_its_leaving(store: Store, thread: str) -> None:
    checkpoint = Checkpoint([], {("ann", "t"): Position(thread, 9, 9)})
    await commit(store, checkpoint, LeaveThread("t", "ann"), post())
    assert await raised(store) == (0, 0)
    await commit(store, Checkpoint([], {("ann", "t"): Position(thread, 9, 9)}))
    *_, joined = await commit(store, LeaveThread("t", "ann"), join(from_first=True))
    assert joined.after_seq == 0
    assert await raised(store) == (0, 0)


# ── Presence ────────────────────────────────────────────────────────────────────────────────────


async def test_of_each_part_of_a_presence_the_newest_is_kept(store: Store) -> None:
    await commit(store, register())
    now = store.clock.now()
    rows = [
        PresenceRow("ann", now - 9, now + SECOND, now - 1, PRESENCE_OFFLINE, "a", now - 5, 0),
        PresenceRow(
            *("ann", now - 8, now + 2, now - 2, PRESENCE_IDLE, "b", now - 4, now + SECOND),
            sends_heartbeats=True,
        ),
        PresenceRow("ann", now - 10, now + 3, now - 3, PRESENCE_IDLE, "c", now - 6, 0),
    ]
    for row in rows:
        await commit(store, Checkpoint([row], {}))
    kept = PresenceRow(
        "ann", now - 8, now + 2, now - 1, PRESENCE_OFFLINE, "a", now - 4, now + SECOND
    )
    assert await store.presence_rows(now - 2) == [kept]
    assert await store.presence_rows(now - 1) == []
    newer = replace(kept, state_time=now, reported=PRESENCE_IDLE, sends_heartbeats=True)
    await commit(store, Checkpoint([newer], {}))
    assert await store.presence_rows(now - 1) == [newer]


async def test_the_newest_presence_counts(store: Store) -> None:
    await commit(store, register())
    now = store.clock.now()
    newest = sighting("ann", now - 1, reported=PRESENCE_IDLE, status_text="new")
    older = sighting("ann", now - 2, reported=PRESENCE_WORKING, status_text="old")
    await commit(store, Checkpoint([older], {}))
    await commit(store, Checkpoint([newest], {}), Checkpoint([older], {}))
    await commit(store, Checkpoint([older], {}))
    assert await store.presence_rows(0) == [newest]
    agent = await store.agent("ann")
    assert agent is not None
    assert (agent.presence, agent.status_text) == (PRESENCE_IDLE, "new")
    assert agent.last_seen_time.ToMicroseconds() == now - 1


@pytest.mark.parametrize("text", [*TEXTS.values(), ""], ids=[*TEXTS, "empty"])
async def test_a_status_text_is_kept_exactly_until_another_is_given(
    store: Store, text: str
) -> None:
    await commit(store, register())
    for seen, given in enumerate([None, "old", text, None], start=1):
        await commit(store, Checkpoint([sighting("ann", seen, status_text=given)], {}))
    assert await store.presence_rows(0) == [sighting("ann", 4, status_text=text)]
    (agent,) = await store.list_agents(10, "")
    assert agent.status_text == text


async def test_an_agent_never_seen_has_no_presence(store: Store) -> None:
    await commit(store, create(), register(), join())
    agent = await store.agent("ann")
    assert agent is not None
    assert agent.presence == PRESENCE_UNSPECIFIED
    assert not agent.HasField("last_seen_time")
    assert (await participants(store))["ann"].presence == PRESENCE_UNSPECIFIED


@pytest.mark.parametrize(
    ("state", "ended", "shown"),
    [
        (PRESENCE_WORKING, False, PRESENCE_WORKING),
        (PRESENCE_WORKING, True, PRESENCE_LAPSED),
        (PRESENCE_OFFLINE, True, PRESENCE_OFFLINE),
    ],
)
async def test_an_agent_whose_lease_has_ended_is_shown_as_lapsed(
    store: Store, state: int, ended: bool, shown: int
) -> None:
    now = store.clock.now()
    row = sighting(
        "ann", now, reported=state, lease_end_time=now + (-SECOND if ended else SECOND * 60)
    )
    await commit(store, create(), register(), join(), Checkpoint([row], {}))
    agent = await store.agent("ann")
    assert agent is not None
    assert agent.presence == shown
    assert [agent.presence for agent in await store.list_agents(10, "")] == [shown]
    assert (await participants(store))["ann"].presence == shown
    entrance = await store.entrance(join(), (await commit(store, join()))[0])
    assert entrance is not None
    assert [participant.presence for participant in entrance.participants] == [shown]
    assert await store.presence_rows(0) == [row]


@pytest.mark.parametrize("beats", [False, True])
async def test_the_work_of_an_agent_that_sends_heartbeats_ends_with_its_lease(
    store: Store, beats: bool
) -> None:
    now = store.clock.now()
    row = PresenceRow(
        "ann", now, now, work_time=now, working_end_time=now + 60 * SECOND, sends_heartbeats=beats
    )
    await commit(store, register(), Checkpoint([row], {}))
    agent = await store.agent("ann")
    assert agent is not None
    assert agent.presence == (PRESENCE_LAPSED if beats else PRESENCE_WORKING)


async def test_presence_of_an_unregistered_agent_is_not_stored(store: Store) -> None:
    await commit(store, register("ann"), register("ben"), UnregisterAgent("ann"))
    await commit(store, Checkpoint([sighting("ann", 1)], {}))
    await commit(store, UnregisterAgent("ben"), Checkpoint([sighting("ben", 1)], {}))
    assert await store.presence_rows(0) == []


async def test_participations_are_the_heads_of_those_threads_in_which_an_agent_participates(
    store: Store,
) -> None:
    await commit(store, create("t"), create("u"), create("v"), join("t"), join("u"), join("v", "b"))
    await commit(store, post("u"), LeaveThread("t", "ann"))
    assert await store.participations("ann", ["t", "u", "v", "w"]) == await store.heads(["u"])
    assert await store.participations("ann", ["t", "v"]) == {}
    many = [f"many-{n}" for n in range(300)]
    await commit(store, *(join(name, create=True) for name in many))
    assert await store.participations("ann", [*many, "t"]) == await store.heads(many)
