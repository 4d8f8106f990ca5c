"""What a response holds at most: sizes of texts and files, texts cut off, files left out."""

from typing import Any

import grpc
import pytest

from tests.files import file
from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    ListMessagesResponse,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Attachment, Cursor, Message, MessageFilter
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

FAMILY = "👩‍👩‍👧‍👦"
FILES = [
    Attachment(filename="a.bin", media_type="application/x-a", raw=bytes(300)),
    Attachment(filename="empty", raw=b""),
    Attachment(filename="link", url="https://example.org/"),
]


async def read_every_way(bus: BusStub, thread: str, **fields: Any) -> list[Message]:
    """Returns a thread's messages, after checking that each way to read them gives the same."""
    page = await bus.ListMessages(ListMessagesRequest(thread=thread, **fields))
    found = list(page.messages)
    for message in found:
        request = GetMessageRequest(thread=thread, seq=message.seq, **fields)
        assert (await bus.GetMessage(request)).message == message
    async with Peer(bus).wait(thread, max_wait=0, **fields) as frames:
        assert messages_in(await frames.rest()) == found
    return found


async def test_every_message_that_is_read_tells_the_sizes_of_its_text_and_files(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.post(thread, "größe", attachments=FILES)
    await coder.post(thread, "edited", edit_of=1)
    await coder.post(thread, "", attachments=FILES[:1])
    async with coder.wait(thread) as frames:
        history = await frames.messages(3)
        await coder.post(thread, "語" * 1_000, request_id="a")
        history += await frames.messages(1)
    assert [message.content_size for message in history] == [7, 6, 0, 3_000]
    assert [file.size for file in history[0].attachments] == [300, 0, 0]
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    *messages, closed = await read_every_way(bus, thread)
    assert [message.content_size for message in messages] == [7, 6, 0, 3_000]
    assert closed.content_size == len(closed.content)
    join = JoinThreadRequest(thread=thread, context_limit=100)
    context = (await threads.JoinThread(join)).context
    assert list(context) == [*messages, closed]


async def test_a_size_in_a_post_is_ignored_also_when_it_is_repeated(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    for size in (0, 1, 2**40, -1):
        files = [Attachment(filename="a", raw=b"xyz", size=size)]
        done = await anyone.post(thread, "x", attachments=files, request_id="same")
        assert (done.seq, done.deduplicated) == (1, size != 0)
    await anyone.post(thread, "y", attachments=[Attachment(url="https://x.test/", size=9)])
    first, second = await read_every_way(bus, thread)
    assert list(first.attachments) == [file(b"xyz", filename="a")]
    assert second.attachments[0].size == 0


async def test_files_can_be_left_out_but_for_their_descriptions(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, "with files", attachments=FILES)
    await anyone.post(thread, "without")
    whole = await read_every_way(bus, thread)
    first, second = await read_every_way(bus, thread, omit_attachment_data=True)
    assert list(first.attachments) == [
        Attachment(filename="a.bin", media_type="application/x-a", size=300),
        Attachment(filename="empty"),
        FILES[2],
    ]
    del first.attachments[:], whole[0].attachments[:]
    assert [first, second] == whole


@pytest.mark.parametrize(
    ("limit", "content"),
    [
        (1, ""),
        (2, "é"),
        (4, "éx"),
        (5, "éx\r\n"),
        (29, "éx\r\n"),
        (30, f"éx\r\n{FAMILY}"),
        (31, f"éx\r\n{FAMILY}y"),
        (2**31, f"éx\r\n{FAMILY}y"),
        (2**63 - 1, f"éx\r\n{FAMILY}y"),
        (0, f"éx\r\n{FAMILY}y"),
    ],
)
async def test_a_long_text_is_cut_off_between_characters(
    bus: BusStub, thread: str, limit: int, content: str
) -> None:
    await Peer(bus).post(thread, f"éx\r\n{FAMILY}y", labels={"a": "b"})
    (message,) = await read_every_way(bus, thread, max_content_bytes=limit)
    assert (message.content, message.content_size) == (content, 31)
    assert dict(message.labels) == {"a": "b"}


async def page(bus: BusStub, thread: str, **fields: Any) -> ListMessagesResponse:
    """Returns a page, which is checked to be within max_bytes, or of one message."""
    found = await bus.ListMessages(ListMessagesRequest(thread=thread, **fields))
    sizes = [message.ByteSize() for message in found.messages]
    assert len(sizes) == 1 or sum(sizes) <= fields["max_bytes"]
    return found


@pytest.mark.parametrize("newest", [False, True], ids=["oldest", "newest"])
async def test_a_page_ends_before_it_would_have_more_than_max_bytes(
    bus: BusStub, thread: str, newest: bool
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *["x" * 100] * 4)
    size = (await read_every_way(bus, thread))[0].ByteSize()
    for most, count in [(1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2), (2**31, 4)]:
        found = await page(bus, thread, max_bytes=most, newest=newest)
        expected = range(5 - count, 5) if newest else range(1, 1 + count)
        assert [message.seq for message in found.messages] == list(expected)
        assert found.has_more == (count < 4)
        if newest and found.has_more:
            assert found.next_before_seq == expected[0]
        if not newest:
            assert found.next_after_seq == expected[-1]


async def test_max_bytes_counts_messages_as_they_are_returned(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for _ in range(4):
        await anyone.post(thread, "x" * 1_000, attachments=[Attachment(raw=bytes(100_000))])
    fields: dict[str, Any] = {"omit_attachment_data": True, "max_content_bytes": 100}
    found = await page(bus, thread, max_bytes=1_000, **fields)
    assert len(found.messages) == 4
    assert not found.has_more


async def test_pages_with_max_bytes_pass_over_what_is_filtered_out(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    ann, ben = [await registered(agents, bus, name) for name in ("ann", "ben")]
    for peer in (ben, ann, ben, ann, ben, ben):
        await peer.post(thread)
    wanted = MessageFilter(senders=[ann.name])
    request = ListMessagesRequest(thread=thread, filter=wanted, max_bytes=1)
    found = []
    while True:
        one = await bus.ListMessages(request)
        found += [message.seq for message in one.messages]
        if not one.has_more:
            break
        request.after_seq = one.next_after_seq
    assert found == [2, 4]


@pytest.mark.parametrize("field", ["max_content_bytes", "max_bytes"])
async def test_negative_limits_are_refused(bus: BusStub, thread: str, field: str) -> None:
    given: dict[str, Any] = {field: -1}
    calls: list[Any] = [
        lambda: bus.ListMessages(ListMessagesRequest(thread=thread, **given)),
        lambda: bus.WaitMessages(WaitMessagesRequest(threads=[Cursor(thread=thread)], **given)),
    ]
    if field == "max_content_bytes":
        calls.append(lambda: bus.GetMessage(GetMessageRequest(thread=thread, seq=1, **given)))
    for call in calls:
        refusal = await refused(call())
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.fields == [field]


async def test_a_closed_thread_is_read_to_its_end_by_pages_of_few_bytes(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await Peer(bus).post(thread)
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    first = await page(bus, thread, max_bytes=1)
    second = await page(bus, thread, max_bytes=1, after_seq=first.next_after_seq)
    assert (first.has_more, second.has_more) == (True, False)
    assert second.next_after_seq == 2
