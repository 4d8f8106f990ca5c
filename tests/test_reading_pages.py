"""ListMessages: pages of many messages and of large ones."""

import asyncio

import pytest

from tests.pages import read_pages, seqs
from tests.post_stream import post_stream
from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import PRIORITY_LOW, PRIORITY_URGENT, Attachment, MessageFilter

KIB, MIB = 1024, 1024 * 1024
URGENT = MessageFilter(min_priority=PRIORITY_URGENT)


async def post_large(bus: BusStub, thread: str, sizes: list[int]) -> list[int]:
    """Post a message of each size, every other one urgent; returns the seqs of the urgent ones."""
    urgent = []
    for at, size in enumerate(sizes):
        answer = await bus.PostMessage(
            PostMessageRequest(
                thread=thread,
                attachments=[Attachment(raw=bytes(size))],
                priority=PRIORITY_LOW if at % 2 else PRIORITY_URGENT,
            )
        )
        if not at % 2:
            urgent.append(answer.seq)
    return urgent


SIZES = {
    "equal": [MIB] * 8,
    "largest": [3 * MIB - KIB] * 4,
    "just-under-a-quarter": [767 * KIB, 3 * MIB - KIB] * 3,
    "mixed": [1, 3 * MIB - KIB, 1, MIB, 600 * KIB, 3 * MIB - KIB, 1, 1, 2 * MIB, 900 * KIB, 1],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.slow
async def test_pages_of_large_messages_fit_into_a_response_and_hold_each_once(
    bus: BusStub, thread: str, sizes: list[int]
) -> None:
    urgent = await post_large(bus, thread, sizes)
    for newest in (False, True):
        # A page over 4 MiB would not even reach this client.
        pages = await read_pages(bus, thread, newest=newest)
        assert seqs(pages) == list(range(1, len(sizes) + 1))
        assert all(page.messages for page in pages)
        filtered = await read_pages(bus, thread, newest=newest, filter=URGENT)
        assert seqs(filtered) == urgent


async def test_a_page_holds_about_three_mebibytes(bus: BusStub, thread: str) -> None:
    await post_large(bus, thread, [500 * KIB] * 8)
    for newest in (False, True):
        page = await bus.ListMessages(ListMessagesRequest(thread=thread, newest=newest))
        assert len(page.messages) == 6
        assert page.has_more


@pytest.mark.slow
async def test_a_page_has_a_hundred_messages_by_default_and_at_most_a_thousand(
    bus: BusStub, thread: str
) -> None:
    post = PostMessageRequest(thread=thread, content="x")
    await asyncio.gather(*(bus.PostMessage(post) for _ in range(1_001)))
    for asked, answered in ((0, 100), (999, 999), (1_001, 1_000), (2**31 - 1, 1_000)):
        page = await bus.ListMessages(ListMessagesRequest(thread=thread, limit=asked))
        assert (len(page.messages), page.has_more) == (answered, True)


@pytest.mark.slow
async def test_pages_of_a_long_filtered_thread_hold_each_message_once(
    bus: BusStub, thread: str
) -> None:
    posts = [PostMessageRequest(thread=thread, content="x") for _ in range(10_500)]
    urgent = [1, 4_001, 4_002, 10_500]
    for seq in urgent:
        posts[seq - 1].priority = PRIORITY_URGENT
    async with post_stream(bus) as stream:
        for begin in range(0, len(posts), 500):
            await stream.post(*posts[begin : begin + 500])
        await stream.done()
    for newest in (False, True):
        for limit in (2, 1_000):
            pages = await read_pages(bus, thread, newest=newest, limit=limit, filter=URGENT)
            assert seqs(pages) == urgent
