"""Threads lose their oldest entries as their retention says: what is kept, and how it is read."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.pages import read_pages, seqs
from tests.participation import join
from tests.peers import Peer, recreate, registered
from tests.refusals import refused
from tests.retention import (
    NOTHING,
    create,
    post,
    read,
    retain,
    set_retention,
    shorten,
    until_first,
)
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, Retention
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    DeleteThreadRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
)

pytestmark = pytest.mark.slow


# ── What is kept ────────────────────────────────────────────────────────────────────────────────


async def test_the_newest_messages_are_kept(bus: BusStub, threads: ThreadStub, name: str) -> None:
    found = await shorten(bus, threads, name, first=8, head=10)
    assert found.head_seq == 10
    page = await bus.ListMessages(ListMessagesRequest(thread=name))
    assert [message.seq for message in page.messages] == [8, 9, 10]
    assert (page.first_seq, page.next_after_seq, page.has_more) == (8, 10, False)
    newest = await bus.ListMessages(ListMessagesRequest(thread=name, newest=True))
    assert newest.messages == page.messages
    assert (newest.next_before_seq, newest.has_more) == (8, False)


async def test_the_entry_that_sets_a_retention_is_one_of_those_it_keeps(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await post(bus, thread, 3)
    await retain(threads, thread, max_messages=1)
    await until_first(threads, thread, 4)
    (kept,) = (await bus.ListMessages(ListMessagesRequest(thread=thread))).messages
    assert kept.content == "anonymous set the thread's retention to 1 messages"


async def test_of_large_messages_as_many_are_kept_as_there_is_room_for(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name, Retention(max_bytes=100_000))
    for size in (90_000, 40_000, 5_000, 40_000, 200_000):
        await bus.PostMessage(PostMessageRequest(thread=name, content="x" * size))
    # The newest entry is kept, however large it is.
    await until_first(threads, name, 5)
    await retain(threads, name, max_bytes=200_000)
    await post(bus, name, 5)
    # The large one is the oldest of more than fit.
    await until_first(threads, name, 6)
    assert (await read(threads, name)).head_seq == 11


async def test_of_several_limits_the_first_that_is_exceeded_counts(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    limits: dict[str, Any] = {
        "max_messages": 5,
        "max_bytes": 100_000,
        "max_age": Duration(seconds=3_600),
    }
    await create(threads, name, Retention(**limits))
    await post(bus, name, 10)
    await until_first(threads, name, 6)
    await post(bus, name, 2, content="x" * 60_000)
    await until_first(threads, name, 12)
    await retain(threads, name, **limits | {"max_age": Duration(nanos=1)})
    await until_first(threads, name, 14)


async def test_a_thread_can_become_empty(bus: BusStub, threads: ThreadStub, name: str) -> None:
    await create(threads, name, NOTHING)
    await post(bus, name, 3)
    found = await until_first(threads, name, 4)
    assert found.head_seq == 3
    page = await bus.ListMessages(ListMessagesRequest(thread=name))
    assert (list(page.messages), page.first_seq, page.head_seq) == ([], 4, 3)
    posted = await bus.PostMessage(PostMessageRequest(thread=name, content="x"))
    assert (posted.seq, posted.last_seq) == (4, 4)
    expected = PostMessageRequest(thread=name, content="x", expected_last_seq=4)
    await until_first(threads, name, 5)
    assert (await bus.PostMessage(expected)).seq == 5


async def test_what_is_gone_does_not_come_back_with_another_retention(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await shorten(bus, threads, name, first=8, head=10)
    found = await set_retention(threads, name, None)
    assert (found.first_seq, found.head_seq) == (8, 11)
    await create(threads, f"{name}-other", Retention(max_messages=1))
    await post(bus, f"{name}-other", 2)
    await until_first(threads, f"{name}-other", 2)  # so all threads were looked at
    await post(bus, name, 5)
    found = await read(threads, name)
    assert (found.first_seq, found.head_seq) == (8, 16)
    assert seqs(await read_pages(bus, name)) == list(range(8, 17))


async def test_a_closed_thread_loses_its_oldest_messages_too(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name)
    await post(bus, name, 5)
    closing = SetThreadStateRequest(thread=name, state=THREAD_STATE_CLOSED)
    await threads.SetThreadState(closing)
    await retain(threads, name, max_messages=2)
    found = await until_first(threads, name, 6)
    assert (found.head_seq, found.state) == (7, THREAD_STATE_CLOSED)


async def test_a_thread_that_is_created_again_begins_at_one(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await shorten(bus, threads, name, first=8, head=10)
    await recreate(threads, name)
    found = await read(threads, name)
    assert (found.first_seq, found.head_seq, found.HasField("retention")) == (1, 0, False)
    await threads.DeleteThread(DeleteThreadRequest(thread=name))
    await shorten(bus, threads, name, first=2, head=3)


# ── How it is read ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seq", [1, 7])
async def test_a_removed_message_is_not_found(
    bus: BusStub, threads: ThreadStub, name: str, seq: int
) -> None:
    await shorten(bus, threads, name, first=8, head=10)
    refusal = await refused(bus.GetMessage(GetMessageRequest(thread=name, seq=seq)))
    assert refusal.reason == "MESSAGE_NOT_FOUND"
    assert refusal.resources == [("message", f"{name}/{seq}")]
    assert f"message {seq}" in refusal.message and "oldest is 8" in refusal.message
    assert (await bus.GetMessage(GetMessageRequest(thread=name, seq=8))).message.seq == 8
    await set_retention(threads, name, NOTHING)
    await until_first(threads, name, 12)
    refusal = await refused(bus.GetMessage(GetMessageRequest(thread=name, seq=8)))
    assert "not kept any more; no other is" in refusal.message


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_hold_what_is_kept_in_either_direction(
    bus: BusStub, threads: ThreadStub, name: str, newest: bool, limit: int
) -> None:
    await shorten(bus, threads, name, first=8, head=14)
    for after, before in ((0, 0), (3, 0), (7, 0), (9, 0), (0, 12), (3, 9), (0, 3), (0, 8), (2, 7)):
        pages = await read_pages(
            bus, name, newest=newest, limit=limit, after_seq=after, before_seq=before
        )
        wanted = [n for n in range(8, 15) if n > after and (not before or n < before)]
        assert seqs(pages) == wanted, (after, before)
        assert {(page.first_seq, page.head_seq) for page in pages} == {(8, 14)}
        assert len(pages) <= max(1, -(-len(wanted) // limit))


async def test_pages_of_an_empty_thread_are_empty(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name, NOTHING)
    await post(bus, name, 5)
    await until_first(threads, name, 6)
    for newest in (False, True):
        for after, before in ((0, 0), (2, 0), (5, 0), (0, 3), (1, 5)):
            (page,) = await read_pages(bus, name, newest=newest, after_seq=after, before_seq=before)
            assert (list(page.messages), page.first_seq, page.head_seq) == ([], 6, 5)


async def test_a_position_that_is_not_valid_is_refused_with_both_ends(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    found = await shorten(bus, threads, name, first=8, head=10)
    for fields in ({"after_seq": 11}, {"epoch": "another"}):
        request = ListMessagesRequest(thread=name, **fields)
        refusal = await refused(bus.ListMessages(request))
        assert refusal.reason == "CURSOR_INVALID"
        assert refusal.metadata == {"first_seq": "8", "head_seq": "10", "epoch": found.epoch}


async def test_a_newcomer_starts_at_the_oldest_message_that_is_kept(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, name: str
) -> None:
    await shorten(bus, threads, name, first=8, head=10)
    agent = await registered(agents, bus, "agent")
    for peer in (agent, agent, Peer(bus)):  # the second time it rejoins
        joined = await join(threads, name, peer, start=JOIN_START_FIRST, context_limit=10)
        assert (joined.cursor.after_seq, list(joined.context)) == (7, [])
        assert (joined.thread.first_seq, joined.thread.head_seq) == (8, 10)
    async with agent.wait(joined.cursor) as wait:
        assert [message.seq for message in await wait.messages(3)] == [8, 9, 10]
    other = await registered(agents, bus, "other")
    joined = await join(threads, name, other, context_limit=10)
    assert [message.seq for message in joined.context] == [8, 9, 10]
    assert joined.cursor.after_seq == 10


async def test_who_rejoins_an_emptied_thread_resumes_where_it_was(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, name: str
) -> None:
    agent = await registered(agents, bus, "agent")
    await create(threads, name)
    await post(bus, name, 4)
    await join(threads, name, agent, start=JOIN_START_FIRST)
    await set_retention(threads, name, NOTHING)
    await until_first(threads, name, 6)
    joined = await join(threads, name, agent, context_limit=10)
    assert (joined.cursor.after_seq, list(joined.context)) == (0, [])
    newcomer = await join(threads, name, Peer(bus), start=JOIN_START_FIRST)
    assert newcomer.cursor.after_seq == 5


# ── Lists of threads ────────────────────────────────────────────────────────────────────────────


async def listed(threads: ThreadStub, prefix: str, **fields: Any) -> list[tuple[str, int]]:
    """Returns the names of threads as they are listed, and their update_times."""
    request = ListThreadsRequest(prefix=prefix, page_size=1, **fields)
    found = []
    while True:
        answer = await threads.ListThreads(request)
        found += [(each.name, each.update_time.ToNanoseconds()) for each in answer.threads]
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_an_emptied_thread_keeps_its_place_in_the_list(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(4)]
    for each in names:
        await create(threads, each)
    for each in (names[2], names[0], names[3]):
        await post(bus, each, 3)
    await set_retention(threads, names[0], NOTHING)
    await post(bus, names[3], 1)
    before = await listed(threads, name)
    assert [each for each, _ in before] == [names[3], names[0], names[2], names[1]]
    await until_first(threads, names[0], 5)
    assert await listed(threads, name) == before
    emptied = await read(threads, names[0])
    assert (names[0], emptied.update_time.ToNanoseconds()) in before
    await post(bus, names[0], 1)
    await until_first(threads, names[0], 6)
    after = await listed(threads, name)
    assert [each for each, _ in after] == [names[0], names[3], names[2], names[1]]
