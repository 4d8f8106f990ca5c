"""WaitMessages: history, then live messages, in one call."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.peers import Peer, registered
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import by_thread, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    ListThreadsRequest,
)

MAX_WAIT_THREADS = 1_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, without the fallback: here only the commit itself wakes a wait."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--fallback-interval", "0") as running:
        yield running


async def several(threads: ThreadStub, thread: str, count: int) -> list[str]:
    """Fresh threads."""
    names = [f"{thread}.{n}" for n in range(count)]
    await asyncio.gather(*(threads.CreateThread(CreateThreadRequest(thread=n)) for n in names))
    return names


async def epoch_of(threads: ThreadStub, thread: str) -> str:
    return (await threads.GetThread(GetThreadRequest(thread=thread))).thread.epoch


async def test_a_finite_wait_returns_stored_messages_and_ends_ok(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(thread, max_wait=0) as frames:
        await frames.rest()
    assert kinds(frames.received) == ["started", "messages", "caught_up", "ending"]
    assert [message.content for message in messages_in(frames.received)] == ["a", "b", "c"]
    assert frames.received[-1].ending.reason == WaitEnding.REASON_MAX_WAIT


async def test_started_comes_first_and_at_once(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    epoch = await epoch_of(threads, thread)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(Cursor(thread=thread, after_seq=2)) as frames:
        started = (await frames.next()).started
    position = ThreadPosition(
        cursor=Cursor(thread=thread, after_seq=2, epoch=epoch),
        head_seq=3,
        first_seq=1,
        state=THREAD_STATE_OPEN,
    )
    assert list(started.threads) == [position]


async def test_a_wait_on_an_empty_thread_is_caught_up_at_once(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    epoch = await epoch_of(threads, thread)
    async with Peer(bus).wait(thread) as frames:
        started, caught_up = (await frames.next()).started, (await frames.next()).caught_up
    position = ThreadPosition(
        cursor=Cursor(thread=thread, epoch=epoch), first_seq=1, state=THREAD_STATE_OPEN
    )
    assert (list(started.threads), caught_up) == ([position], position)


async def test_a_wait_from_the_head_is_caught_up_at_once(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(Cursor(thread=thread, after_seq=3)) as frames:
        assert kinds([await frames.next(), await frames.next()]) == ["started", "caught_up"]
        await anyone.post(thread, "d")
        assert [message.seq for message in await frames.messages(1)] == [4]


@pytest.mark.parametrize("after_seq", range(6))
async def test_history_starts_after_the_cursor(bus: BusStub, thread: str, after_seq: int) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abcde")
    read = await anyone.read(Cursor(thread=thread, after_seq=after_seq))
    assert [message.seq for message in read] == list(range(after_seq + 1, 6))


async def test_history_and_live_messages_are_one_stream(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(thread) as frames:
        await frames.until("caught_up")
        assert len(messages_in(frames.received)) == 3
        for seq in range(4, 10):
            assert (await anyone.post(thread)).seq == seq
            [live] = (await frames.next()).messages.messages
            assert live.seq == seq


async def test_waits_opened_while_others_post_miss_nothing(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    posts = [anyone.post(thread, str(n)) for n in range(200)]
    async with contextlib.AsyncExitStack() as stack:
        waits = []
        for post in posts[::20]:
            await post
            waits.append(await stack.enter_async_context(anyone.wait(thread)))
        for frames in waits:
            seen = await frames.messages(203)
            assert [message.seq for message in seen] == list(range(1, 204))


async def test_caught_up_comes_once_at_the_head_that_started_named(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    posts = [anyone.post(thread, str(n)) for n in range(100)]
    await posts[20]
    async with anyone.wait(thread) as frames:
        await frames.messages(100)
        await anyone.post(thread, "the last")
        await frames.messages(1)
    head = frames.received[0].started.threads[0].head_seq
    assert head > 0
    assert kinds(frames.received).count("caught_up") == 1
    at = kinds(frames.received).index("caught_up")
    before, last = frames.received[: at - 1], frames.received[at - 1]
    assert frames.received[at].caught_up.cursor == last.messages.cursor
    assert last.messages.cursor.after_seq >= head
    assert all(message.seq < head for message in messages_in(before))


async def test_two_waits_of_one_agent_both_get_every_message(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.post_all(thread, *"ab")
    async with coder.wait(thread) as one, coder.wait(thread) as other:
        await one.until("caught_up")
        await coder.post_all(thread, *"cd")
        for frames in (one, other):
            while len(messages_in(frames.received)) < 4:
                await frames.next()
            assert [message.content for message in messages_in(frames.received)] == [*"abcd"]


async def test_waiting_consumes_nothing(bus: BusStub, agents: AgentStub, thread: str) -> None:
    coder = await registered(agents, bus, "coder")
    await Peer(bus).post_all(thread, *"abc")
    assert await coder.read(thread) == await coder.read(thread) == await Peer(bus).read(thread)


async def test_waiting_makes_no_participant(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.read(thread)
    listed = await threads.ListThreads(ListThreadsRequest(participant=coder.name))
    assert list(listed.threads) == []


async def test_one_wait_can_follow_several_threads(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    names = await several(threads, thread, 5)
    await asyncio.gather(*(anyone.post_all(name, *"abc"[: n % 4]) for n, name in enumerate(names)))
    async with anyone.wait(*reversed(names)) as frames:
        for _ in names:
            await frames.until("caught_up")
        started = frames.received[0].started
        assert [position.cursor.thread for position in started.threads] == names[::-1]
        assert [position.head_seq for position in started.threads] == [0, 3, 2, 1, 0]
        for name in names:
            await anyone.post(name, "live")
        await frames.messages(5)
    seen = by_thread(messages_in(frames.received))
    assert seen == {name: list(range(1, n % 4 + 2)) for n, name in enumerate(names)}
    caught_up = [
        frame.caught_up.cursor.thread for frame in frames.received if frame.HasField("caught_up")
    ]
    assert sorted(caught_up) == names


async def test_order_holds_within_each_thread(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    names = await several(threads, thread, 3)
    async with anyone.wait(*names) as frames:
        await frames.next()
        posting = asyncio.gather(*(anyone.post(name) for _ in range(60) for name in names))
        seen = by_thread(await frames.messages(180))
        await posting
    assert seen == {name: list(range(1, 61)) for name in names}


@pytest.mark.slow
async def test_a_wait_takes_a_thousand_threads_and_no_more(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    names = await several(threads, thread, MAX_WAIT_THREADS)
    await anyone.post(names[0])
    async with anyone.wait(*names) as frames:
        for _ in names:
            await frames.until("caught_up")
        for n in (0, 500, 999):
            await anyone.post(names[n], "live")
            [live] = await frames.messages(1)
            assert (live.thread, live.content) == (names[n], "live")
    started = frames.received[0].started
    assert [position.cursor.thread for position in started.threads] == names
    cursors = [Cursor(thread=name) for name in [*names, thread]]
    refusal = await refused(bus.WaitMessages(WaitMessagesRequest(threads=cursors)))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["threads"])
