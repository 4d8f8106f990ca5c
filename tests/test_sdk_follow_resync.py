"""ThreadHandle.follow when its position is no longer in the thread's history."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from bus_client import BusClient, Cursor, CursorLost
from tests.conftest import StartServer
from tests.members import contents, member, take
from tests.peers import Peer, recreate
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND


async def test_a_recreated_thread_raises_the_position_to_continue_at(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "old", "older", "oldest")
    async with member(server.address, thread, tmp_path) as reader:
        await reader.acknowledge(2)
        lost = reader.position
        epoch = await recreate(threads, thread)
        await Peer(bus).post_all(thread, "new", "newer", "newest")
        with pytest.raises(CursorLost) as error:
            await take(reader.follow(), 1)
        assert (error.value.reason, error.value.requested) == ("EPOCH_CHANGED", lost)
        assert error.value.position == Cursor(thread=thread, after_seq=0, epoch=epoch)
        assert (error.value.code, error.value.retryable) == ("OUT_OF_RANGE", False)
        assert thread in str(error.value)
        assert error.value.hint
        # The next follow() continues from there.
        assert reader.position == error.value.position
        assert await take(reader.follow(), 3) == ["new", "newer", "newest"]


async def test_with_continue_a_follow_goes_on_with_the_new_thread(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "old", "older")
    async with member(server.address, thread, tmp_path) as reader:
        await reader.acknowledge(2)
        epoch = await recreate(threads, thread)
        await Peer(bus).post_all(thread, "new", "newer", "newest")
        messages = reader.follow(on_resync="continue")
        assert await take(messages, 3) == ["new", "newer", "newest"]
        assert reader.position == Cursor(thread=thread, after_seq=2, epoch=epoch)
        await Peer(bus).post(thread, "live")
        assert await take(messages, 1) == ["live"]


async def test_with_continue_a_wait_returns_what_the_new_thread_has(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "old", "older")
    async with member(server.address, thread, tmp_path) as reader:
        await reader.acknowledge(2)
        epoch = await recreate(threads, thread)
        await Peer(bus).post_all(thread, "new", "newer")
        found = await reader.wait(timeout=0, on_resync="continue")
        assert contents(found) == ["new", "newer"]
        assert reader.position == Cursor(thread=thread, after_seq=0, epoch=epoch)
        assert await reader.wait(timeout=0) == []
        assert reader.position == Cursor(thread=thread, after_seq=2, epoch=epoch)


async def test_a_position_past_the_head_is_lost_too(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader:
        reader.position = Cursor(thread=thread, after_seq=9)
        with pytest.raises(CursorLost) as error:
            await take(reader.follow(), 1)
        assert (error.value.reason, error.value.requested.after_seq) == ("CURSOR_AHEAD", 9)
        assert error.value.position.after_seq == reader.position.after_seq == 0
        assert await take(reader.follow(), 2) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("on_resync", ["raise", "continue"])
async def test_a_follower_detects_that_the_store_was_recreated(
    start_server: StartServer, tmp_path: Path, name: str, on_resync: Literal["raise", "continue"]
) -> None:
    new = start_server(db=tmp_path / "new.db")
    async with BusClient(new.address) as client:
        await (await client.join(name)).post("new")
    assert new.stop() == 0
    server = start_server(db=tmp_path / "old.db")
    async with BusClient(server.address) as client, asyncio.timeout(BOUND):
        handle = await client.join(name)
        messages = handle.follow(on_resync=on_resync)
        await handle.post("old")
        assert await take(messages, 1) == ["old"]
        server.kill()
        server.db = new.db
        await asyncio.to_thread(server.start)
        if on_resync == "raise":
            with pytest.raises(CursorLost) as error:
                await anext(messages)
            assert error.value.reason == "EPOCH_CHANGED"
            messages = handle.follow()
        assert await take(messages, 1) == ["new"]
