"""ListMessages and GetMessage: ranges, and pages forward and backward."""

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from tests.callers import register
from tests.pages import read_pages, seqs
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import PRIORITY_HIGH, PRIORITY_URGENT, MessageFilter
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import (
    GetThreadRequest,
    JoinThreadRequest,
    SetThreadStateRequest,
)

URGENT = MessageFilter(min_priority=PRIORITY_URGENT)


async def fill(bus: BusStub, thread: str, count: int, urgent: Sequence[int] = ()) -> None:
    """Post messages 1 to `count`, those in `urgent` with that priority."""
    for seq in range(1, count + 1):
        priority = PRIORITY_URGENT if seq in urgent else PRIORITY_HIGH
        post = PostMessageRequest(thread=thread, content=str(seq), priority=priority)
        assert (await bus.PostMessage(post)).seq == seq


async def read(bus: BusStub, thread: str, **fields: Any) -> ListMessagesResponse:
    return await bus.ListMessages(ListMessagesRequest(thread=thread, **fields))


async def test_an_empty_thread_has_an_empty_page(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    for newest in (False, True):
        page = await read(bus, thread, newest=newest)
        assert not page.messages
        assert (page.head_seq, page.first_seq, page.has_more) == (0, 1, False)
        assert (page.next_after_seq, page.next_before_seq) == (0, 1)
    read_back = await threads.GetThread(GetThreadRequest(thread=thread))
    assert page.epoch == read_back.thread.epoch


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 3, 2**31 - 1])
async def test_a_page_is_the_range_between_after_and_before(
    bus: BusStub, thread: str, limit: int, newest: bool
) -> None:
    await fill(bus, thread, 5)
    bounds = {"limit": limit, "newest": newest}
    for after, before in product((0, 1, 3, 5), (0, 1, 2, 4, 5, 6, 2**53, 2**63 - 1)):
        page = await read(bus, thread, after_seq=after, before_seq=before, **bounds)
        inside = [seq for seq in range(1, 6) if after < seq and (seq < before or not before)]
        wanted = inside[-(limit or 100) :] if newest else inside[: limit or 100]
        assert seqs([page]) == wanted
        assert page.has_more == (len(wanted) < len(inside))
        assert (page.head_seq, page.first_seq) == (5, 1)
        if wanted:
            assert (page.next_before_seq if newest else page.next_after_seq) == (
                wanted[0] if newest else wanted[-1]
            )


@pytest.mark.parametrize("newest", [False, True])
async def test_pages_hold_each_message_once(bus: BusStub, thread: str, newest: bool) -> None:
    await fill(bus, thread, 20)
    for limit in (1, 2, 7, 19, 20, 21):
        pages = await read_pages(bus, thread, limit=limit, newest=newest)
        full = pages[1:] if newest else pages[:-1]
        assert all(len(page.messages) == limit for page in full)
        assert seqs(pages) == list(range(1, 21))


@pytest.mark.parametrize("urgent", [[], [1], [20], [10], [5, 6, 7, 20], list(range(2, 21, 2))])
async def test_pages_of_a_filtered_thread_hold_each_message_once(
    bus: BusStub, thread: str, urgent: list[int]
) -> None:
    await fill(bus, thread, 20, urgent)
    for newest in (False, True):
        for limit in (1, 2, 3, 4, 100):
            pages = await read_pages(bus, thread, limit=limit, newest=newest, filter=URGENT)
            assert all(len(page.messages) <= limit for page in pages)
            assert seqs(pages) == urgent


async def test_reading_continues_past_filtered_messages(bus: BusStub, thread: str) -> None:
    await fill(bus, thread, 5, urgent=[2])
    page = await read(bus, thread, filter=URGENT)
    assert (seqs([page]), page.next_after_seq, page.has_more) == ([2], 5, False)
    page = await read(bus, thread, filter=URGENT, newest=True)
    assert (seqs([page]), page.next_before_seq, page.has_more) == ([2], 1, False)
    await bus.PostMessage(PostMessageRequest(thread=thread, content="6", priority=PRIORITY_URGENT))
    page = await read(bus, thread, filter=URGENT, after_seq=5)
    assert (seqs([page]), page.next_after_seq) == ([6], 6)


@pytest.mark.parametrize("wanted", [MessageFilter(), URGENT], ids=["all", "filtered"])
async def test_from_the_newest_page_reading_continues_in_both_directions(
    bus: BusStub, thread: str, wanted: MessageFilter
) -> None:
    await fill(bus, thread, 9, urgent=range(1, 9))
    page = await read(bus, thread, newest=True, limit=3, filter=wanted)
    older = await read(bus, thread, newest=True, filter=wanted, before_seq=page.next_before_seq)
    await bus.PostMessage(PostMessageRequest(thread=thread, content="x", priority=PRIORITY_URGENT))
    newer = await read(bus, thread, filter=wanted, after_seq=page.next_after_seq)
    everything = await read(bus, thread, filter=wanted)
    assert seqs([older, page, newer]) == seqs([everything])
    assert seqs([newer]) == [10]


async def test_from_a_page_in_the_middle_reading_continues_in_both_directions(
    bus: BusStub, thread: str
) -> None:
    await fill(bus, thread, 9)
    page = await read(bus, thread, after_seq=3, limit=3)
    older = await read(bus, thread, newest=True, before_seq=page.next_before_seq)
    newer = await read(bus, thread, after_seq=page.next_after_seq)
    assert [seqs([part]) for part in (older, page, newer)] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


async def test_pages_forward_see_each_message_once_while_posts_come(
    bus: BusStub, thread: str
) -> None:
    count = 100

    async def post_on() -> None:
        for _ in range(count):
            await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))

    seen: list[int] = []
    after = 0
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(post_on())
        while len(seen) < count:
            page = await read(bus, thread, after_seq=after, limit=3)
            assert page.has_more == (page.next_after_seq < page.head_seq)
            seen += seqs([page])
            after = page.next_after_seq
    assert seen == list(range(1, count + 1))


async def test_pages_backward_are_not_disturbed_by_new_posts(bus: BusStub, thread: str) -> None:
    await fill(bus, thread, 10)
    page = await read(bus, thread, limit=4, newest=True)
    seen = seqs([page])
    while page.has_more:
        await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
        page = await read(bus, thread, limit=4, newest=True, before_seq=page.next_before_seq)
        seen = seqs([page]) + seen
    assert seen == list(range(1, 11))


async def test_a_matching_epoch_is_accepted(bus: BusStub, thread: str) -> None:
    await fill(bus, thread, 2)
    epoch = (await read(bus, thread)).epoch
    page = await read(bus, thread, after_seq=1, epoch=epoch)
    assert (seqs([page]), page.epoch) == ([2], epoch)


async def test_get_returns_a_message_as_it_is_listed(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await fill(bus, thread, 3)
    await threads.SetThreadState(SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED))
    listed = list((await read(bus, thread)).messages)
    one_by_one = [
        (await bus.GetMessage(GetMessageRequest(thread=thread, seq=seq))).message
        for seq in range(1, 5)
    ]
    assert one_by_one == listed


async def test_reading_moves_no_read_position(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, thread: str, name: str
) -> None:
    metadata = (await register(agents, name)).metadata
    before = await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=metadata)
    await fill(bus, thread, 3)
    await bus.ListMessages(ListMessagesRequest(thread=thread), metadata=metadata)
    await bus.GetMessage(GetMessageRequest(thread=thread, seq=3), metadata=metadata)
    after = await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=metadata)
    assert after.cursor == before.cursor
