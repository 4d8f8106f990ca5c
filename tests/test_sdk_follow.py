"""ThreadHandle.follow against a real server that stays up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_client import (
    BusClient,
    InvalidArgument,
    Message,
    MessageFilter,
    MessageKind,
    ThreadNotFound,
    ThreadState,
)
from tests.members import contents, member, read_position, take
from tests.peers import Peer, set_state
from tests.polling import until
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND


async def rest(messages: AsyncIterator[Message]) -> list[str]:
    """Returns the contents of all messages until the end."""
    async with asyncio.timeout(BOUND):
        return [message.content async for message in messages]


async def test_history_comes_first_and_then_live_messages(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with (
        member(server.address, thread, tmp_path) as reader,
        contextlib.aclosing(reader.follow()) as messages,
    ):
        assert await take(messages, 3) == ["a", "b", "c"]
        for text in "def":
            coming = asyncio.create_task(take(messages, 1))
            await Peer(bus).post(thread, text)
            assert await coming == [text]


async def test_a_long_history_comes_whole_and_in_order(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    posted = [f"{n} " + "x" * 300_000 for n in range(20)]  # several frames
    await Peer(bus).post_all(thread, *posted)
    async with member(server.address, thread, tmp_path) as reader:
        assert await take(reader.follow(), 20) == posted


@pytest.mark.parametrize("include_own", [False, True])
async def test_own_messages_are_skipped_by_default(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path, include_own: bool
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        await reader.post("own, before")
        await Peer(bus).post(thread, "another's")
        messages = reader.follow(include_own=include_own)
        expected = ["own, before", "another's"] if include_own else ["another's"]
        assert await take(messages, len(expected)) == expected
        await reader.post("own, live")
        await Peer(bus).post(thread, "another's, live")
        expected = ["own, live", "another's, live"] if include_own else ["another's, live"]
        assert await take(messages, len(expected)) == expected


async def test_exclude_own_skips_nothing_for_anonymous(server: ServerProcess, thread: str) -> None:
    async with BusClient(server.address) as client:
        handle = await client.join(thread)
        await handle.post("by anonymous")
        assert await take(handle.follow(), 1) == ["by anonymous"]


async def test_only_matching_messages_come(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with (
        member(server.address, thread, tmp_path) as reader,
        member(server.address, thread, tmp_path, role="writer") as writer,
    ):
        messages = reader.follow(filter=MessageFilter(addressed_to_me=True))
        coming = asyncio.create_task(take(messages, 2))
        await writer.post("to nobody")
        await writer.post("to you", mentions=[f"{thread}-reader"])
        await Peer(bus).post(thread, "to nobody, too")
        await writer.post("to you, too", mentions=[f"{thread}-reader"])
        assert await coming == ["to you", "to you, too"]


async def test_a_filter_that_anonymous_may_not_use_is_refused(
    server: ServerProcess, thread: str
) -> None:
    async with BusClient(server.address) as client:
        messages = (await client.join(thread)).follow(filter=MessageFilter(addressed_to_me=True))
        with pytest.raises(InvalidArgument) as refused:
            await anext(messages)
        assert refused.value.field_violations[0][0] == "filter.addressed_to_me"


async def test_a_message_counts_as_read_when_the_next_is_requested(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with member(server.address, thread, tmp_path) as reader:
        async with contextlib.aclosing(reader.follow()) as messages:
            for seq in (1, 2):
                assert (await anext(messages)).seq == seq
                assert reader.position.after_seq == seq - 1
        # The message at which the loop ended is delivered again …
        assert await take(reader.follow(), 2) == ["b", "c"]
        # … unless it was acknowledged.
        await reader.acknowledge(3)
        await Peer(bus).post(thread, "d")
        assert await take(reader.follow(), 1) == ["d"]
    assert await read_position(server.address, thread, tmp_path) == 3


async def test_acknowledged_messages_stay_so_while_the_loop_goes_on(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c", "d")
    async with member(server.address, thread, tmp_path) as reader:
        async with contextlib.aclosing(reader.follow()) as messages:
            assert await take(messages, 1) == ["a"]
            await reader.acknowledge(3)
            assert await take(messages, 1) == ["b"]
        assert reader.position.after_seq == 3
        assert await take(reader.follow(), 1) == ["d"]


async def test_a_follower_with_acknowledge_off_reports_nothing(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with member(server.address, thread, tmp_path) as reader:
        async with contextlib.aclosing(reader.follow(acknowledge=False)) as messages:
            assert await take(messages, 3) == ["a", "b", "c"]
        assert reader.position.after_seq == 2  # the handle continues from here
        assert await take(reader.follow(acknowledge=False), 1) == ["c"]
    assert await read_position(server.address, thread, tmp_path) == 0


async def test_filtered_messages_count_as_read(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        for _ in range(3):
            await reader.post("own")
        coming = asyncio.create_task(take(reader.follow(), 1))
        await until(lambda: reader.position.after_seq == 3)
        assert not coming.done()
        coming.cancel()
        await asyncio.wait([coming])
    assert await read_position(server.address, thread, tmp_path) == 3


async def test_a_follow_ends_when_the_thread_is_closed(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        messages = reader.follow()
        coming = asyncio.create_task(rest(messages))
        await Peer(bus).post(thread, "the last")
        await set_state(threads, thread, ThreadState.THREAD_STATE_CLOSED)
        said = await coming
        assert said[0] == "the last"
        assert len(said) == 2  # with the entry for the closing
        assert reader.position.after_seq == 2
        assert reader.closed
        (closing,) = await reader.messages(after_seq=1)
        assert closing.kind == MessageKind.MESSAGE_KIND_THREAD
        # Nothing is left to read.
        assert await rest(reader.follow()) == []
        await set_state(threads, thread, ThreadState.THREAD_STATE_OPEN)
        assert reader.closed  # as of then
        assert len(await take(reader.follow(), 1)) == 1
        assert not reader.closed


async def test_a_follow_ends_with_the_session_though_the_thread_is_open(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        await set_state(threads, thread, ThreadState.THREAD_STATE_CLOSED)
        assert len(await rest(reader.follow())) == 1
        await set_state(threads, thread, ThreadState.THREAD_STATE_OPEN)
        coming = asyncio.create_task(rest(reader.follow()))
        await until(lambda: reader.position.after_seq == 2)
        credentials = tmp_path / "credentials.json"
        agent = f"{thread}-reader"
        async with BusClient(server.address, agent=agent, credentials=credentials) as again:
            await again.end_session()
        assert len(await coming) == 1
        assert not reader.closed


@pytest.mark.parametrize("left", [0, 1])
async def test_a_deleted_thread_is_not_found(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path, left: int
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader:
        messages = reader.follow()
        await take(messages, 2 - left)
        await reader.delete()
        async with asyncio.timeout(BOUND):
            with pytest.raises(ThreadNotFound):
                async for _ in messages:
                    pass
            with pytest.raises(ThreadNotFound):
                await anext(reader.follow())


async def test_a_handle_allows_one_follow_at_a_time(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as reader:
        first = reader.follow()
        assert await take(first, 1) == ["a"]
        with pytest.raises(RuntimeError, match=thread):
            await anext(reader.follow())
        with pytest.raises(RuntimeError, match="wait"):
            await reader.wait(timeout=0)
        assert await take(first, 1) == ["b"]  # it was not disturbed
        await first.aclose()
        assert contents(await reader.wait(timeout=0)) == ["b"]


async def test_two_handles_follow_independently(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    credentials = tmp_path / "credentials.json"
    async with BusClient(server.address, agent=thread, credentials=credentials) as client:
        handles = [await client.join(thread, start="first") for _ in range(2)]
        both = [handle.follow() for handle in handles]
        for text in "ab":
            for messages in both:
                assert await take(messages, 1) == [text]
