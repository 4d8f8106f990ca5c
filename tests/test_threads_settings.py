"""UpdateThread: what it changes, and how others learn of it."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.callers import operator
from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import messages_in, waiting
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_ANONYMOUS, AGENT_KIND_HUMAN
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    WaitEnding,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_THREAD,
    PRIORITY_NORMAL,
    WAKE_NOBODY,
    Cursor,
    Message,
)
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    SYNC_MODE_STRICT,
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    UpdateThreadRequest,
)

BEFORE: dict[str, Any] = {"topic": "a topic", "labels": {"a": "1"}, "sync_mode": SYNC_MODE_OFF}
#: Other values for every field that can be set.
AFTER: dict[str, Any] = {
    "topic": "another topic",
    "stage": "review",
    "labels": {"b": "2", "c": "3"},
    "sync_mode": SYNC_MODE_STRICT,
}


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def read(threads: ThreadStub, thread: str) -> Thread:
    return (await threads.GetThread(GetThreadRequest(thread=thread))).thread


async def update(
    threads: ThreadStub, thread: str, *paths: str, by: Peer | None = None, **fields: Any
) -> Thread:
    """Set the given fields, or those of the paths; returns the thread from the response."""
    mask = FieldMask(paths=paths or fields)
    request = UpdateThreadRequest(thread=thread, update_mask=mask, **fields)
    answer = await threads.UpdateThread(request, metadata=by.metadata if by else ())
    return answer.thread


async def entry(bus: BusStub, thread: str, seq: int) -> Message:
    return (await bus.GetMessage(GetMessageRequest(thread=thread, seq=seq))).message


@pytest.mark.parametrize("field", AFTER)
async def test_a_field_named_in_the_mask_is_set_and_no_other(
    threads: ThreadStub, name: str, field: str
) -> None:
    created = (await threads.CreateThread(CreateThreadRequest(thread=name, **BEFORE))).thread
    changed = await update(threads, name, field, **AFTER)
    assert changed == await read(threads, name)
    assert changed == Thread(
        name=name,
        epoch=created.epoch,
        head_seq=1,
        first_seq=1,
        state=THREAD_STATE_OPEN,
        creator="anonymous",
        create_time=created.create_time,
        update_time=changed.update_time,
        **{**BEFORE, field: AFTER[field]},
    )
    assert changed.update_time.ToMicroseconds() > created.update_time.ToMicroseconds()


async def test_all_fields_are_set_at_once_with_one_entry(threads: ThreadStub, thread: str) -> None:
    changed = await update(threads, thread, **AFTER)
    assert (changed.head_seq, changed.topic, changed.stage) == (1, "another topic", "review")
    assert (dict(changed.labels), changed.sync_mode) == ({"b": "2", "c": "3"}, SYNC_MODE_STRICT)


async def test_a_field_named_without_a_value_is_cleared(threads: ThreadStub, thread: str) -> None:
    await update(threads, thread, **AFTER)
    cleared = await update(threads, thread, *AFTER)
    assert (cleared.head_seq, cleared.topic, cleared.stage) == (2, "", "")
    assert (dict(cleared.labels), cleared.sync_mode) == ({}, SYNC_MODE_OFF)


async def test_a_change_adds_an_entry_that_says_who_changed_what(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await update(threads, thread, by=agent, **AFTER)
    await update(threads, thread, stage="", labels={})
    first, second = await entry(bus, thread, 1), await entry(bus, thread, 2)
    assert first == Message(
        thread=thread,
        seq=1,
        sender=agent.name,
        sender_kind=AGENT_KIND_AGENT,
        content=f"{agent.name} set the thread's topic to “another topic” and stage to “review”"
        " and labels to b=2, c=3 and sync_mode to strict",
        create_time=first.create_time,
        kind=MESSAGE_KIND_THREAD,
        priority=PRIORITY_NORMAL,
        wakes=WAKE_NOBODY,
        content_size=len(first.content.encode()),
    )
    assert second.content == "anonymous set the thread's stage to none and labels to none"
    assert (second.sender, second.sender_kind) == ("anonymous", AGENT_KIND_ANONYMOUS)


@pytest.mark.parametrize("paths", [[field] for field in AFTER] + [list(AFTER)], ids=str)
async def test_setting_the_current_value_adds_no_entry(
    channel: grpc.aio.Channel, threads: ThreadStub, thread: str, paths: list[str]
) -> None:
    first = await update(threads, thread, **AFTER)
    async with nothing_stored(channel):
        assert await update(threads, thread, *paths, **AFTER) == first


async def test_a_path_named_twice_is_set_once(threads: ThreadStub, thread: str) -> None:
    changed = await update(threads, thread, "stage", "stage", stage="review")
    assert (changed.stage, changed.head_seq) == ("review", 1)


async def test_an_operator_changes_threads_in_its_own_name(
    server: ServerProcess, threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await update(threads, thread, by=Peer(bus, operator(server)), stage="done")
    told = await entry(bus, thread, 1)
    assert (told.sender, told.sender_kind) == ("operator", AGENT_KIND_HUMAN)


async def test_waits_receive_changes_and_messages_in_order(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    async with waiting(bus, thread) as frames:
        await frames.until("caught_up")
        await Peer(bus).post(thread, "before")
        await update(threads, thread, stage="review")
        await Peer(bus).post(thread, "after")
        live = await frames.messages(3)
    assert [message.content for message in live] == [
        "before",
        "anonymous set the thread's stage to “review”",
        "after",
    ]
    assert [message.kind for message in live].index(MESSAGE_KIND_THREAD) == 1
    assert await Peer(bus).read(thread) == live


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_a_thread_that_takes_no_posts_can_still_be_updated(
    threads: ThreadStub, bus: BusStub, thread: str, state: ThreadState.ValueType
) -> None:
    await set_state(threads, thread, state)
    changed = await update(threads, thread, stage="merged", labels={"in": "1.2"})
    assert (changed.state, changed.stage, changed.head_seq) == (state, "merged", 2)
    assert (await refused(Peer(bus).post(thread))).reason == "THREAD_CLOSED"
    async with waiting(bus, Cursor(thread=thread, after_seq=1)) as frames:
        rest = await frames.rest()
    assert [message.seq for message in messages_in(rest)] == [2]
    assert rest[-1].ending.reason == WaitEnding.REASON_THREADS_CLOSED


@pytest.mark.own_server
@pytest.mark.slow
async def test_settings_survive_a_restart(
    threads: ThreadStub, thread: str, server: ServerProcess
) -> None:
    changed = await update(threads, thread, **AFTER)
    server.kill()
    server.start()
    request = GetThreadRequest(thread=thread)
    assert (await threads.GetThread(request, wait_for_ready=True)).thread == changed
