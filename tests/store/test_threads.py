"""Threads: creating, joining, changing and deleting them."""

from types import NoneType
from typing import Any

import pytest

from bus_server.errors import AccessDenied, CursorInvalid, ThreadExists
from bus_server.permissions import Conditions, Who
from bus_server.store import (
    Checkpoint,
    Command,
    CreateThread,
    DeleteThread,
    Position,
    Purge,
    SetThreadState,
    UpdateThread,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    TEXTS,
    commit,
    create,
    join,
    listed,
    log,
    outcomes,
    participants,
    post,
    refusal,
    register,
    set_state,
)
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    AGENT_KIND_SYSTEM,
    AgentKind,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, PRIORITY_NORMAL, Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    SYNC_MODE_STRICT,
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
)


def update(fields: list[str], by: str = "operator", **settings: Any) -> UpdateThread:
    """Returns a change of settings of thread t."""
    entry = Message(sender=by, sender_kind=AGENT_KIND_SYSTEM)
    return UpdateThread("t", entry, Thread(**settings), fields)


# ── Creating ────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_thread_is_open_and_empty(store: Store) -> None:
    (thread,) = await commit(store, create())
    assert (thread.name, thread.head_seq, thread.first_seq) == ("t", 0, 1)
    assert (thread.state, thread.sync_mode) == (THREAD_STATE_OPEN, SYNC_MODE_OFF)
    assert thread.create_time == thread.update_time
    assert await store.threads(["t"]) == [thread]
    assert await log(store) == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_thread_keeps_its_settings_exactly(store: Store, text: str) -> None:
    settings: dict[str, Any] = {
        "topic": text * 20,
        "stage": text,
        "creator": text,
        "labels": {text: text * 3, "empty": ""},
        "sync_mode": SYNC_MODE_STRICT,
    }
    (thread,) = await commit(store, create(**settings))
    assert await store.threads(["t"]) == [thread]
    for field, value in settings.items():
        assert getattr(thread, field) == value


async def test_the_store_sets_the_times_of_a_new_thread(store: Store) -> None:
    (before,) = await commit(store, create("before"))
    long_ago = {"seconds": 1}
    (thread,) = await commit(store, create(create_time=long_ago, update_time=long_ago))
    assert thread.create_time.ToMicroseconds() >= before.create_time.ToMicroseconds()
    assert await store.threads(["t"]) == [thread]


async def test_the_store_sets_the_epoch_state_and_seqs_of_a_new_thread(store: Store) -> None:
    given = create(epoch="mine", state=THREAD_STATE_CLOSED, head_seq=7, first_seq=8)
    (thread,) = await commit(store, given)
    assert thread.epoch not in ("", "mine")
    assert thread.state == THREAD_STATE_OPEN
    assert (thread.head_seq, thread.first_seq) == (0, 1)
    assert await store.threads(["t"]) == [thread]


@pytest.mark.parametrize("made_by", [create(), join(create=True)], ids=["create", "join"])
async def test_an_existing_thread_is_not_created_again(store: Store, made_by: CreateThread) -> None:
    _, again = (await store.commit([made_by, create(topic="other")])).outcomes
    assert isinstance(again, ThreadExists)
    assert isinstance(await refusal(store, create()), ThreadExists)
    assert [thread.topic for thread in await store.threads(["t"])] == [""]


async def test_names_that_differ_by_case_are_of_different_threads(store: Store) -> None:
    lower, upper = await commit(store, create("name", topic="lower"), create("NAME"))
    assert lower.epoch != upper.epoch
    await commit(store, post("name"))
    heads = await store.heads(["name", "NAME"])
    assert {name: head.seq for name, head in heads.items()} == {"name": 1, "NAME": 0}


# ── Joining ─────────────────────────────────────────────────────────────────────────────────────


async def test_joining_creates_a_thread_if_asked_to(store: Store) -> None:
    await commit(store, create("T"), create("other"))
    (first,), (second,) = [await commit(store, join(create=True)) for _ in range(2)]
    assert (first.created, first.after_seq, list(first.similar)) == (True, 0, ["T"])
    assert (second.created, second.thread_id) == (False, first.thread_id)
    assert (await store.heads(["t"]))["t"].thread_id == first.thread_id


async def test_threads_of_similar_names_created_in_one_commit_are_reported(store: Store) -> None:
    await commit(store, create("t"))
    first, second = join("NEW", create=True), join("new", create=True)
    joined, other, _, last = await commit(
        store, first, second, DeleteThread("t"), join("T", create=True)
    )
    assert [list(each.similar) for each in (joined, other, last)] == [[], ["NEW"], []]


async def test_a_thread_created_by_joining_has_the_given_settings(store: Store) -> None:
    given = join(create=True)
    given.thread.topic, given.thread.sync_mode = "topic", SYNC_MODE_STRICT
    await commit(store, given)
    (thread,) = await store.threads(["t"])
    assert (thread.topic, thread.sync_mode) == ("topic", SYNC_MODE_STRICT)


@pytest.mark.parametrize(("from_first", "after"), [(False, 2), (True, 0)])
async def test_one_who_joins_reads_on_from_the_head_or_the_first(
    store: Store, from_first: bool, after: int
) -> None:
    await commit(store, create(), post(sender="ben"), post(sender="ben"))
    done = await commit(store, *(join(agent=who, from_first=from_first) for who in ("ann", None)))
    assert [each.after_seq for each in done] == [after] * 2
    found = await participants(store)
    assert list(found) == ["ann", "ben"]
    assert found["ann"].read_seq == after


async def test_a_participant_who_joins_again_reads_on_where_it_was(store: Store) -> None:
    await commit(store, create(), join(), post(sender="ben"))
    (again,) = await commit(store, join())
    assert again.after_seq == 0
    assert (await participants(store))["ann"].read_seq == 0


# ── Changing ────────────────────────────────────────────────────────────────────────────────────


async def test_a_change_of_the_state_is_an_entry_of_the_thread(store: Store) -> None:
    await commit(store, create())
    sender = Message(sender="operator", sender_kind=AGENT_KIND_SYSTEM)
    (thread,) = await commit(store, SetThreadState("t", THREAD_STATE_ARCHIVED, sender))
    assert (thread.state, thread.head_seq) == (THREAD_STATE_ARCHIVED, 1)
    assert await store.threads(["t"]) == [thread]
    assert (await store.heads(["t"]))["t"].state == THREAD_STATE_ARCHIVED
    (entry,) = await log(store)
    assert (entry.sender, entry.sender_kind) == ("operator", AGENT_KIND_SYSTEM)
    assert (entry.thread, entry.kind, entry.priority) == ("t", MESSAGE_KIND_THREAD, PRIORITY_NORMAL)
    assert entry.create_time == thread.update_time
    assert "archived" in entry.content


@pytest.mark.parametrize("text", [*TEXTS.values(), LARGE[:1000]], ids=[*TEXTS, "long"])
async def test_changed_settings_are_kept_exactly_and_others_stay(store: Store, text: str) -> None:
    await commit(store, create(topic="old", stage="old", creator="ann", labels={"old": "old"}))
    changed = update(["topic", "labels"], topic=text, labels={text[:60]: text[:200]}, stage="no")
    (thread,) = await commit(store, changed)
    assert (thread.topic, thread.labels) == (text, {text[:60]: text[:200]})
    assert (thread.stage, thread.creator) == ("old", "ann")
    assert await store.threads(["t"]) == [thread]
    (entry,) = await log(store)
    assert text in entry.content


async def test_settings_can_be_removed(store: Store) -> None:
    await commit(store, create(topic="old", stage="old", labels={"old": "old"}))
    (thread,) = await commit(store, update(["topic", "labels"]))
    assert (thread.topic, thread.stage, dict(thread.labels)) == ("", "old", {})
    assert await store.threads(["t"]) == [thread]


async def test_a_thread_that_does_not_change_gets_no_entry(store: Store) -> None:
    (before,) = await commit(store, create(topic="topic", labels={"a": "b", "c": "d"}))
    (opened,) = await commit(store, set_state(state=THREAD_STATE_OPEN))
    same = update(["topic", "labels", "stage"], topic="topic", labels={"c": "d", "a": "b"})
    (updated,) = await commit(store, same)
    assert opened == updated == before
    assert await log(store) == []


async def test_a_closed_thread_can_be_changed(store: Store) -> None:
    *_, thread = await commit(store, create(), set_state(), update(["topic"], topic="new"))
    assert (thread.topic, thread.state, thread.head_seq) == ("new", THREAD_STATE_CLOSED, 2)
    assert await store.threads(["t"]) == [thread]


async def test_changes_in_one_commit_add_up(store: Store) -> None:
    await commit(store, create(stage="a"))
    outcomes = await commit(
        store,
        update(["topic"], topic="one"),
        post(),
        update(["stage", "sync_mode"], stage="b", sync_mode=SYNC_MODE_STRICT),
        set_state(),
        update(["topic"], topic="two"),
    )
    thread = outcomes[-1]
    assert (thread.topic, thread.stage, thread.head_seq) == ("two", "b", 5)
    assert (thread.state, thread.sync_mode) == (THREAD_STATE_CLOSED, SYNC_MODE_STRICT)
    assert await store.threads(["t"]) == [thread]
    head = (await store.heads(["t"]))["t"]
    assert (head.state, head.sync_mode) == (THREAD_STATE_CLOSED, SYNC_MODE_STRICT)


# ── Deleting ────────────────────────────────────────────────────────────────────────────────────


async def purge(store: Store) -> list[bool]:
    """Purge until nothing is left. Returns what each Purge returned."""
    told: list[bool] = []
    while not told or told[-1]:
        told += await commit(store, Purge())
    return told


async def test_a_deleted_thread_is_gone_from_all_reads(store: Store) -> None:
    await commit(store, create(), create("kept"), register("ann"), join(), join("kept"))
    await commit(store, post(sender="ben"), post("kept", "ben"))
    thread_id = (await store.heads(["t"]))["t"].thread_id
    (joined,) = await commit(store, join())
    await commit(store, DeleteThread("t"))
    assert list(await store.heads(["t", "kept"])) == ["kept"]
    assert [thread.name for thread in await store.threads(["t", "kept"])] == ["kept"]
    assert await store.read(thread_id, 0, 100, 1000) == []
    assert await listed(store) == await listed(store, "ann") == ["kept"]
    assert await listed(store, prefix="t") == await store.similar(["T"]) == []
    assert [unread.thread for unread, _ in await store.unread("ann", 10)] == ["kept"]
    assert await store.entrance(join(), joined) is None


@pytest.mark.parametrize("purged", [True, False])
async def test_a_thread_made_anew_has_nothing_of_the_old_one(store: Store, purged: bool) -> None:
    await commit(store, register("ann"), create(topic="old", labels={"old": ""}), join())
    await commit(store, post(sender="ben", request_id="a"), post(sender="ben", edit_of=1))
    head = (await store.heads(["t"]))["t"]
    (joined,) = await commit(store, join())
    await commit(store, DeleteThread("t"))
    if purged:
        await purge(store)
    (thread,) = await commit(store, create())
    assert thread.epoch != head.epoch
    assert (thread.topic, thread.labels, thread.head_seq) == ("", {}, 0)
    new_head = (await store.heads(["t"]))["t"]
    assert new_head.thread_id > head.thread_id
    assert await participants(store) == {}
    assert await listed(store, "ann") == []
    assert await store.entrance(join(), joined) is None
    await commit(store, Checkpoint([], {("ann", "t"): Position(head.epoch, 1, 1)}))
    (first,) = await commit(store, post(sender="ben", request_id="a", mentions=["ann"]))
    assert (first.seq, first.deduplicated) == (1, False)
    assert [entry.edit_seq for entry in await log(store)] == [0]
    assert {name: each.read_seq for name, each in (await participants(store)).items()} == {
        "ann": 0,
        "ben": 1,
    }
    assert await store.read(head.thread_id, 0, 100, 1000) == []


async def test_a_newer_thread_has_a_greater_id_even_if_the_newest_was_deleted(
    store: Store,
) -> None:
    ids = []
    for number in range(4):
        await commit(store, create())
        ids.append((await store.heads(["t"]))["t"].thread_id)
        if number == 1:
            await commit(store, DeleteThread("t"), create(), DeleteThread("t"))
        else:
            await commit(store, DeleteThread("t"))
        await purge(store)
    assert ids == sorted(set(ids))


async def test_purging_ends_and_leaves_other_threads_alone(store: Store) -> None:
    assert await purge(store) == [False]
    lengths = {"a": 50, "b": 600, "c": 50}
    await commit(store, *map(create, lengths))
    for name, length in lengths.items():
        await commit(store, *(post(name, request_id=str(number)) for number in range(1, length)))
        await commit(store, post(name, edit_of=1))
    await commit(store, DeleteThread("b"))
    told = await purge(store)
    assert told[0], "one Purge deletes more rows than posts should wait for"
    assert await purge(store) == [False]
    for name in ("a", "c"):
        entries = await log(store, name)
        assert len(entries) == entries[0].edit_seq == 50
        assert list(await participants(store, name)) == ["ann"]
    (again,) = await commit(store, post("a", request_id="1"))
    assert again.deduplicated


# ── Who may change a thread ─────────────────────────────────────────────────────────────────────

#: A caller, the thread's creator, and who may make the change: whether it is refused.
CALLERS = [
    ("ann", AGENT_KIND_AGENT, "ann", Who.OWNERS, False),
    ("ben", AGENT_KIND_AGENT, "ann", Who.OWNERS, True),
    ("ben", AGENT_KIND_AGENT, "ann", Who.PARTICIPANTS, True),
    ("member", AGENT_KIND_AGENT, "ann", Who.OWNERS, True),
    ("member", AGENT_KIND_AGENT, "ann", Who.PARTICIPANTS, False),
    ("ben", AGENT_KIND_AGENT, "ann", Who.ANYONE, False),
    ("anonymous", AGENT_KIND_ANONYMOUS, "ann", Who.PARTICIPANTS, True),
    ("anonymous", AGENT_KIND_ANONYMOUS, "anonymous", Who.OWNERS, False),
    ("ben", AGENT_KIND_AGENT, "anonymous", Who.OWNERS, False),
    ("ada", AGENT_KIND_HUMAN, "ann", Who.OWNERS, False),
]


def changes(conditions: Conditions) -> list[Command[Any]]:
    """Returns each kind of change of thread t."""
    entry = Message(sender=conditions.agent, sender_kind=conditions.kind)
    topic = Thread(topic="x")
    return [
        SetThreadState("t", THREAD_STATE_CLOSED, entry, conditions=conditions),
        UpdateThread("t", entry, topic, ["topic"], conditions=conditions),
        DeleteThread("t", conditions),
    ]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("caller", "kind", "creator", "who", "denied"), CALLERS)
async def test_a_change_is_made_by_those_who_may(
    store: Store,
    caller: str,
    kind: AgentKind.ValueType,
    creator: str,
    who: Who,
    denied: bool,
    together: bool,
) -> None:
    made: list[Command[Any]] = [create(creator=creator), post(sender="member")]
    for change in changes(Conditions(caller, kind, who)):
        steps: list[Command[Any]] = [*made, change]
        done = await outcomes(store, steps, together=together)
        assert isinstance(done[-1], AccessDenied) is denied
        if denied:
            assert (await store.heads(["t"]))["t"].seq == 1
            await commit(store, DeleteThread("t"))
        elif not isinstance(change, DeleteThread):
            assert (await store.heads(["t"]))["t"].seq == 2
            await commit(store, DeleteThread("t"))
        else:
            assert await store.heads(["t"]) == {}


@pytest.mark.parametrize("together", [True, False])
async def test_the_creator_of_a_deleted_thread_may_not_change_the_next_of_its_name(
    store: Store, together: bool
) -> None:
    ann = Conditions("ann", AGENT_KIND_AGENT, Who.OWNERS)
    for change in changes(ann):
        steps: list[Command[Any]] = [
            create(creator="ann"),
            DeleteThread("t", ann),
            create(creator="ben"),
            change,
            DeleteThread("t"),
        ]
        done = await outcomes(store, steps, together=together)
        assert isinstance(done[3], AccessDenied)


@pytest.mark.parametrize("together", [True, False])
async def test_a_change_may_name_the_epoch(store: Store, together: bool) -> None:
    (former,) = await commit(store, create(creator="ann"))
    await commit(store, DeleteThread("t"))
    (thread,) = await commit(store, create(creator="ann"))
    late = changes(Conditions("ben", AGENT_KIND_AGENT, Who.OWNERS, former.epoch))
    refused = await outcomes(store, late, together=together)
    # Before the rights: who names another thread learns that.
    assert [type(each) for each in refused] == [CursorInvalid] * 3
    assert (await store.heads(["t"]))["t"].seq == 0
    fitting = changes(Conditions("ann", AGENT_KIND_AGENT, Who.OWNERS, thread.epoch))
    assert [type(each) for each in await outcomes(store, fitting, together=together)] == [
        Thread,
        Thread,
        NoneType,
    ]
