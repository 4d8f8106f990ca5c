"""Removing the oldest entries of threads: which go, in which steps, and what stays of them."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.errors import MessageNotFound, RequestIdReused, ThreadNotFound
from bus_server.store import (
    Append,
    AppendMany,
    Counted,
    DeleteThread,
    ForgetAddressed,
    Limits,
    UpdateThread,
)
from bus_server.store.compact_commands import COMPACT_BYTES, COMPACT_ROWS
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    commit,
    compact,
    create,
    everything,
    join,
    listed,
    log,
    post,
    read_seqs,
    refusal,
    register,
    remove_before,
    set_state,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Retention, Thread

#: Ages in microseconds: over which every entry is, and no entry.
SHORTEST, LONG = 1, 3_600_000_000


@pytest.fixture
async def thread(store: Store) -> int:
    """A thread without entries. Returns its id."""
    await commit(store, create())
    return (await store.heads(["t"]))["t"].thread_id


def result(outcome: Any) -> Any:
    """Returns the outcome of a command, of any type."""
    return outcome


async def seqs(store: Store, name: str = "t") -> list[int]:
    """Returns the seqs of the entries that a thread keeps."""
    return [entry.seq for entry in await log(store, name)]


async def size(store: Store, thread_id: int) -> int:
    """Returns the size of all entries of a thread, in bytes."""
    return (await store.sizes(thread_id, 0, 100_000))[1]


async def fill(store: Store, count: int, content: str = "text") -> None:
    """Post so many messages."""
    await commit(store, AppendMany([post(content=content) for _ in range(count)]))


# ── Limits ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_newest_entries_are_kept(store: Store, thread: int) -> None:
    await fill(store, 10)
    before = await size(store, thread)
    (done,) = await commit(store, compact(0, 3))
    assert (done.first_seq, done.entries, done.more) == (8, 7, False)
    assert await seqs(store) == [8, 9, 10]
    assert done.size == before - await size(store, thread) > 0
    (thread_after,) = await store.threads(["t"])
    assert (thread_after.first_seq, thread_after.head_seq) == (8, 10)
    (again,) = await commit(store, compact(0, 3))
    assert again == (8, 0, False, 0)
    await fill(store, 1)
    assert await seqs(store) == [8, 9, 10, 11]


async def test_nothing_goes_without_a_limit(store: Store, thread: int) -> None:
    await fill(store, 3)
    (done,) = await commit(store, compact())
    assert done == (1, 0, False, 0)
    assert await seqs(store) == [1, 2, 3]


async def test_the_retention_of_a_thread_replaces_the_default_whole(store: Store) -> None:
    own = {"three": Retention(max_messages=3), "all": Retention()}
    await commit(store, create("none"), *(create(n, retention=r) for n, r in own.items()))
    for name in ("none", "three", "all"):
        await commit(store, AppendMany([post(name) for _ in range(5)]))
        await commit(store, compact(SHORTEST, 2, name=name))
    assert await seqs(store, "none") == []
    assert await seqs(store, "three") == [3, 4, 5]
    assert await seqs(store, "all") == [1, 2, 3, 4, 5]


async def test_an_age_removes_what_is_older_even_the_newest_entry(
    store: Store, thread: int
) -> None:
    for _ in range(4):
        await fill(store, 1)
    times = [entry.create_time.ToMicroseconds() for entry in await log(store)]
    assert (await commit(store, compact(LONG)))[0].entries == 0
    age = store.clock.time() - times[1]
    # What is older goes, and what is not stays, as of some moment between these two.
    begin = store.clock.time()
    ((first, *_),) = await commit(store, compact(age))
    end = store.clock.time()
    assert first > 1
    assert all(times[seq - 1] + age < end for seq in range(1, first))
    assert all(times[seq - 1] + age >= begin for seq in range(first, 5))
    ((first, _, more, _),) = await commit(store, compact(SHORTEST))
    assert (first, more) == (5, False)
    assert await seqs(store) == []


async def test_bytes_go_by_what_was_counted_and_the_newest_entry_stays(
    store: Store, thread: int
) -> None:
    await fill(store, 10, "x" * 1_000)
    whole = await size(store, thread)
    each, epoch = whole // 10, (await store.heads(["t"]))["t"].epoch
    unfit = Counted(epoch, 2, whole), Counted(epoch, 0, whole), Counted("another", 1, whole)
    for counted in (None, *unfit):
        (done,) = await commit(store, compact(0, 0, 5 * each + 9, counted=counted))
        assert done.entries == 0, counted
    (done,) = await commit(store, compact(0, 0, whole, counted=Counted(epoch, 1, whole)))
    assert done.entries == 0
    (done,) = await commit(store, compact(0, 0, whole - 1, counted=Counted(epoch, 1, whole)))
    assert (done.first_seq, done.size) == (2, whole - await size(store, thread))
    left = whole - done.size
    (done,) = await commit(store, compact(0, 0, 5 * each + 9, counted=Counted(epoch, 2, left)))
    assert done.first_seq == 6
    left -= done.size
    assert left == await size(store, thread) <= 5 * each + 9
    (done,) = await commit(store, compact(0, 0, 1, counted=Counted(epoch, 6, left)))
    assert (done.first_seq, done.more) == (10, False)
    assert await seqs(store) == [10]


async def test_several_limits_hold_together(store: Store, thread: int) -> None:
    await fill(store, 10, "x" * 1_000)
    whole, epoch = await size(store, thread), (await store.heads(["t"]))["t"].epoch
    await commit(store, compact(LONG, 8, whole // 2, counted=Counted(epoch, 1, whole)))
    assert await seqs(store) == [6, 7, 8, 9, 10]
    await commit(store, compact(LONG, 2, whole))
    assert await seqs(store) == [9, 10]


def test_an_age_of_less_than_a_microsecond_is_one() -> None:
    for nanos, age in ((0, 0), (1, 1), (1_000, 1), (1_001, 2)):
        limits = Limits.of(Retention(max_age=Duration(nanos=nanos)))
        assert limits == (age, 0, 0)
        assert Limits.of(limits.proto()) == limits


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_a_step_removes_a_limited_number_of_entries(store: Store, thread: int) -> None:
    await fill(store, 2 * COMPACT_ROWS + 10)
    steps = await remove_before(store, 2 * COMPACT_ROWS + 10)
    assert [step.entries for step in steps] == [COMPACT_ROWS, COMPACT_ROWS, 9]
    assert [step.more for step in steps] == [True, True, False]


async def test_a_step_removes_a_limited_number_of_bytes(store: Store, thread: int) -> None:
    half = "x" * (COMPACT_BYTES // 2 - 1_000)
    for content in (half, half, half, 3 * half, 3 * half):
        await fill(store, 1, content)
    await fill(store, 1)
    steps = await remove_before(store, 6)
    assert [step.entries for step in steps] == [2, 1, 1, 1, 0]
    assert [step.more for step in steps] == [True, True, True, True, False]


async def test_more_is_left_only_while_there_are_entries(store: Store, thread: int) -> None:
    await fill(store, COMPACT_ROWS)
    (done,) = await commit(store, compact(SHORTEST))
    assert (done.entries, done.more) == (COMPACT_ROWS, False)


# ── What belongs to entries ─────────────────────────────────────────────────────────────────────


async def test_request_ids_go_with_their_messages(store: Store, thread: int) -> None:
    posts = [post(content=str(n), request_id=f"r-{n}") for n in range(4)]
    await commit(store, *posts, post(sender="ben", content="0", request_id="r-0"))
    await commit(store, compact(0, 2))
    assert await seqs(store) == [4, 5]
    kept, new, other = await commit(
        store, posts[3], post(content="new", request_id="r-0"), posts[1]
    )
    assert (kept.seq, kept.deduplicated) == (4, True)
    assert (new.seq, new.deduplicated) == (6, False)
    assert (other.seq, other.deduplicated) == (7, False)
    refused = await refusal(store, post(content="else", request_id="r-0"))
    assert isinstance(refused, RequestIdReused)
    (of_ben,) = await commit(store, post(sender="ben", content="0", request_id="r-0"))
    assert of_ben.seq == 5


@pytest.mark.parametrize("content", ["short", LARGE], ids=["short", "large"])
async def test_a_removed_message_can_be_answered_and_not_edited(
    store: Store, thread: int, content: str
) -> None:
    await commit(store, register("ben"), join(), join(agent="ben"))
    await commit(store, post(content=content), post(content="new " + content, edit_of=1))
    await commit(store, post(content="kept"), post(content="edited", edit_of=3))
    await remove_before(store, 2)
    assert [(e.seq, e.edit_of, e.edit_seq) for e in await log(store)] == [
        (2, 1, 0),
        (3, 0, 4),
        (4, 3, 0),
    ]
    for seq in (1, 2):
        refused = await refusal(store, post(content="again", edit_of=seq))
        assert isinstance(refused, MessageNotFound) == (seq == 1)
    assert "not kept any more; its oldest is 2" in str(await refusal(store, post(edit_of=1)))
    await commit(store, post(sender="ben", reply_to=1), post(content="again", edit_of=3))
    last = (await log(store))[-2:]
    assert [(entry.reply_to, entry.edit_of) for entry in last] == [(1, 0), (0, 3)]
    assert await store.addressed("ann", thread, 1, 100, 100) == []
    assert (await log(store))[1].edit_seq == 6


async def test_removed_entries_cannot_be_read(store: Store, thread: int) -> None:
    await fill(store, 6)
    await remove_before(store, 4)
    much = 1 << 30
    assert await store.read(thread, 2, 6, much) == []
    assert [Message.FromString(body).seq for _, body in await store.read(thread, 3, 6, much)] == [
        4,
        5,
        6,
    ]
    for newest in (False, True):
        excerpt = await store.excerpt("t", 1, 0, 10, much, newest=newest)
        assert (excerpt.start, len(excerpt.rows), excerpt.head.first_seq) == (4, 3, 4)
    early = await store.excerpt("t", 0, 3, 10, much, newest=False)
    assert early.rows == []
    assert await store.senders(thread, [3, 4]) == {4: "ann"}
    assert await store.addressed("ann", thread, 2, 6, 10) is None
    assert await store.addressed("ann", thread, 3, 6, 10) == []


async def test_a_thread_without_entries_keeps_its_numbers_and_its_place(store: Store) -> None:
    for name in ("a", "t", "b"):
        await commit(store, create(name))
    for name in ("a", "t", "b"):
        await commit(store, AppendMany([post(name) for _ in range(3)]))
    (before,) = await store.threads(["t"])
    order = await listed(store)
    await commit(store, compact(SHORTEST))
    (after,) = await store.threads(["t"])
    assert (after.first_seq, after.head_seq) == (4, 3)
    before.first_seq = 4
    assert after == before, "update_time, too"
    assert await listed(store) == order
    keys = await store.list_threads([1], "", "", 1, None)
    assert [t.name for t, _ in await store.list_threads([1], "", "", 9, keys[-1][1])] == order[1:]
    head = (await store.heads(["t"]))["t"]
    assert (head.first_seq, head.seq) == (4, 3)
    assert await seqs(store) == []
    (posted,) = await commit(store, post(expected=3))
    assert (posted.seq, posted.last_seq) == (4, 4)
    assert await seqs(store) == [4]
    assert (await listed(store))[0] == "t"
    await commit(store, compact(SHORTEST))
    await commit(store, set_state(), set_state(state=THREAD_STATE_OPEN))
    assert await seqs(store) == [5, 6]


async def test_participants_stay_where_they_were(store: Store, thread: int) -> None:
    await commit(store, *map(register, ("ann", "ben", "cyd")), join(), join(agent="ben"))
    await commit(store, post(), post(sender="ben", mentions=["cyd"]), post())
    before = await read_seqs(store)
    await commit(store, compact(SHORTEST))
    assert await read_seqs(store) == before
    (joined,) = await commit(store, join(agent="cyd", from_first=True))
    assert joined.after_seq == 3
    (again,) = await commit(store, join(agent="ann", from_first=True))
    assert again.after_seq == before["ann"]


async def test_what_threads_keep_is_listed_by_id(store: Store) -> None:
    threads = [create("a"), create("b", retention=Retention(max_messages=1)), create("c")]
    await commit(store, *threads, *(post(name) for name in "abb"))
    await commit(store, compact(name="b"))
    own, *none = await store.kept(0, 10, every=False)
    assert none == []
    times = {name: (await log(store, name))[0].create_time.ToMicroseconds() for name in "ab"}
    epochs = {name: head.epoch for name, head in (await store.heads("abc")).items()}
    assert own[1:] == ("b", epochs["b"], 2, 2, times["b"], Retention(max_messages=1))
    every = await store.kept(0, 10, every=True)
    assert [each[1:] for each in every] == [
        ("a", epochs["a"], 1, 1, times["a"], None),
        own[1:],
        ("c", epochs["c"], 1, 0, 0, None),
    ]
    assert [each.thread_id for each in every] == sorted(each.thread_id for each in every)
    assert await store.kept(0, 2, every=True) == every[:2]
    assert await store.kept(every[0].thread_id, 10, every=True) == every[1:]
    assert await store.kept(own.thread_id, 10, every=False) == []
    # A retention can be set and unset; an empty one is one.
    entry = Message(sender="operator")
    await commit(store, UpdateThread("b", entry, Thread(), ["retention"]))
    await commit(store, UpdateThread("c", entry, Thread(retention=Retention()), ["retention"]))
    kept = await store.kept(0, 10, every=False)
    assert [(each.name, each.retention) for each in kept] == [("c", Retention())]
    await commit(store, DeleteThread("c"))
    assert await store.kept(0, 10, every=False) == []


async def test_sizes_are_added_up_in_parts(store: Store, thread: int) -> None:
    assert await store.sizes(thread, 0, 10) == (0, 0)
    await commit(store, *(post(content="x" * n) for n in (1, 10, 100, 1_000)), create("other"))
    await commit(store, post("other"))
    rows = await store.read(thread, 0, 4, 1 << 30)
    sizes = [len(body) for _, body in rows]
    assert await store.sizes(thread, 0, 3) == (3, sum(sizes[:3]))
    assert await store.sizes(thread, 3, 3) == (4, sizes[3])
    assert await store.sizes(thread, 4, 3) == (4, 0)


# ── One batch, and two stores ───────────────────────────────────────────────────────────────────


async def test_posts_and_edits_of_the_same_commit_are_kept(store: Store, thread: int) -> None:
    await fill(store, 3)
    posts: list[Append] = [post(content="4"), post(content="5", edit_of=2), post(content="6")]
    done = await store.commit([*posts, compact(0, 1), post(content="7"), post(edit_of=2)])
    *appended, removed, last, refused = map(result, done.outcomes)
    assert [outcome.seq for outcome in appended] == [4, 5, 6]
    assert (removed.first_seq, removed.entries, removed.more) == (4, 3, True)
    assert last.seq == 7
    assert isinstance(refused, MessageNotFound)
    head = (await store.heads(["t"]))["t"]
    assert done.new_heads() == {"t": head}
    assert (head.first_seq, head.seq) == (4, 7)
    assert [entry.content for entry in await log(store)] == ["4", "5", "6", "7"]
    await commit(store, compact(0, 1))
    assert [entry.content for entry in await log(store)] == ["7"]


async def test_two_removals_in_a_commit_are_one_after_the_other(store: Store, thread: int) -> None:
    await fill(store, 10)
    first, second, third = await commit(store, compact(0, 8), compact(0, 3), compact(0, 8))
    assert (first.entries, second.entries, third.entries) == (2, 5, 0)
    assert await seqs(store) == [8, 9, 10]


async def test_of_commits_added_up_the_last_head_counts(store: Store, thread: int) -> None:
    whole = await store.commit([post(), post()])
    whole.add(await store.commit([compact(0, 1)]))
    assert whole.new_heads() == whole.heads == await store.heads(["t"])
    whole.add(await store.commit([compact(0, 1), post()]))
    whole.add(await store.commit([compact(0, 1)]))
    assert whole.new_heads() == await store.heads(["t"])


async def test_a_thread_deleted_in_the_same_commit_is_gone(store: Store, thread: int) -> None:
    await fill(store, 3)
    done = await store.commit(
        [
            compact(0, 1),
            DeleteThread("t"),
            compact(0, 1),
            create(),
            post(content="new"),
            compact(SHORTEST),
        ]
    )
    assert isinstance(done.outcomes[2], ThreadNotFound)
    assert result(done.outcomes[5]).entries == 0
    assert [entry.content for entry in await log(store)] == ["new"]
    assert done.compacted == {}
    assert (await store.threads(["t"]))[0].first_seq == 1
    (refused,) = (await store.commit([compact(0, 1, name="none")])).outcomes
    assert isinstance(refused, ThreadNotFound)
    assert await commit(store, ForgetAddressed("none")) == [""]


async def test_a_thread_created_again_has_nothing_of_the_former_one(
    store: Store, thread: int
) -> None:
    await commit(store, *(post(content="same", request_id="r") for _ in range(2)))
    await fill(store, 3)
    await commit(store, compact(SHORTEST), DeleteThread("t"), create())
    (posted,) = await commit(store, post(content="same", request_id="r"))
    assert (posted.seq, posted.deduplicated) == (1, False)
    assert await seqs(store) == [1]


async def test_a_store_sees_what_another_one_removed(store: Store, other: Store) -> None:
    await commit(store, register(), create(), join())
    await commit(store, *(post(content=str(n), request_id=f"r-{n}") for n in range(5)))
    assert await seqs(other) == [1, 2, 3, 4, 5]
    version = await store.foreign_version()
    await remove_before(other, 3)
    assert await store.foreign_version() != version
    assert await everything(store) == await everything(other)
    done = await store.commit([post(content="0", request_id="r-0"), post(edit_of=2)])
    again, refused = map(result, done.outcomes)
    assert (again.seq, again.deduplicated) == (6, False)
    assert isinstance(refused, MessageNotFound)
    # By then, the one that looked first knows an older end of the thread.
    await commit(store, compact(SHORTEST))
    assert await commit(other, compact(SHORTEST)) == [(7, 0, False, 0)]
    assert [posted.seq for posted in await commit(other, post())] == [7]
    assert await seqs(store) == await seqs(other) == [7]
    assert await everything(store) == await everything(other)
