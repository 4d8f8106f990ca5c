"""Threads lose their oldest entries as their retention says, and readers are told."""

from google.protobuf.duration_pb2 import Duration

from tests.polling import until_known
from tests.refusals import refused
from tests.serving import BusStub, ThreadStub
from tests.wait_frames import waiting
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import Retention, Thread
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, GetThreadRequest


async def create(threads: ThreadStub, name: str, retention: Retention) -> None:
    await threads.CreateThread(CreateThreadRequest(thread=name, retention=retention))


async def post(bus: BusStub, thread: str, count: int, content: str = "x") -> None:
    for _ in range(count):
        await bus.PostMessage(PostMessageRequest(thread=thread, content=content))


async def until_first(threads: ThreadStub, name: str, seq: int) -> Thread:
    """Returns the thread once its oldest entry is `seq`."""
    found = Thread()

    async def known() -> bool:
        nonlocal found
        found = (await threads.GetThread(GetThreadRequest(thread=name))).thread
        assert found.first_seq <= seq
        return found.first_seq == seq

    await until_known(known)
    return found


async def test_the_newest_messages_are_kept(bus: BusStub, threads: ThreadStub, name: str) -> None:
    await create(threads, name, Retention(max_messages=3))
    await post(bus, name, 10)
    found = await until_first(threads, name, 8)
    assert found.head_seq == 10
    page = await bus.ListMessages(ListMessagesRequest(thread=name))
    assert [message.seq for message in page.messages] == [8, 9, 10]
    assert (page.first_seq, page.next_after_seq, page.has_more) == (8, 10, False)
    newest = await bus.ListMessages(ListMessagesRequest(thread=name, newest=True))
    assert newest.messages == page.messages
    assert (newest.next_before_seq, newest.has_more) == (8, False)
    request = GetMessageRequest(thread=name, seq=7)
    refusal = await refused(bus.GetMessage(request))
    assert refusal.reason == "MESSAGE_NOT_FOUND"
    assert "message 7" in refusal.message and "oldest is 8" in refusal.message


async def test_a_thread_can_become_empty(bus: BusStub, threads: ThreadStub, name: str) -> None:
    await create(threads, name, Retention(max_age=Duration(nanos=1)))
    await post(bus, name, 3)
    found = await until_first(threads, name, 4)
    assert found.head_seq == 3
    page = await bus.ListMessages(ListMessagesRequest(thread=name))
    assert (list(page.messages), page.first_seq, page.head_seq) == ([], 4, 3)
    posted = await bus.PostMessage(PostMessageRequest(thread=name, content="x"))
    assert posted.seq == 4


async def test_a_wait_behind_the_first_message_gets_a_resync(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name, Retention(max_messages=2))
    await post(bus, name, 5)
    await until_first(threads, name, 4)
    async with waiting(bus, Cursor(thread=name, after_seq=1), max_wait=0) as wait:
        resync = (await wait.until("resync")).resync
        assert resync.reason == WaitResync.REASON_COMPACTED
        assert resync.requested.after_seq == 1
        assert (resync.position.cursor.after_seq, resync.position.first_seq) == (3, 4)
        assert [message.seq for message in await wait.messages(2)] == [4, 5]
