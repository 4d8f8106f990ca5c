"""The trace context of calls: a message has the traceparent of the call that posted it."""

import itertools
from collections.abc import Sequence

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.peers import Peer, registered
from tests.post_stream import post_stream
from tests.requests import asking, withdraw
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import PRIORITY_HIGH, Attachment, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest, UpdateThreadRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FIRST = f"00-{TRACE}-00f067aa0ba902b7-01"
SECOND = f"00-{TRACE}-b7ad6b7169203331-00"


async def post(
    by: Peer, thread: str, *traceparents: str, content: str = "text", request_id: str = ""
) -> PostMessageResponse:
    """Post a message in a call with these traceparents."""
    request = PostMessageRequest(thread=thread, content=content, request_id=request_id)
    metadata = *by.metadata, *(("traceparent", each) for each in traceparents)
    return await by.bus.PostMessage(request, timeout=BOUND, metadata=metadata)


async def traceparents(by: Peer, thread: str) -> Sequence[str]:
    """Returns those of a thread's messages."""
    return [message.traceparent for message in await by.read(thread)]


async def test_every_kind_of_entry_has_that_of_its_call(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    author, other = await registered(agents, bus, "author"), await registered(agents, bus, "other")
    calls = (f"00-{TRACE}-{number:016x}-01" for number in itertools.count(1))

    def metadata() -> tuple[tuple[str, str], ...]:
        return (*author.metadata, ("traceparent", next(calls)))

    for request in (
        PostMessageRequest(content="plain"),
        PostMessageRequest(
            content="high", priority=PRIORITY_HIGH, attachments=[Attachment(raw=b"x")]
        ),
        PostMessageRequest(content="edited", edit_of=1),
        PostMessageRequest(content="ask", expect_reply=asking(other.name)),
    ):
        request.thread = thread
        await bus.PostMessage(request, timeout=BOUND, metadata=metadata())
    async with post_stream(bus, metadata=metadata()) as stream:
        await stream.post(*[PostMessageRequest(thread=thread, content=each) for each in "ab"])
        await stream.post(PostMessageRequest(thread=thread, content="c"))
    update = UpdateThreadRequest(thread=thread, topic="new", update_mask=FieldMask(paths=["topic"]))
    await threads.UpdateThread(update, timeout=BOUND, metadata=metadata())
    await withdraw(author, thread, 4)  # without one: the notice has that of the question
    close = SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED)
    await threads.SetThreadState(close, timeout=BOUND, metadata=metadata())

    spans = [each.split("-")[2] for each in await traceparents(author, thread)]
    assert [int(span, 16) for span in spans] == [1, 2, 3, 4, 5, 5, 5, 6, 4, 7]


async def test_every_way_of_reading_returns_it(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await post(anyone, thread, FIRST, content="long " * 100)
    found: list[Message] = await anyone.read(thread)
    found += await anyone.read(thread, max_content_bytes=10, omit_attachment_data=True)
    listed = await bus.ListMessages(ListMessagesRequest(thread=thread), timeout=BOUND)
    found += listed.messages
    one = await bus.GetMessage(GetMessageRequest(thread=thread, seq=1), timeout=BOUND)
    found.append(one.message)
    assert [message.traceparent for message in found] == [FIRST] * 4
    assert [message.content_size for message in found] == [500] * 4


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "hello",
        FIRST.upper(),
        f"01{FIRST[2:]}",
        f"ff{FIRST[2:]}",
        f"{FIRST}-00",
        FIRST[:-1],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
    ids=str,
)
async def test_one_that_is_not_valid_is_ignored(bus: BusStub, thread: str, sent: str) -> None:
    anyone = Peer(bus)
    await post(anyone, thread, sent)
    await post(anyone, thread, SECOND)
    assert await traceparents(anyone, thread) == ["", SECOND]


async def test_a_retry_with_another_one_is_a_retry(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    answers = [
        await post(anyone, thread, *sent, request_id="a") for sent in ((FIRST,), (SECOND,), ())
    ]
    assert [answer.deduplicated for answer in answers] == [False, True, True]
    assert await traceparents(anyone, thread) == [FIRST]
