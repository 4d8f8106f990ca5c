"""WaitMessages: the ends that a client can ask for, and where exactly they fall."""

import pytest

from tests.peers import Peer
from tests.serving import BusStub, ThreadStub
from tests.wait_frames import by_thread, cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import PRIORITY_HIGH, Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

MAX_MESSAGES, MIN_MESSAGES = WaitEnding.REASON_MAX_MESSAGES, WaitEnding.REASON_MIN_MESSAGES


@pytest.fixture
async def second(threads: ThreadStub, thread: str) -> str:
    """A second fresh thread."""
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.second"))
    return f"{thread}.second"


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_max_messages_is_exact_and_the_cursor_is_at_the_last_one(
    bus: BusStub, thread: str, count: int
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abcde")
    async with anyone.wait(thread, max_messages=count) as frames:
        ending = (await frames.rest())[-1].ending
    assert [message.seq for message in messages_in(frames.received)] == list(range(1, count + 1))
    assert ending.reason == MAX_MESSAGES
    assert [position.cursor.after_seq for position in ending.threads] == [count]


async def test_each_next_wait_returns_exactly_the_next_messages(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *map(str, range(10)))
    cursor, seen = Cursor(thread=thread), []
    for _ in range(4):
        async with anyone.wait(cursor, max_messages=3, max_wait=0) as frames:
            seen += messages_in(await frames.rest())
        [cursor] = cursors_after(frames.received)
    assert [message.seq for message in seen] == list(range(1, 11))


async def test_max_messages_counts_live_messages(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, "a")
    async with anyone.wait(thread, max_messages=3) as frames:
        await frames.until("caught_up")
        await anyone.post_all(thread, *"bcd")
        ending = await frames.ending()
    assert ending.reason == MAX_MESSAGES
    assert [message.content for message in messages_in(frames.received)] == ["a", "b", "c"]
    assert ending.threads[0].cursor.after_seq == 3


async def test_max_messages_counts_over_all_threads(bus: BusStub, thread: str, second: str) -> None:
    anyone = Peer(bus)
    for name in (thread, second):
        await anyone.post_all(name, *"abc")
    cursors, seen = [Cursor(thread=thread), Cursor(thread=second)], []
    for expected in (4, 2):
        async with anyone.wait(*cursors, max_messages=4, max_wait=0) as frames:
            ending = await frames.ending()
        assert len(messages_in(frames.received)) == expected
        seen += messages_in(frames.received)
        cursors = [position.cursor for position in ending.threads]
    assert by_thread(seen) == {thread: [1, 2, 3], second: [1, 2, 3]}


async def test_max_messages_counts_after_filtering_and_skips_nothing_wanted(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    for n in range(12):
        await anyone.post(thread, priority=PRIORITY_HIGH if n % 3 == 2 else 0)
    wanted = MessageFilter(min_priority=PRIORITY_HIGH)
    cursor, seen = Cursor(thread=thread), []
    for expected in (2, 2, 0):
        async with anyone.wait(cursor, filter=wanted, max_messages=2, max_wait=0) as frames:
            ending = await frames.ending()
        assert len(messages_in(frames.received)) == expected
        seen += messages_in(frames.received)
        cursor = ending.threads[0].cursor
    assert [message.seq for message in seen] == [3, 6, 9, 12]


async def test_the_ending_carries_the_cursor_of_every_thread(
    bus: BusStub, thread: str, second: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    async with anyone.wait(second, thread, max_wait=0) as frames:
        ending = await frames.ending()
    assert [(p.cursor.thread, p.cursor.after_seq, p.head_seq) for p in ending.threads] == [
        (second, 0, 0),
        (thread, 2, 2),
    ]
    assert not ending.HasField("retry_delay")


async def test_a_long_poll_returns_available_messages_at_once(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(thread, min_messages=1, max_wait=600) as frames:
        ending = await frames.ending()
    assert ending.reason == MIN_MESSAGES
    assert [message.content for message in messages_in(frames.received)] == ["a", "b", "c"]
    assert kinds(frames.received) == ["started", "messages", "caught_up", "ending"]


async def test_a_long_poll_otherwise_returns_the_first_to_come(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    async with anyone.wait(
        Cursor(thread=thread, after_seq=3), min_messages=1, max_wait=600
    ) as frames:
        await frames.until("caught_up")
        await anyone.post(thread, "d")
        ending = await frames.ending()
    assert ending.reason == MIN_MESSAGES
    assert [message.content for message in messages_in(frames.received)] == ["d"]
    assert ending.threads[0].cursor.after_seq == 4


async def test_an_empty_long_poll_is_no_error(bus: BusStub, thread: str) -> None:
    async with Peer(bus).wait(thread, min_messages=1, max_wait=0.05) as frames:
        ending = await frames.ending()
    assert ending.reason == WaitEnding.REASON_MAX_WAIT
    assert messages_in(frames.received) == []


async def test_a_long_poll_on_several_threads_ends_when_all_are_caught_up(
    bus: BusStub, thread: str, second: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *["x" * 700_000] * 3)
    await anyone.post_all(second, *["x" * 700_000] * 4)
    async with anyone.wait(thread, second, min_messages=1, max_wait=600) as frames:
        ending = await frames.ending()
    assert ending.reason == MIN_MESSAGES
    assert by_thread(messages_in(frames.received)) == {thread: [1, 2, 3], second: [1, 2, 3, 4]}
    assert kinds(frames.received).count("caught_up") == 2


async def test_min_messages_waits_until_there_are_that_many(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    async with anyone.wait(thread, min_messages=4) as frames:
        await frames.until("caught_up")
        await anyone.post(thread, "c")
        assert [message.content for message in await frames.messages(1)] == ["c"]
        await anyone.post(thread, "d")
        ending = await frames.ending()
    assert ending.reason == MIN_MESSAGES
    assert [message.seq for message in messages_in(frames.received)] == [1, 2, 3, 4]


async def test_min_messages_counts_after_filtering(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    wanted = MessageFilter(min_priority=PRIORITY_HIGH)
    async with anyone.wait(thread, filter=wanted, min_messages=1) as frames:
        await frames.until("caught_up")
        await anyone.post(thread, "c")
        await anyone.post(thread, "d", priority=PRIORITY_HIGH)
        ending = await frames.ending()
    assert ending.reason == MIN_MESSAGES
    assert [message.content for message in messages_in(frames.received)] == ["d"]


async def test_whichever_end_is_reached_first_ends_the_wait(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    for most, least, reason in ((2, 3, MAX_MESSAGES), (4, 3, MIN_MESSAGES)):
        async with anyone.wait(thread, max_messages=most, min_messages=least) as frames:
            assert (await frames.ending()).reason == reason
        assert len(messages_in(frames.received)) == min(most, least)
