"""WaitMessages: cursors that cannot be resumed get a resync frame, never a silent wait."""

import grpc
import pytest

from tests.conftest import StartServer
from tests.peers import Peer, recreate
from tests.serving import BusStub, ThreadStub
from tests.wait_frames import Frames, cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitResync
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, ThreadPosition
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

AHEAD, CHANGED = WaitResync.REASON_CURSOR_AHEAD, WaitResync.REASON_EPOCH_CHANGED


async def resync_of(frames: Frames, requested: Cursor) -> WaitResync:
    """Returns the resync that follows `started`, which still names the requested cursor."""
    started = (await frames.next()).started
    assert [position.cursor for position in started.threads] == [requested]
    resync = (await frames.next()).resync
    assert resync.requested == requested
    return resync


@pytest.mark.parametrize("after_seq", [4, 5, 2**40, 2**63 - 1])
@pytest.mark.parametrize("with_epoch", [True, False])
async def test_a_cursor_past_the_head_resumes_at_the_first_message(
    bus: BusStub, thread: str, after_seq: int, with_epoch: bool
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"ab")
    epoch = (await anyone.post(thread, "c")).epoch
    ahead = Cursor(thread=thread, after_seq=after_seq, epoch=epoch if with_epoch else "")
    async with anyone.wait(ahead, max_wait=0) as frames:
        resync = await resync_of(frames, ahead)
        await frames.rest()
    assert resync.reason == AHEAD
    assert resync.position == ThreadPosition(
        cursor=Cursor(thread=thread, epoch=epoch), head_seq=3, first_seq=1, state=THREAD_STATE_OPEN
    )
    assert [message.content for message in messages_in(frames.received)] == ["a", "b", "c"]
    assert kinds(frames.received) == ["started", "resync", "messages", "caught_up", "ending"]


async def test_a_cursor_past_the_head_of_an_empty_thread_gets_a_resync(
    bus: BusStub, thread: str
) -> None:
    ahead = Cursor(thread=thread, after_seq=1)
    anyone = Peer(bus)
    async with anyone.wait(ahead) as frames:
        assert (await resync_of(frames, ahead)).reason == AHEAD
        assert (await frames.next()).HasField("caught_up")
        await anyone.post(thread, "not missed")
        assert [message.content for message in await frames.messages(1)] == ["not missed"]


@pytest.mark.parametrize("after_seq", [0, 1, 2, 3])
async def test_a_cursor_of_a_deleted_thread_resumes_at_the_first_of_the_new_one(
    bus: BusStub, threads: ThreadStub, thread: str, after_seq: int
) -> None:
    anyone = Peer(bus)
    old_epoch = (await anyone.post(thread, "old")).epoch
    await anyone.post(thread, "old")
    new_epoch = await recreate(threads, thread)
    assert new_epoch != old_epoch
    await anyone.post_all(thread, "new 1", "new 2")
    old = Cursor(thread=thread, after_seq=after_seq, epoch=old_epoch)
    async with anyone.wait(old, max_wait=0) as frames:
        resync = await resync_of(frames, old)
        await frames.rest()
    assert resync.reason == CHANGED
    assert resync.position.cursor == Cursor(thread=thread, epoch=new_epoch)
    assert [message.content for message in messages_in(frames.received)] == ["new 1", "new 2"]


async def test_a_cursor_of_a_deleted_thread_gets_a_resync_although_the_new_one_is_empty(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    old = Cursor(thread=thread, after_seq=1, epoch=(await anyone.post(thread)).epoch)
    await recreate(threads, thread)
    async with anyone.wait(old) as frames:
        assert (await resync_of(frames, old)).reason == CHANGED
        await anyone.post(thread, "new")
        assert [message.content for message in await frames.messages(1)] == ["new"]


async def test_a_cursor_without_an_epoch_is_not_checked_for_one(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, "old", "old")
    await recreate(threads, thread)
    await anyone.post_all(thread, "new 1", "new 2")
    seen = await anyone.read(Cursor(thread=thread, after_seq=1))
    assert [message.content for message in seen] == ["new 2"]


async def test_a_disconnect_before_the_resync_frame_cannot_hide_it(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    old = Cursor(thread=thread, after_seq=1, epoch=(await anyone.post(thread)).epoch)
    await recreate(threads, thread)
    for _ in range(3):
        async with anyone.wait(old) as frames:
            await frames.next()
        [resumed] = cursors_after(frames.received)
        assert resumed == old
    async with anyone.wait(resumed) as frames:
        assert (await resync_of(frames, old)).reason == CHANGED


async def test_a_wait_from_the_position_of_a_resync_gets_no_other(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    old = Cursor(thread=thread, after_seq=7, epoch=(await anyone.post(thread)).epoch)
    await recreate(threads, thread)
    await anyone.post_all(thread, *"ab")
    async with anyone.wait(old) as frames:
        await resync_of(frames, old)
    async with anyone.wait(*cursors_after(frames.received), max_wait=0) as frames:
        assert "resync" not in kinds(await frames.rest())
    assert [message.content for message in messages_in(frames.received)] == ["a", "b"]


async def test_only_threads_with_an_invalid_cursor_are_resynced(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    names = [f"{thread}.{n}" for n in range(3)]
    for name in names:
        await threads.CreateThread(CreateThreadRequest(thread=name))
        await anyone.post_all(name, *"ab")
    one, lost, other = names
    cursors: list[Cursor | str] = [
        Cursor(thread=one, after_seq=1),
        Cursor(thread=lost, after_seq=9),
        other,
    ]
    async with anyone.wait(*cursors, max_wait=0) as frames:
        await frames.rest()
    resyncs = [frame.resync for frame in frames.received if frame.HasField("resync")]
    assert [(resync.position.cursor.thread, resync.reason) for resync in resyncs] == [(lost, AHEAD)]
    seen = [(message.thread, message.seq) for message in messages_in(frames.received)]
    assert sorted(seen) == [(one, 2), (lost, 1), (lost, 2), (other, 1), (other, 2)]


async def test_a_disconnect_between_two_resync_frames_hides_neither(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    names = [thread, f"{thread}.second"]
    await threads.CreateThread(CreateThreadRequest(thread=names[1]))
    lost = [Cursor(thread=name, after_seq=5) for name in names]
    async with Peer(bus).wait(*lost) as frames:
        await frames.until("resync")
    resumed = cursors_after(frames.received)
    assert resumed[1] == lost[1]
    async with Peer(bus).wait(*resumed, max_wait=0) as frames:
        await frames.rest()
    resyncs = [frame.resync for frame in frames.received if frame.HasField("resync")]
    assert [resync.requested for resync in resyncs] == [lost[1]]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_cursor_stays_valid_across_a_restart(start_server: StartServer, how: str) -> None:
    server = start_server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await ThreadServiceStub(channel).CreateThread(CreateThreadRequest(thread="t"))
        anyone = Peer(BusServiceStub(channel))
        await anyone.post_all("t", *"abc")
        async with anyone.wait("t", max_messages=2) as frames:
            await frames.rest()
    getattr(server, how)()
    server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        anyone = Peer(BusServiceStub(channel))
        async with anyone.wait(*cursors_after(frames.received)) as resumed:
            await resumed.until("caught_up")
            await anyone.post("t", "d")
            await resumed.messages(1)
    assert kinds(resumed.received) == ["started", "messages", "caught_up", "messages"]
    assert [message.content for message in messages_in(resumed.received)] == ["c", "d"]


@pytest.mark.sqlite
@pytest.mark.slow
async def test_a_cursor_of_an_old_database_is_resynced_by_a_new_one(
    start_server: StartServer,
) -> None:
    server = start_server()
    cursor = Cursor()
    for content in ("old", "new"):
        async with grpc.aio.insecure_channel(server.address) as channel:
            await ThreadServiceStub(channel).CreateThread(CreateThreadRequest(thread="t"))
            anyone = Peer(BusServiceStub(channel))
            await anyone.post("t", content)
            async with anyone.wait(cursor if cursor.thread else "t", max_wait=0) as frames:
                if cursor.thread:
                    assert (await resync_of(frames, cursor)).reason == CHANGED
                await frames.rest()
            assert [message.content for message in messages_in(frames.received)] == [content]
            [cursor] = cursors_after(frames.received)
        server.stop()
        for file in server.db.parent.glob(f"{server.db.name}*"):
            file.unlink()
        server.start()
