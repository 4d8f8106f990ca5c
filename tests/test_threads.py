"""Threads: created, read, closed, opened, archived, deleted."""

import asyncio

import grpc
import pytest

from tests.callers import register
from tests.open_wait import open_wait
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_ANONYMOUS
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, PRIORITY_NORMAL
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
)


async def post(bus: BusStub, thread: str, content: str = "x", request_id: str = "") -> int:
    request = PostMessageRequest(thread=thread, content=content, request_id=request_id)
    return (await bus.PostMessage(request)).seq


async def read(threads: ThreadStub, thread: str) -> Thread:
    return (await threads.GetThread(GetThreadRequest(thread=thread))).thread


async def set_state(threads: ThreadStub, thread: str, state: ThreadState.ValueType) -> Thread:
    request = SetThreadStateRequest(thread=thread, state=state)
    return (await threads.SetThreadState(request)).thread


async def test_a_new_thread_is_empty_and_open(threads: ThreadStub, name: str) -> None:
    request = CreateThreadRequest(thread=name, topic="a topic", labels={"k": "v"})
    created = (await threads.CreateThread(request)).thread
    assert (created.name, created.topic, dict(created.labels)) == (name, "a topic", {"k": "v"})
    assert (created.head_seq, created.first_seq) == (0, 1)
    assert (created.state, created.creator) == (THREAD_STATE_OPEN, "anonymous")
    assert created.create_time == created.update_time
    assert await read(threads, name) == created


async def test_posts_move_the_head_and_the_update_time(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    before = await read(threads, thread)
    for _ in range(3):
        await post(bus, thread)
    after = await read(threads, thread)
    newest = await bus.GetMessage(GetMessageRequest(thread=thread, seq=3))
    assert (after.head_seq, after.first_seq) == (3, 1)
    assert after.update_time == newest.message.create_time
    assert (after.create_time, after.epoch) == (before.create_time, before.epoch)


async def test_of_concurrent_creations_of_a_name_one_wins(threads: ThreadStub, name: str) -> None:
    answers = await asyncio.gather(
        *(threads.CreateThread(CreateThreadRequest(thread=name)) for _ in range(16)),
        return_exceptions=True,
    )
    lost = [error.code() for error in answers if isinstance(error, grpc.aio.AioRpcError)]
    assert lost == [grpc.StatusCode.ALREADY_EXISTS] * 15


@pytest.mark.parametrize("registered", [True, False])
async def test_a_change_of_state_is_an_entry_of_the_log(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, thread: str, name: str, registered: bool
) -> None:
    metadata = (await register(agents, name)).metadata if registered else ()
    await post(bus, thread)
    answer = await threads.SetThreadState(
        SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED), metadata=metadata
    )
    assert (answer.thread.state, answer.thread.head_seq) == (THREAD_STATE_CLOSED, 2)
    assert answer.thread == await read(threads, thread)
    entry = (await bus.GetMessage(GetMessageRequest(thread=thread, seq=2))).message
    assert (entry.kind, entry.priority) == (MESSAGE_KIND_THREAD, PRIORITY_NORMAL)
    assert (entry.sender, entry.sender_kind) == (
        (name, AGENT_KIND_AGENT) if registered else ("anonymous", AGENT_KIND_ANONYMOUS)
    )
    assert "closed" in entry.content
    assert answer.thread.update_time == entry.create_time


async def test_waits_receive_a_change_of_state_in_order(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    async with open_wait(bus, thread) as wait:
        await post(bus, thread, "before")
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        await wait.ended()
    first, second = wait.messages
    assert (first.seq, first.content) == (1, "before")
    assert (second.seq, second.kind) == (2, MESSAGE_KIND_THREAD)


@pytest.mark.parametrize("state", [THREAD_STATE_OPEN, THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_setting_the_current_state_changes_nothing(
    channel: grpc.aio.Channel, threads: ThreadStub, thread: str, state: ThreadState.ValueType
) -> None:
    before = await set_state(threads, thread, state)
    async with nothing_stored(channel):
        assert await set_state(threads, thread, state) == before


async def test_a_closed_thread_can_be_read_joined_and_reopened(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await post(bus, thread)
    for state in (THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED):
        await set_state(threads, thread, state)
        page = await bus.ListMessages(ListMessagesRequest(thread=thread))
        assert page.messages[0].content == "x"
        joined = await threads.JoinThread(JoinThreadRequest(thread=thread))
        assert joined.thread.state == state
        refusal = await refused(bus.PostMessage(PostMessageRequest(thread=thread, content="x")))
        assert refusal.reason == "THREAD_CLOSED"
    await set_state(threads, thread, THREAD_STATE_OPEN)
    assert await post(bus, thread) == 5  # the post, three changes of state, and this


async def test_a_refused_post_to_a_closed_thread_does_not_consume_its_request_id(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await set_state(threads, thread, THREAD_STATE_CLOSED)
    request = PostMessageRequest(thread=thread, content="x", request_id="one")
    await refused(bus.PostMessage(request))
    await set_state(threads, thread, THREAD_STATE_OPEN)
    answer = await bus.PostMessage(request)
    assert (answer.seq, answer.deduplicated) == (3, False)


async def test_a_deleted_thread_is_not_found(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await post(bus, thread)
    await threads.DeleteThread(DeleteThreadRequest(thread=thread))
    for call in (
        threads.GetThread(GetThreadRequest(thread=thread)),
        threads.DeleteThread(DeleteThreadRequest(thread=thread)),
        threads.JoinThread(JoinThreadRequest(thread=thread)),
        bus.ListMessages(ListMessagesRequest(thread=thread)),
        bus.GetMessage(GetMessageRequest(thread=thread, seq=1)),
        bus.PostMessage(PostMessageRequest(thread=thread, content="x")),
    ):
        assert (await refused(call)).reason == "THREAD_NOT_FOUND"
    listed = await threads.ListThreads(ListThreadsRequest(prefix=thread))
    assert not listed.threads


async def test_a_wait_on_a_deleted_thread_ends_with_not_found(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    async with open_wait(bus, thread) as wait:
        await threads.DeleteThread(DeleteThreadRequest(thread=thread))
        refusal = await refused(wait.ended())
    assert (refusal.reason, refusal.resources) == ("THREAD_NOT_FOUND", [("thread", thread)])


async def test_a_thread_recreated_under_the_name_is_another_one(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, thread: str, name: str
) -> None:
    agent = await register(agents, name)
    join = JoinThreadRequest(thread=thread)
    await threads.JoinThread(join, metadata=agent.metadata)
    for n in range(3):
        await post(bus, thread, f"old {n}", request_id=f"{n}")
    old = await read(threads, thread)
    await threads.DeleteThread(DeleteThreadRequest(thread=thread))
    new = (await threads.CreateThread(CreateThreadRequest(thread=thread))).thread
    assert new.epoch != old.epoch
    assert (new.head_seq, new.first_seq) == (0, 1)

    # The old request_ids are forgotten, with any body.
    answer = await bus.PostMessage(PostMessageRequest(thread=thread, content="new", request_id="2"))
    assert (answer.seq, answer.deduplicated, answer.epoch) == (1, False, new.epoch)
    page = await bus.ListMessages(ListMessagesRequest(thread=thread))
    assert [message.content for message in page.messages] == ["new"]

    # A participant of the old thread is a newcomer here, and its old cursor gets a resync.
    joined = await threads.JoinThread(join, metadata=agent.metadata)
    assert (joined.cursor.after_seq, joined.cursor.epoch) == (1, new.epoch)
    refusal = await refused(
        bus.ListMessages(ListMessagesRequest(thread=thread, after_seq=1, epoch=old.epoch))
    )
    assert (refusal.reason, refusal.metadata["epoch"]) == ("CURSOR_INVALID", new.epoch)
