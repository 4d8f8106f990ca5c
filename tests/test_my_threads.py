"""WaitMessages with all_my_threads: every thread of the caller, in one wait."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import pytest

from tests.callers import operator, with_token
from tests.participation import join, participants
from tests.peers import Peer, recreate, registered, set_state
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import Frames, by_thread, cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    LeaveThreadRequest,
)

ADDRESSED = MessageFilter(addressed_to_me=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, without the fallback: here only the commit itself wakes a wait."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    return await registered(agents, bus, "me")


@pytest.fixture
async def other(agents: AgentStub, bus: BusStub) -> Peer:
    return await registered(agents, bus, "other")


async def several(threads: ThreadStub, name: str, *suffixes: str) -> list[str]:
    """Creates threads."""
    names = [f"{name}.{suffix}" for suffix in suffixes]
    for each in names:
        await threads.CreateThread(CreateThreadRequest(thread=each))
    return names


@contextlib.asynccontextmanager
async def all_of(agent: Peer, *cursors: Cursor, **fields: Any) -> AsyncIterator[Frames]:
    async with agent.wait(*cursors, all_my_threads=True, **fields) as frames:
        yield frames


async def caught_up(frames: Frames) -> Sequence[WaitMessagesResponse]:
    """Read until the wait has caught up; returns all frames so far."""
    await frames.until("caught_up")
    return frames.received


async def test_it_delivers_what_each_thread_has_and_then_what_comes(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b, c = await several(threads, name, *"abc")
    for thread in (a, b):
        await join(threads, thread, agent)
    await other.post_all(a, "1", "2")
    await other.post_all(c, "not mine")
    async with all_of(agent) as frames:
        before = await caught_up(frames)
        assert kinds(before) == ["started", "messages", "caught_up"]
        assert not before[0].started.threads
        assert not before[-1].caught_up.HasField("cursor")
        assert by_thread(messages_in(before)) == {a: [1, 2]}
        await other.post(b, "3")
        await other.post(a, "4")
        await other.post(c, "not mine")
        await other.post(b, "5")
        found = await frames.messages(3)
    assert by_thread(found) == {b: [1, 2], a: [3]}


async def test_an_agent_without_threads_is_caught_up_at_once(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    (thread,) = await several(threads, name, "a")
    async with all_of(agent) as frames:
        assert kinds(await caught_up(frames)) == ["started", "caught_up"]
        await other.post(thread, "hello", mentions=[agent.name])
        added = (await frames.until("thread_added")).thread_added
        assert (added.cursor.thread, added.cursor.after_seq) == (thread, 0)
        assert [message.content for message in await frames.messages(1)] == ["hello"]


@pytest.mark.parametrize("how", ["mention", "handoff", "join", "post"])
async def test_a_thread_is_added_when_the_caller_comes_to_take_part(
    agent: Peer, other: Peer, threads: ThreadStub, name: str, how: str
) -> None:
    (thread,) = await several(threads, name, "a")
    async with all_of(agent) as frames:
        await caught_up(frames)
        if how == "mention":
            await other.post(thread, mentions=[agent.name])
        elif how == "handoff":
            await other.post(thread, handoff_to=agent.name)
        elif how == "join":
            await join(threads, thread, agent)
        else:
            await agent.post(thread)
        added = (await frames.until("thread_added")).thread_added
        assert added.cursor.thread == thread
        last = await other.post(thread, "last")
        while (await frames.messages(1))[-1].seq < last.seq:
            pass


async def test_it_starts_at_the_read_position_or_at_a_cursor(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b, c = await several(threads, name, *"abc")
    for thread in (a, b, c):
        await join(threads, thread, agent)
        await other.post_all(thread, *"1234")
    read = HeartbeatRequest(read_cursors=[Cursor(thread=each, after_seq=3) for each in (a, b)])
    await agent.bus.Heartbeat(read, metadata=agent.metadata)
    async with all_of(agent, Cursor(thread=b, after_seq=1), max_wait=0) as frames:
        received = await frames.rest()
    assert [each.cursor.thread for each in received[0].started.threads] == [b]
    assert by_thread(messages_in(received)) == {a: [4], b: [2, 3, 4], c: [1, 2, 3, 4]}


async def test_a_thread_that_is_left_or_deleted_ends_nothing(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b, c = await several(threads, name, *"abc")
    for thread in (a, b, c):
        await join(threads, thread, agent)
        await other.post(thread)
    async with all_of(agent) as frames:
        await caught_up(frames)
        await threads.LeaveThread(LeaveThreadRequest(thread=a), metadata=agent.metadata)
        assert (await frames.until("thread_removed")).thread_removed.thread == a
        await threads.DeleteThread(DeleteThreadRequest(thread=b))
        assert (await frames.until("thread_removed")).thread_removed.thread == b
        await other.post(a, "not mine")
        await other.post(c, "mine")
        assert [message.content for message in await frames.messages(1)] == ["mine"]


async def test_a_thread_that_is_created_again_is_another_one(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    (a,) = await several(threads, name, "a")
    await join(threads, a, agent)
    await other.post_all(a, "1", "2")
    async with all_of(agent) as frames:
        await caught_up(frames)
        epoch = await recreate(threads, a)
        await other.post(a, "not mine")
        await other.post(a, "mine", mentions=[agent.name])
        await frames.until("thread_removed")
        added = (await frames.until("thread_added")).thread_added
        assert added.cursor.epoch == epoch
        await other.post(a, "last")
        found = await frames.messages(1)
        while found[-1].content != "last":
            found += await frames.messages(1)
        assert found[-1].seq == 3


async def test_a_requested_thread_of_others_is_reported_as_removed(
    agent: Peer, threads: ThreadStub, name: str
) -> None:
    (a,) = await several(threads, name, "a")
    async with all_of(agent, Cursor(thread=a), Cursor(thread=f"{name}.none")) as frames:
        await caught_up(frames)
    removed = [
        frame.thread_removed.thread
        for frame in frames.received
        if frame.WhichOneof("frame") == "thread_removed"
    ]
    assert removed == [a, f"{name}.none"]


async def test_a_cursor_that_is_not_valid_gets_a_resync(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    (a,) = await several(threads, name, "a")
    await join(threads, a, agent)
    await other.post_all(a, "1", "2")
    async with all_of(agent, Cursor(thread=a, after_seq=9), max_wait=0) as frames:
        received = await frames.rest()
    (resync,) = [frame.resync for frame in received if frame.HasField("resync")]
    assert resync.reason == WaitResync.REASON_CURSOR_AHEAD
    assert by_thread(messages_in(received)) == {a: [1, 2]}


async def test_closed_threads_do_not_end_it(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b = await several(threads, name, *"ab")
    await join(threads, a, agent)
    await set_state(threads, a, THREAD_STATE_CLOSED)
    async with all_of(agent) as frames:
        await caught_up(frames)
        await other.post(b, "hello", mentions=[agent.name])
        while (await frames.messages(1))[-1].content != "hello":
            pass


async def test_its_ending_names_the_threads_that_moved_since_they_were_sent(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b = await several(threads, name, *"ab")
    for thread in (a, b):
        await join(threads, thread, agent)
    await other.post(a, "x")
    await agent.post(b, "own")
    await other.post(b, "x")
    await agent.post(b, "own")
    own = MessageFilter(exclude_own=True)
    async with all_of(agent, max_wait=0, filter=own) as frames:
        received = await frames.rest()
    assert received[-1].ending.reason == WaitEnding.REASON_MAX_WAIT
    resumed = {cursor.thread: cursor.after_seq for cursor in cursors_after(received)}
    assert {thread: resumed[thread] for thread in (a, b)} == {a: 1, b: 3}


async def test_it_resumes_from_its_cursors(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b = await several(threads, name, *"ab")
    for thread in (a, b):
        await join(threads, thread, agent)
    await other.post_all(a, *"123")
    async with all_of(agent, max_messages=2) as frames:
        first = await frames.rest()
    await other.post_all(b, *"45")
    cursors = [each for each in cursors_after(first) if each.thread]
    async with all_of(agent, *cursors, max_wait=0) as frames:
        second = await frames.rest()
    assert by_thread(messages_in([*first, *second])) == {a: [1, 2, 3], b: [1, 2]}


async def test_a_long_poll_ends_with_the_first_message(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b = await several(threads, name, *"ab")
    for thread in (a, b):
        await join(threads, thread, agent)
    async with all_of(agent, min_messages=1, max_wait=20) as frames:
        await caught_up(frames)
        await other.post(b, "x")
        ending = await frames.ending()
    assert ending.reason == WaitEnding.REASON_MIN_MESSAGES
    async with all_of(agent, min_messages=1, max_wait=0.2) as frames:
        ending = await frames.ending()
    assert by_thread(messages_in(frames.received)) == {b: [1]}


async def test_an_inbox_has_only_what_is_addressed(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    a, b, c = await several(threads, name, *"abc")
    await agent.post(b, "mine")
    await join(threads, c, agent)
    await other.post(a, "for all")
    await other.post(a, "mention", mentions=[agent.name])
    async with all_of(agent, filter=ADDRESSED) as frames:
        await caught_up(frames)
        await other.post_all(c, "for all")
        await other.post(b, "reply", reply_to=1)
        await other.post(c, "handoff", handoff_to=agent.name)
        await frames.messages(2)
        found = messages_in(frames.received)
    assert [message.content for message in found] == ["mention", "reply", "handoff"]


async def test_a_token_with_prefixes_waits_on_its_threads(
    agent: Peer,
    other: Peer,
    threads: ThreadStub,
    name: str,
    channel: grpc.aio.Channel,
    server: ServerProcess,
) -> None:
    a, b = await several(threads, name, "a", "b")
    for thread in (a, b):
        await join(threads, thread, agent)
        await other.post(thread, thread)
    narrow = Peer(
        agent.bus, await with_token(channel, operator(server), agent.name, thread_prefixes=[b])
    )
    async with all_of(narrow) as frames:
        await caught_up(frames)
        await other.post(a, "hidden", mentions=[agent.name])
        await other.post(b, "shown")
        await frames.messages(1)
    assert [message.content for message in messages_in(frames.received)] == [b, "shown"]


async def test_who_waits_on_all_threads_is_waiting_in_each(
    agent: Peer, other: Peer, threads: ThreadStub, name: str
) -> None:
    (a,) = await several(threads, name, "a")
    await join(threads, a, agent)
    async with all_of(agent, filter=ADDRESSED) as frames:
        await caught_up(frames)
        found = (await participants(threads, a))[agent.name]
        assert (found.waiting, found.wait_count) == (True, 1)
        done = await other.post(a, "for all", include_recipients=True)
        assert [each.waiting for each in done.recipients] == [False]
        done = await other.post(a, "x", mentions=[agent.name], include_recipients=True)
        assert [each.waiting for each in done.recipients] == [True]

    async def gone() -> bool:
        return not (await participants(threads, a))[agent.name].waiting

    await until_known(gone)


async def test_bad_requests_are_refused(agent: Peer, bus: BusStub, name: str) -> None:
    for metadata, wrong, fields in (
        ((), "all_my_threads", {}),
        (agent.metadata, "include_participants", {"include_participants": True}),
        (
            agent.metadata,
            "threads",
            {"threads": [Cursor(thread=f"{name}.{n}") for n in range(1_001)]},
        ),
    ):
        request = WaitMessagesRequest(all_my_threads=True, **fields)
        refusal = await refused(bus.WaitMessages(request, metadata=metadata))
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [wrong])
