"""WaitMessages: frames hold all messages available, split at about 1 MiB."""

import asyncio
import os

import pytest

from tests.files import file
from tests.peers import Peer
from tests.serving import BusStub, ThreadStub
from tests.wait_frames import cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import Attachment, Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

KIB, MIB = 1024, 1024 * 1024


def batches(frames: list[WaitMessagesResponse]) -> list[WaitMessagesResponse]:
    return [frame for frame in frames if frame.HasField("messages")]


async def test_available_messages_come_in_one_frame(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *map(str, range(100)))
    async with anyone.wait(thread, max_wait=0) as frames:
        assert kinds(await frames.rest()) == ["started", "messages", "caught_up", "ending"]
    assert [len(frame.messages.messages) for frame in batches(frames.received)] == [100]


async def test_frames_are_split_at_about_a_mebibyte(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *["x" * 300 * KIB] * 12)
    async with anyone.wait(thread, max_wait=0) as frames:
        await frames.rest()
    sizes = [frame.ByteSize() for frame in batches(frames.received)]
    assert all(MIB // 2 < size < MIB + 10 * KIB for size in sizes)
    assert len(sizes) == 4


async def test_a_message_larger_than_a_frame_comes_in_a_frame_of_its_own(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    large = [Attachment(raw=os.urandom(MIB + 1))]
    await anyone.post(thread, "before")
    await anyone.post(thread, "large", attachments=large)
    await anyone.post(thread, "after")
    async with anyone.wait(thread, max_wait=0) as frames:
        await frames.rest()
    contents = [[m.content for m in frame.messages.messages] for frame in batches(frames.received)]
    assert contents == [["before"], ["large"], ["after"]]


@pytest.mark.slow
async def test_no_frame_is_above_4_mib_whatever_the_messages(bus: BusStub, thread: str) -> None:
    """This client refuses frames above 4 MiB, as every client does by default."""
    anyone = Peer(bus)
    largest = [file(os.urandom(3 * MIB - KIB))]
    whole = ["x" * MIB, "x" * (MIB - 1), "y", "z" * (MIB // 2)]
    for content in whole:
        await anyone.post(thread, "small")
        await anyone.post(thread, content)
        await anyone.post(thread, "largest", attachments=largest)
    async with anyone.wait(thread) as frames:
        history = await frames.messages(12)
        await anyone.post(thread, "small")
        await anyone.post(thread, "largest", attachments=largest)
        live = await frames.messages(2)
    assert [message.seq for message in history + live] == list(range(1, 15))
    assert all(list(m.attachments) == largest for m in history + live if m.content == "largest")
    assert all(frame.ByteSize() < 4 * MIB for frame in frames.received)
    assert all(frame.messages.messages for frame in batches(frames.received))


async def test_a_finite_wait_delivers_a_history_of_many_frames_and_ends(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *["x" * 700 * KIB] * 8)
    async with anyone.wait(thread, max_wait=0) as frames:
        rest = await frames.rest()
    assert kinds(rest) == ["started", *["messages"] * 8, "caught_up", "ending"]
    assert [message.seq for message in messages_in(rest)] == list(range(1, 9))


async def test_the_cursor_of_a_batch_is_at_its_last_message(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    epoch = (await anyone.post(thread, "x" * 700 * KIB)).epoch
    await anyone.post_all(thread, *["x" * 700 * KIB] * 3)
    async with anyone.wait(thread, max_wait=0) as frames:
        await frames.rest()
    for seq, frame in enumerate(batches(frames.received), start=1):
        assert frame.messages.cursor == Cursor(thread=thread, after_seq=seq, epoch=epoch)
        assert [message.seq for message in frame.messages.messages] == [seq]
    assert cursors_after(frames.received) == [Cursor(thread=thread, after_seq=4, epoch=epoch)]


@pytest.mark.slow
async def test_a_long_history_of_small_messages_comes_whole(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread) as live:
        await live.until("caught_up")
        for first in range(0, 2_500, 500):
            await asyncio.gather(*(anyone.post(thread, str(n)) for n in range(first, first + 500)))
        assert len(await live.messages(2_500)) == 2_500
    seen = await anyone.read(thread)
    assert [message.seq for message in seen] == list(range(1, 2_501))


@pytest.mark.slow
async def test_the_long_history_of_one_thread_does_not_hold_up_the_others(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.short"))
    await anyone.post_all(thread, *["x" * MIB] * 10)
    await anyone.post(f"{thread}.short", "short")
    async with anyone.wait(thread, f"{thread}.short", max_wait=0) as frames:
        await frames.rest()
    order = [message.thread for message in messages_in(frames.received)]
    assert order.index(f"{thread}.short") == 1
    assert order.count(thread) == 10
