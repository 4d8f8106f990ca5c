"""Reads of messages, agents and participants: their bounds, order and pages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bus_server.errors import ThreadNotFound
from bus_server.store import MAX_SEQ, Checkpoint, DeleteThread, JoinThread, Position
from bus_server.store.interface import Store
from tests.store.commits import (
    commit,
    create,
    join,
    log,
    post,
    register,
    set_mode,
    set_state,
    sighting,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Attachment, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, SYNC_MODE_STRICT, THREAD_STATE_OPEN

MUCH = 1 << 30


@pytest.fixture
async def body(store: Store) -> int:
    """Thread t has ten messages of equal size, thread u one. Returns that size in bytes."""
    await commit(store, create("t"), create("u"), post("u"))
    done = await store.commit([post(content=str(number)) for number in range(10)])
    (size,) = {len(body) for _, body in done.entries["t"].values()}
    return size


def seqs(rows: list[tuple[str, bytes]]) -> list[int]:
    """Returns the seqs of messages."""
    return [Message.FromString(body).seq for _, body in rows]


# ── Heads and threads ───────────────────────────────────────────────────────────────────────────


async def test_a_head_says_where_a_thread_ends(store: Store) -> None:
    (thread,) = await commit(store, create())
    head = (await store.heads(["t"]))["t"]
    assert (head.epoch, head.seq, head.first_seq) == (thread.epoch, 0, 1)
    assert (head.state, head.sync_mode) == (THREAD_STATE_OPEN, SYNC_MODE_OFF)
    changed = await store.commit([post(), set_mode(SYNC_MODE_STRICT), set_state()])
    (thread,) = await store.threads(["t"])
    assert await store.heads(["t"]) == changed.heads
    last = changed.heads["t"]
    assert (last.thread_id, last.epoch, last.seq) == (head.thread_id, thread.epoch, 3)
    assert (last.state, last.sync_mode) == (thread.state, thread.sync_mode)


@pytest.mark.parametrize("count", [0, 1, 500])
async def test_any_number_of_names_is_looked_up(store: Store, count: int) -> None:
    names = [f"t{number}" for number in range(0, count, 2)]
    await commit(store, *map(create, names), *map(post, names))
    asked = [f"t{number}" for number in range(count)]
    assert sorted(await store.heads(asked)) == sorted(names)
    assert sorted(thread.name for thread in await store.threads(asked)) == sorted(names)


async def test_similar_names_differ_by_case_only(store: Store) -> None:
    await commit(store, *map(create, ["Ab", "AB", "ab", "a.b", "abc"]))
    assert sorted(await store.similar(["ab"])) == ["AB", "Ab"]
    assert sorted(await store.similar(["aB"])) == ["AB", "Ab", "ab"]
    assert await store.similar(["abc", "x"]) == await store.similar([]) == []


async def test_what_is_no_name_is_not_found(store: Store) -> None:
    await commit(store, create(), register(), join())
    for name in ("\0", "'", '"', "\\", "%", "t%", "👩", "T" * 5000, ""):
        assert await store.heads([name, "t"]) == await store.heads(["t"])
        assert len(await store.threads([name, "t"])) == 1
        assert await store.similar([name]) == []
        assert await store.agent(name) is None
        assert await store.unread(name, 10) == []
        with pytest.raises(ThreadNotFound):
            await store.participants(name, limit=10)
        with pytest.raises(ThreadNotFound):
            await store.excerpt(name, 0, 0, 10, MUCH, newest=True)
        if name:  # an empty one is no filter
            assert await store.list_threads([1], name, "", 10, None) == []
            assert await store.list_threads([1], "", name, 10, None) == []


# ── Messages ────────────────────────────────────────────────────────────────────────────────────


#: after, upto, and the seqs of the messages of `body` between.
BETWEEN: list[tuple[int, int, Sequence[int]]] = [
    (0, 10, range(1, 11)),
    (3, 5, [4, 5]),
    (9, 10, [10]),
    (0, MAX_SEQ, range(1, 11)),
    (10, MAX_SEQ, []),
    (5, 5, []),
    (5, 3, []),
    (0, 0, []),
]


async def test_messages_are_read_within_bounds(store: Store, body: int) -> None:
    thread_id = (await store.heads(["t"]))["t"].thread_id
    for after, upto, found in BETWEEN:
        rows = await store.read(thread_id, after, upto, MUCH)
        assert seqs(rows) == list(found), (after, upto)


async def test_reads_end_at_max_bytes_but_never_before_the_first_message(
    store: Store, body: int
) -> None:
    head = (await store.heads(["t"]))["t"]
    limits = [(0, 1), (1, 1), (body - 1, 1), (body, 1), (3 * body - 1, 2), (3 * body, 3), (MUCH, 8)]
    for size, count in limits:
        first, last = list(range(3, 3 + count)), list(range(11 - count, 11))
        assert seqs(await store.read(head.thread_id, 2, 10, size)) == first, size
        oldest = await store.excerpt("t", 2, 0, 100, size, newest=False)
        assert (seqs(oldest.rows), oldest.start) == (first, 3), size
        newest = await store.excerpt("t", 2, 0, 100, size, newest=True)
        assert (seqs(newest.rows), newest.start) == (last, 11 - count), size


#: after, before, limit, newest, and the seqs of the messages of `body` that are returned.
EXCERPTS: list[tuple[int, int, int, bool, Sequence[int]]] = [
    (0, 0, 100, False, range(1, 11)),
    (0, 0, 100, True, range(1, 11)),
    (0, 0, 3, False, [1, 2, 3]),
    (0, 0, 3, True, [8, 9, 10]),
    (4, 8, 100, False, [5, 6, 7]),
    (4, 8, 2, False, [5, 6]),
    (4, 8, 2, True, [6, 7]),
    (4, 1 << 52, 2, True, [9, 10]),
    (4, 5, 10, True, []),
    (8, 4, 10, True, []),
    (10, 0, 10, False, []),
    (1 << 52, 0, 10, False, []),
    (1 << 52, 0, 10, True, []),
]


async def test_an_excerpt_has_the_oldest_or_newest_within_bounds(store: Store, body: int) -> None:
    head = (await store.heads(["t"]))["t"]
    for after, before, limit, newest, found in EXCERPTS:
        case = (after, before, limit, newest)
        excerpt = await store.excerpt("t", after, before, limit, MUCH, newest=newest)
        assert (seqs(excerpt.rows), excerpt.head) == (list(found), head), case
        if found:
            assert excerpt.start == found[0], case


async def test_an_excerpt_of_a_missing_thread_names_similar_ones(store: Store) -> None:
    await commit(store, create("T"))
    with pytest.raises(ThreadNotFound) as raised:
        await store.excerpt("t", 0, 0, 10, MUCH, newest=True)
    assert list(raised.value.similar) == ["T"]


async def test_senders_are_looked_up_by_seq(store: Store) -> None:
    await commit(store, create("t"), create("u"))
    await commit(store, post("u", "eve"), *(post(sender=name) for name in ("ann", "ben", "ann")))
    thread_id = (await store.heads(["t"]))["t"].thread_id
    assert await store.senders(thread_id, [3, 2, 9]) == {3: "ann", 2: "ben"}
    assert await store.senders(thread_id, []) == {}


# ── Agents ──────────────────────────────────────────────────────────────────────────────────────


async def test_agents_are_listed_by_name_in_pages(store: Store) -> None:
    names = ["zoe", "a-b", "a.b", "a_b", "ab", "a1", "10", "9"]
    await commit(store, *map(register, names))
    pages, after = [], ""
    while page := await store.list_agents(3, after):
        pages.append([agent.name for agent in page])
        after = page[-1].name
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [name for page in pages for name in page] == sorted(names)
    assert await store.list_agents(1, "a1") == [await store.agent("a_b")]


async def test_presence_is_read_since_a_time(store: Store) -> None:
    await commit(store, *map(register, ("ann", "ben", "cyd")))
    rows = [sighting(name, seen) for seen, name in enumerate(("ann", "ben", "cyd"), start=5)]
    await commit(store, Checkpoint(rows, {}))
    for since, found in ((0, rows), (4, rows), (5, rows[1:]), (7, [])):
        assert sorted(await store.presence_rows(since), key=lambda row: row.agent) == found


async def test_tokens_are_looked_up_together(store: Store) -> None:
    names = [f"agent{number}" for number in range(300)]
    await commit(store, *map(register, names))
    hashes = [name.encode() for name in names]
    assert await store.expire_times([*hashes, b"none", b"\0"]) == dict.fromkeys(hashes, 0)
    assert await store.expire_times([]) == {}


# ── Participants ────────────────────────────────────────────────────────────────────────────────


LISTED: list[tuple[dict[str, Any], list[str]]] = [
    ({"limit": 10}, ["ann", "ben", "cyd", "dan"]),
    ({"limit": 2}, ["ann", "ben"]),
    ({"after": "ben", "limit": 10}, ["cyd", "dan"]),
    ({"after": "b", "limit": 1}, ["ben"]),
    ({"after": "dan", "limit": 10}, []),
    ({"first": ["dan", "nobody", "ben"], "limit": 10}, ["dan", "nobody", "ben", "ann", "cyd"]),
    ({"first": ["dan", "nobody"], "limit": 3}, ["dan", "nobody", "ann"]),
    ({"first": ["dan", "ann"], "limit": 1}, ["dan"]),
    ({"first": ["ann"], "after": "ben", "limit": 10}, ["ann", "cyd", "dan"]),
]


async def test_participants_are_listed_by_name_after_those_asked_for(store: Store) -> None:
    await commit(store, create("t"), *(join(agent=name) for name in ("cyd", "ann", "dan", "ben")))
    await commit(store, create("u"), join("u", "eve"), post())
    for asked, found in LISTED:
        head, listed = await store.participants("t", **asked)
        assert head == (await store.heads(["t"]))["t"]
        assert [participant.agent for participant in listed] == found, asked


async def test_one_who_is_listed_without_being_a_participant_has_no_positions(
    store: Store,
) -> None:
    await commit(store, create(), register(), post(sender="ben"))
    _, (ann, nobody) = await store.participants("t", first=["ann", "nobody"], limit=2)
    assert (ann.kind, ann.read_seq, ann.HasField("join_time")) == (1, 0, False)
    assert (nobody.agent, nobody.kind, nobody.read_seq) == ("nobody", 0, 0)


async def test_the_entrance_shows_a_thread_as_one_joins_it(store: Store) -> None:
    await commit(store, create(topic="topic"), *(post(sender=name) for name in ("zoe", "ben")))
    asked = join(context_limit=10)
    (joined,) = await commit(store, asked)
    await commit(store, post(sender="cyd"))
    entrance = await store.entrance(asked, joined)
    assert entrance is not None
    assert entrance.thread == (await store.threads(["t"]))[0]
    assert entrance.thread.head_seq == 3
    assert list(entrance.context) == (await log(store))[:2]
    names = [participant.agent for participant in entrance.participants]
    assert names == ["ann", "ben", "cyd", "zoe"]


async def test_the_context_of_a_join_is_limited(store: Store, body: int) -> None:
    contexts: list[tuple[JoinThread, list[int]]] = [
        (join(context_limit=2), [9, 10]),
        (join(context_limit=5, context_bytes=1), [10]),
        (join(context_limit=5, context_bytes=2 * body), [9, 10]),
        (join(context_limit=0), []),
        (join(agent=None, context_limit=5, from_first=True), []),
    ]
    for asked, context in contexts:
        (joined,) = await commit(store, asked)
        entrance = await store.entrance(asked, joined)
        assert entrance is not None
        assert [message.seq for message in entrance.context] == context


async def test_the_caller_is_among_the_few_participants_that_an_entrance_shows(
    store: Store,
) -> None:
    asked = join(agent="zoe", participant_limit=2)
    *_, joined = await commit(store, create(), join(agent="ann"), join(agent="ben"), asked)
    entrance = await store.entrance(asked, joined)
    assert entrance is not None
    assert [participant.agent for participant in entrance.participants] == ["ann", "zoe"]


async def test_threads_with_unread_entries_are_told_newest_first(store: Store) -> None:
    names = ["a", "b", "c", "d", "gone", "read"]
    made = await commit(store, *map(create, names), *map(join, names))
    for name in ("gone", "b", "a", "d", "read"):
        await commit(store, post(name, "ben"))
    await commit(store, post("b"), post("b", "ben"), DeleteThread("gone"))
    read = {("ann", "read"): Position(made[5].epoch, 0, 1)}
    await commit(store, Checkpoint([], read))
    found = [
        (unread.thread, unread.head_seq, unread.read_seq, epoch)
        for unread, epoch in await store.unread("ann", 10)
    ]
    epochs = {thread.name: thread.epoch for thread in made[:6]}
    wanted = [("b", 3, 0), ("d", 1, 0), ("a", 1, 0)]
    assert found == [(*each, epochs[each[0]]) for each in wanted]
    assert [unread.thread for unread, _ in await store.unread("ann", 2)] == ["b", "d"]


async def test_messages_that_older_servers_stored_get_their_sizes_when_they_are_read(
    store: Store,
) -> None:
    files = [Attachment(filename="f", raw=b"xyz"), Attachment(url="https://x.test/")]
    plain = Message(thread="t", sender="ann", kind=MESSAGE_KIND_CHAT, content="größe")
    with_files = Message(thread="t", sender="ann", kind=MESSAGE_KIND_CHAT, attachments=files)
    without_sizes = [message.SerializeToString() for message in (plain, with_files)]
    await commit(store, create())
    await store.commit([replace(post(), body=body) for body in without_sizes])
    await commit(store, post(edit_of=1, content="new"), join())
    head = (await store.heads(["t"]))["t"]
    rows = await store.read(head.thread_id, 0, 3, MUCH)
    excerpt = await store.excerpt("t", 0, 0, 10, MUCH, newest=True)
    assert excerpt.rows == rows
    first, second, third = (Message.FromString(body) for _, body in rows)
    assert (first.content, first.content_size, first.edit_seq) == ("größe", 7, 3)
    assert [file.size for file in second.attachments] == [3, 0]
    assert (second.content_size, third.content_size) == (0, 3)
