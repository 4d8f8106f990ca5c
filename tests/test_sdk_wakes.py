"""Whom a post wakes, through the SDK: post(), wait() and follow()."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from bus_client import BusClient, InvalidArgument, Post, Wake
from tests.members import contents, member, read_position, take
from tests.peers import Peer
from tests.script import asked_from, batch, cursor, ending, scripted, started
from tests.serving import BusStub, ServerProcess
from tests.test_sdk_wait_breaks import BROKEN, MIN, TIME, asked, waiting_on
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_ALL, WAKE_NOBODY


async def test_posts_say_whom_they_wake(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as handle, asyncio.timeout(BOUND):
        await handle.post("a")
        await handle.post("b", wakes=Wake.WAKE_NOBODY)
        posts: list[str | Post] = [Post("c", wakes=Wake.WAKE_ADDRESSED), "d"]
        async with aclosing(handle.post_many(posts)) as results:
            assert [result.seq async for result in results] == [3, 4]  # type: ignore[union-attr]
        with pytest.raises(InvalidArgument) as refusal:
            await handle.post("e", wakes=Wake.WAKE_PEOPLE)
        assert refusal.value.field_violations[0][0] == "wakes"
    wakes = [message.wakes for message in await Peer(bus).read(thread)]
    assert wakes == [WAKE_ALL, WAKE_NOBODY, WAKE_ADDRESSED, WAKE_ALL]


async def test_a_wait_returns_quiet_messages_with_the_next_one(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await Peer(bus).post(thread, "1", wakes=WAKE_NOBODY)
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await Peer(bus).post(thread, "2", wakes=WAKE_ADDRESSED)
        await Peer(bus).post(thread, "3")
        assert contents(await waiting) == ["1", "2", "3"]


async def test_a_wait_that_only_quiet_messages_came_to_returns_them_later(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await Peer(bus).post(thread, "0")
        assert contents(await reader.wait(timeout=60)) == ["0"]
        await Peer(bus).post(thread, "1", wakes=WAKE_NOBODY)
        await Peer(bus).post(thread, "2", wakes=WAKE_ADDRESSED, reply_to=1)  # to anonymous
        for timeout in (0, 0.1):
            assert await reader.wait(timeout=timeout) == []
        await reader.acknowledge()
        assert reader.position.after_seq == 1
        assert contents(await reader.wait(timeout=0, count_all=True)) == ["1", "2"]
    assert await read_position(server.address, thread, tmp_path) == 1
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await Peer(bus).post(thread, "3")
        assert contents(await reader.wait(timeout=60)) == ["1", "2", "3"]


async def test_a_wait_returns_what_came_until_max_messages(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        for content in "123":
            await Peer(bus).post(thread, content, wakes=WAKE_NOBODY)
        assert contents(await reader.wait(timeout=60, max_messages=2)) == ["1", "2"]
        assert await reader.wait(timeout=0, max_messages=2) == []


async def test_a_reply_to_the_agent_wakes_it(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await reader.post("question")
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await Peer(bus).post(thread, "answer", wakes=WAKE_ADDRESSED, reply_to=1)
        assert contents(await waiting) == ["answer"]


async def test_follow_yields_quiet_messages_as_they_come(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with (
        member(server.address, thread, tmp_path) as reader,
        aclosing(reader.follow()) as messages,
    ):
        await Peer(bus).post(thread, "1", wakes=WAKE_NOBODY)
        assert await take(messages, 1) == ["1"]
        await Peer(bus).post(thread, "2")
        assert await take(messages, 1) == ["2"]


async def test_quiet_messages_before_a_disconnect_do_not_end_a_wait() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1, wakes=WAKE_NOBODY), BROKEN)
        script.answer("WaitMessages", started(), batch(2), ending(MIN, upto=2))
        assert contents(await handle.wait(timeout=60)) == ["1", "2"]
        assert asked(script) == [(0, 1, 0), (1, 1, 0)]


async def test_quiet_messages_before_a_disconnect_are_not_lost_at_the_timeout() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(3, wakes=WAKE_NOBODY), BROKEN)
        script.answer("WaitMessages", started(), ending(TIME, upto=7))
        assert await handle.wait(timeout=60) == []
        script.answer("WaitMessages", started(), batch(3, 4), ending(MIN, upto=4))
        assert contents(await handle.wait(timeout=60)) == ["3", "4"]
        assert asked_from(script) == [0, 3, 2]  # from before the message
        await handle.acknowledge()
        assert handle.position == cursor(4)


async def test_a_wait_can_count_everything() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer("WaitMessages", started(), batch(1, wakes=WAKE_NOBODY), ending(MIN, upto=1))
        assert contents(await handle.wait(timeout=60, count_all=True)) == ["1"]
        (request,) = script.asked(WaitMessagesRequest)
        assert request.count_all


async def test_whether_everything_counts_is_true_or_false(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as bus:
        with pytest.raises(InvalidArgument, match="count_all"):
            await bus.thread(thread).wait(timeout=0, count_all="yes")  # type: ignore[arg-type]
