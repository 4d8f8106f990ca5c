"""WaitMessages: keepalive frames show that an idle wait is alive, and its position."""

import asyncio

import pytest

from tests.peers import Peer
from tests.refusals import refused
from tests.serving import BusStub
from tests.wait_frames import seconds
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest
from threadbus.v1.message_pb2 import PRIORITY_HIGH, Cursor, MessageFilter

IMPORTANT = MessageFilter(min_priority=PRIORITY_HIGH)


@pytest.mark.parametrize(
    ("wish", "granted"),
    [(None, 45), (0, 1), (0.25, 1), (1, 1), (1.5, 1.5), (300, 300), (300.001, 300), (1e9, 300)],
)
async def test_a_keepalive_interval_may_be_one_second_to_five_minutes(
    bus: BusStub, thread: str, wish: float | None, granted: float
) -> None:
    async with Peer(bus).wait(thread, keepalive=wish) as frames:
        started = (await frames.next()).started
    assert started.keepalive_interval == seconds(granted)


async def test_a_negative_keepalive_interval_is_refused(bus: BusStub, thread: str) -> None:
    request = WaitMessagesRequest(threads=[Cursor(thread=thread)], keepalive_interval=seconds(-1))
    refusal = await refused(bus.WaitMessages(request))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["keepalive_interval"])


@pytest.mark.slow
async def test_a_keepalive_is_sent_when_there_is_no_other_frame(bus: BusStub, thread: str) -> None:
    async with Peer(bus).wait(thread, keepalive=1) as frames:
        await frames.until("caught_up")
        for _ in range(2):
            assert (await frames.next()).HasField("keepalive")
            assert list(frames.received[-1].keepalive.threads) == []


@pytest.mark.slow
async def test_a_keepalive_carries_cursors_moved_past_filtered_messages(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    epoch = (await anyone.post(thread)).epoch
    async with anyone.wait(thread, filter=IMPORTANT, keepalive=1) as frames:
        caught_up = (await frames.until("caught_up")).caught_up
        assert caught_up.cursor == Cursor(thread=thread, after_seq=1, epoch=epoch, hidden_seq=1)
        await anyone.post_all(thread, *"abc")
        [moved] = (await frames.next()).keepalive.threads
        assert moved.cursor == Cursor(thread=thread, after_seq=4, epoch=epoch, hidden_seq=1)
        assert moved.head_seq == 4
        assert list((await frames.next()).keepalive.threads) == []
        await anyone.post(thread, "wanted", priority=PRIORITY_HIGH)
        assert [message.seq for message in await frames.messages(1)] == [5]


@pytest.mark.slow
async def test_a_hot_thread_without_a_match_does_not_suppress_the_keepalive(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread, filter=IMPORTANT, keepalive=1) as frames:
        await frames.until("caught_up")
        coming = asyncio.create_task(frames.next())
        while not coming.done():
            head = (await anyone.post(thread)).seq
        [moved] = (await coming).keepalive.threads
    assert 0 < moved.cursor.after_seq <= moved.head_seq <= head
