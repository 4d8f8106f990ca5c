"""ThreadHandle.wait against a real server."""

import asyncio
import math
import signal
from pathlib import Path

import pytest

from bus_client import (
    BusClient,
    CursorLost,
    MessageFilter,
    ThreadClosed,
    ThreadNotFound,
    ThreadState,
    Unreachable,
)
from tests.conftest import StartServer
from tests.members import contents, member, read_position
from tests.peers import Peer, recreate, set_state
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND

CLOSED = ThreadState.THREAD_STATE_CLOSED


async def test_available_messages_are_returned_at_once(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        messages = await reader.wait(timeout=60)
        assert [(m.seq, m.sender, m.content) for m in messages] == [
            (1, "anonymous", "a"),
            (2, "anonymous", "b"),
        ]


async def test_otherwise_the_wait_returns_the_first_to_come(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await Peer(bus).post(thread, "now")
        assert contents(await waiting) == ["now"]


@pytest.mark.parametrize("timeout", [0, 0.1])
async def test_a_wait_that_times_out_is_no_error(
    server: ServerProcess, thread: str, tmp_path: Path, timeout: float
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        assert await reader.wait(timeout=timeout) == []


async def test_a_wait_returns_when_the_session_is_ended(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with (
        BusClient(server.address, agent=f"{thread}-a", credentials=tmp_path / "c.json") as bus,
        BusClient(server.address, agent=f"{thread}-a", credentials=tmp_path / "c.json") as same,
        asyncio.timeout(BOUND),
    ):
        waiting = asyncio.create_task((await bus.join(thread)).wait(timeout=600))
        handle = same.thread(thread)
        while not [found async for found in handle.list_participants() if found.waiting]:
            pass
        assert not bus.session_ended
        await same.end_session()
        assert await waiting == []
        assert bus.session_ended
        assert same.session_ended
        await bus.heartbeat()
        assert not bus.session_ended


@pytest.mark.parametrize("timeout", [10.0**9, math.inf])
async def test_without_a_timeout_the_wait_has_no_end(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path, timeout: float
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=timeout))
        await Peer(bus).post(thread, "at last")
        assert contents(await waiting) == ["at last"]


async def test_no_message_comes_twice(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        for text in "abc":
            await Peer(bus).post(thread, text)
            assert contents(await reader.wait(timeout=60)) == [text]
        assert await reader.wait(timeout=0) == []


async def test_the_previous_messages_count_as_read_at_the_next_wait(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader:
        await reader.wait(timeout=60)
        assert reader.position.after_seq == 0
    # It was closed or killed before its next wait: they are delivered again.
    assert await read_position(server.address, thread, tmp_path) == 0
    async with member(server.address, thread, tmp_path) as reader:
        assert contents(await reader.wait(timeout=60)) == ["a", "b"]
        assert await reader.wait(timeout=0) == []
        assert reader.position.after_seq == 2
    assert await read_position(server.address, thread, tmp_path) == 2


async def test_a_cancelled_wait_has_read_nothing(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a")
    async with member(server.address, thread, tmp_path) as reader:
        waiting = asyncio.create_task(reader.wait(timeout=60, min_messages=2))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await reader.acknowledge()
        assert reader.position.after_seq == 0
        assert contents(await reader.wait(timeout=60)) == ["a"]


async def test_a_wait_returns_no_more_than_max_messages(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, *"abcde")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        assert contents(await reader.wait(timeout=60, max_messages=2)) == ["a", "b"]
        assert contents(await reader.wait(timeout=60, max_messages=2)) == ["c", "d"]
        assert contents(await reader.wait(timeout=60, max_messages=2)) == ["e"]


async def test_a_wait_returns_once_there_are_min_messages(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60, min_messages=3))
        await Peer(bus).post_all(thread, *"abc")
        assert contents(await waiting) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("least", [0, 3])
async def test_at_the_timeout_a_wait_returns_what_it_has(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path, least: int
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        begun = asyncio.get_running_loop().time()
        assert contents(await reader.wait(timeout=0.5, min_messages=least)) == ["a", "b"]
        assert asyncio.get_running_loop().time() - begun >= 0.5
        assert await reader.wait(timeout=0) == []


async def test_own_messages_are_skipped_by_default(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await reader.post("own")
        assert await reader.wait(timeout=0) == []
        await reader.post("own, too")
        await Peer(bus).post(thread, "another's")
        assert contents(await reader.wait(timeout=60, include_own=True)) == [
            "own, too",
            "another's",
        ]


async def test_what_was_not_seen_comes_again(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        for _ in range(2):
            assert contents(await reader.wait(timeout=0)) == ["a", "b"]
            reader.unread()
        await reader.acknowledge()
        assert contents(await reader.wait(timeout=0, max_messages=1)) == ["a"]
        await reader.acknowledge()
        reader.unread()  # too late
        assert contents(await reader.wait(timeout=0)) == ["b"]


async def test_a_wait_that_acknowledges_nothing_moves_its_own_handle_only(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        assert contents(await reader.wait(timeout=0, max_messages=1, acknowledge=False)) == ["a"]
        assert reader.position.after_seq == 1
        assert contents(await reader.wait(timeout=0, acknowledge=False)) == ["b"]
        assert await reader.wait(timeout=0, acknowledge=False) == []
    assert await read_position(server.address, thread, tmp_path) == 0


async def test_filtered_messages_are_skipped(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        wanted = MessageFilter(senders=["somebody"])
        assert await reader.wait(timeout=0, filter=wanted) == []
        assert list(wanted.senders) == ["somebody"]
        assert not wanted.exclude_own  # the caller's filter stays as it was
        await reader.acknowledge()
        assert (reader.position.after_seq, reader.passed_over) == (0, 2)
        assert await reader.wait(timeout=0, filter=wanted) == []
        assert contents(await reader.wait(timeout=0)) == ["a", "b"]  # they are unread


async def test_a_closed_thread_is_read_to_its_end_and_then_an_error(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post(thread, "the last")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await set_state(threads, thread, CLOSED)
        messages = await reader.wait(timeout=60, min_messages=10)
        assert [m.seq for m in messages] == [1, 2]  # the post, and the entry for the closing
        for timeout in (60, 0):
            with pytest.raises(ThreadClosed) as closed:
                await reader.wait(timeout=timeout)
            assert (closed.value.code, closed.value.reason) == (
                "FAILED_PRECONDITION",
                "THREAD_CLOSED",
            )
            assert reader.closed
        await set_state(threads, thread, ThreadState.THREAD_STATE_OPEN)
        assert [m.seq for m in await reader.wait(timeout=60, count_all=True)] == [3]


async def test_a_wait_ends_when_the_thread_is_closed(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await reader.set_state(CLOSED)  # its own entry, which it does not get
        with pytest.raises(ThreadClosed):
            await waiting


async def test_a_deleted_thread_is_not_found(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await reader.delete()
        with pytest.raises(ThreadNotFound):
            await waiting
        with pytest.raises(ThreadNotFound):
            await reader.wait(timeout=0)


async def test_a_recreated_thread_raises_once_and_is_then_read(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "old", "older")
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await reader.acknowledge(2)
        lost = reader.position
        epoch = await recreate(threads, thread)
        await Peer(bus).post(thread, "new")
        with pytest.raises(CursorLost) as error:
            await reader.wait(timeout=60)
        assert (error.value.reason, error.value.requested) == ("EPOCH_CHANGED", lost)
        assert (error.value.position.after_seq, error.value.position.epoch) == (0, epoch)
        assert reader.position == error.value.position
        assert contents(await reader.wait(timeout=60)) == ["new"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_wait_continues_with_the_next_server(
    start_server: StartServer, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    server = start_server()
    async with (
        member(server.address, name, tmp_path) as reader,
        member(server.address, name, tmp_path, role="writer") as writer,
        asyncio.timeout(BOUND),
    ):
        waiting = asyncio.create_task(reader.wait(timeout=60, min_messages=2))
        await writer.post("before")
        server.signal(number)
        assert server.process is not None
        await asyncio.to_thread(server.process.wait)
        server.kill()
        assert not waiting.done()
        await asyncio.to_thread(server.start)
        await writer.post("after")
        assert contents(await waiting) == ["before", "after"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_without_a_server_it_raises_an_error(
    start_server: StartServer, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    server = start_server()
    async with member(server.address, name, tmp_path) as reader, asyncio.timeout(BOUND):
        server.signal(number)
        with pytest.raises(Unreachable):
            await reader.wait(timeout=0.1)
        server.kill()
        await asyncio.to_thread(server.start)
        await reader.post("it is back")
        assert contents(await reader.wait(timeout=60, include_own=True)) == ["it is back"]


async def test_one_handle_allows_one_wait_at_a_time(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=thread):
            await reader.wait(timeout=0)
        with pytest.raises(RuntimeError, match="follow"):
            await anext(reader.follow())
        await Peer(bus).post(thread, "still there")
        assert contents(await waiting) == ["still there"]


@pytest.mark.slow
async def test_repeated_waits_keep_one_open_at_most(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    async with (
        member(server.address, name, tmp_path) as reader,
        BusClient(server.address) as anyone,
        asyncio.timeout(BOUND),
    ):
        for n in range(100):
            await anyone.thread(name).post(str(n))
            assert contents(await reader.wait(timeout=60)) == [str(n)]
            assert await reader.wait(timeout=0) == []
