"""BusClient.wait: one finite wait on several threads, or on all of the agent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus_client import (
    Attachment,
    BusClient,
    Cursor,
    InvalidArgument,
    Message,
    MessageFilter,
    ThreadClosed,
    ThreadNotFound,
    ThreadState,
    Wake,
)
from bus_client.sync import BusClient as BlockingClient
from tests.relay import relay_to
from tests.serving import ServerProcess

pytestmark = pytest.mark.asking_server

BOUND = 20.0
MINE = MessageFilter(addressed_to_me=True)


@pytest.fixture
async def reader(server: ServerProcess, name: str, tmp_path: Path) -> AsyncIterator[BusClient]:
    file = tmp_path / "reader.json"
    async with BusClient(server.address, agent=f"{name}-reader", credentials=file) as bus:
        yield bus


@pytest.fixture
async def poster(server: ServerProcess, name: str, tmp_path: Path) -> AsyncIterator[BusClient]:
    file = tmp_path / "poster.json"
    async with BusClient(server.address, agent=f"{name}-poster", credentials=file) as bus:
        yield bus


def found(messages: list[Message]) -> list[tuple[str, str]]:
    """Returns the thread and content of each message, by thread."""
    return sorted((message.thread, message.content) for message in messages)


async def post(bus: BusClient, thread: str, text: str, **options: Any) -> None:
    await (await bus.join(thread)).post(text, **options)


async def read_seq(bus: BusClient, thread: str) -> int:
    (mine,) = [
        each async for each in bus.thread(thread).list_participants() if each.agent == bus.agent
    ]
    return mine.read_seq


async def test_what_is_unread_in_all_threads_is_returned_at_once(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    for thread in (a, b):
        await reader.join(thread)
        await post(poster, thread, f"in {thread}")
    await post(poster, f"{name}.c", "not a participant")
    assert found(await reader.wait(timeout=0)) == [(a, f"in {a}"), (b, f"in {b}")]
    assert await reader.wait(timeout=0) == []


async def test_it_returns_with_the_first_message_of_a_thread_that_is_new_to_the_agent(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    async with asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60, filter=MINE))
        await post(poster, name, "for all")
        await post(poster, name, "for you", mentions=[reader.agent])
        assert found(await waiting) == [(name, "for you")]


async def test_what_was_returned_counts_as_read_at_the_next_wait_or_when_acknowledged(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    threads = [f"{name}.a", f"{name}.b"]
    for thread in threads:
        await reader.join(thread)
        await post(poster, thread, "1")
    assert len(await reader.wait(timeout=0)) == 2
    assert [await read_seq(reader, thread) for thread in threads] == [0, 0]
    await reader.acknowledge()
    assert [await read_seq(reader, thread) for thread in threads] == [1, 1]
    await post(poster, threads[0], "2")
    assert found(await reader.wait(timeout=0)) == [(threads[0], "2")]
    assert await reader.wait(timeout=0) == []
    assert [await read_seq(reader, thread) for thread in threads] == [2, 1]


async def test_what_is_not_acknowledged_is_returned_again(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    await reader.join(name)
    await post(poster, name, "1")
    for _ in range(2):
        assert found(await reader.wait(timeout=0, acknowledge=False)) == [(name, "1")]
    await reader.acknowledge()
    assert await read_seq(reader, name) == 0
    assert found(await reader.wait(timeout=0)) == [(name, "1")]


async def test_what_the_filter_hides_stays_unread(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    await reader.join(name)
    await post(poster, name, "for all")
    await post(poster, name, "for you", mentions=[reader.agent])
    assert found(await reader.wait(timeout=0, filter=MINE)) == [(name, "for you")]
    assert await reader.wait(timeout=0, filter=MINE) == []
    assert found(await reader.wait(timeout=0)) == [(name, "for all"), (name, "for you")]


async def test_named_threads_are_joined_and_read_from_where_the_agent_stopped(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    a, b, c = (f"{name}.{suffix}" for suffix in "abc")
    for thread in (a, b, c):
        await reader.join(thread)
        await post(poster, thread, "1")
    assert found(await reader.wait([a, b], timeout=0)) == [(a, "1"), (b, "1")]
    assert await reader.wait([a, b], timeout=0) == []
    assert found(await reader.wait(timeout=0)) == [(c, "1")]
    with pytest.raises(ThreadNotFound):
        await reader.wait([a, f"{name}.none"], timeout=0)


async def test_named_threads_that_are_closed_are_read_to_their_end(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    names = [f"{name}.a", f"{name}.b"]
    for each in names:
        await post(poster, each, "first")
        await reader.join(each)
        await post(poster, each, "last")
        await poster.thread(each).set_state(ThreadState.THREAD_STATE_CLOSED)
    async with asyncio.timeout(BOUND):
        messages = await reader.wait(names, timeout=60, min_messages=9)
        assert [each.content for each in messages].count("last") == 2
        with pytest.raises(ThreadClosed):
            await reader.wait(names, timeout=60)
    assert await reader.wait(timeout=0) == []  # of all threads, this is no error


async def test_messages_come_in_parts_of_so_many_or_so_large(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    threads = [f"{name}.{suffix}" for suffix in "abc"]
    for thread in threads:
        await reader.join(thread)
        for number in range(3):
            await post(poster, thread, f"{number}")
    parts = [await reader.wait(timeout=0, max_messages=2) for _ in range(3)]
    parts += [await reader.wait(timeout=0, max_bytes=1) for _ in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2, 1, 1, 1]
    for thread in threads:
        here = [each.seq for part in parts for each in part if each.thread == thread]
        assert here == [1, 2, 3]
    assert await reader.wait(timeout=0) == []


async def test_quiet_messages_come_with_the_next_one_that_wakes(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    for thread in (a, b):
        await reader.join(thread)
    for text in "12":
        await post(poster, a, text, wakes=Wake.WAKE_NOBODY)
    for _ in range(2):
        assert await reader.wait(timeout=0) == []
    await post(poster, b, "3")
    assert found(await reader.wait(timeout=0)) == [(a, "1"), (a, "2"), (b, "3")]
    await post(poster, a, "4", wakes=Wake.WAKE_NOBODY)
    assert found(await reader.wait(timeout=0, count_all=True)) == [(a, "4")]


async def test_each_message_comes_once_though_the_connection_breaks(
    server: ServerProcess, poster: BusClient, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "reader.json"
    async with (
        relay_to(server.address) as relay,
        BusClient(relay.address, agent=f"{name}-reader", credentials=file) as reader,
        asyncio.timeout(BOUND),
    ):
        threads = [f"{name}.{suffix}" for suffix in "ab"]
        for thread in threads:
            await reader.join(thread)
        waiting = asyncio.create_task(reader.wait(timeout=60, min_messages=4))
        for number in range(4):
            await post(poster, threads[number % 2], f"{number}")
            relay.cut()
        messages = await waiting
    assert sorted(each.content for each in messages) == ["0", "1", "2", "3"]


async def test_messages_are_shortened_in_every_way_to_read_several_threads(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    await reader.join(name)
    file = Attachment(filename="a.bin", raw=bytes(100))
    await post(poster, name, "größe", mentions=[reader.agent], attachments=[file])
    short: dict[str, Any] = {"omit_attachment_data": True, "max_content_bytes": 4}
    async with asyncio.timeout(BOUND):
        for message in (
            *await reader.wait(timeout=0, acknowledge=False, **short),
            await anext(reader.inbox(acknowledge=False, **short)),
            await anext(reader.follow([name], acknowledge=False, **short)),
        ):
            assert (message.content, message.content_size) == ("grö", 7)
            assert message.attachments[0].WhichOneof("content") is None
            assert message.attachments[0].size == 100


async def test_an_inbox_can_start_elsewhere(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    for thread in (a, b):
        await reader.join(thread)
        for text in "123":
            await post(poster, thread, text)
    messages = reader.inbox(addressed=False, positions=[Cursor(thread=a, after_seq=2)])
    async with asyncio.timeout(BOUND):
        some = [await anext(messages) for _ in range(4)]
    assert found(some) == [(a, "3"), (b, "1"), (b, "2"), (b, "3")]


async def test_one_wait_runs_at_a_time(reader: BusClient, poster: BusClient, name: str) -> None:
    await reader.join(name)
    async with asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="Another wait"):
            await reader.wait(timeout=0)
        await post(poster, name, "1")
        assert found(await waiting) == [(name, "1")]
        waiting = asyncio.create_task(reader.wait(timeout=60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await reader.wait(timeout=0) == []


async def test_arguments_are_checked(reader: BusClient, server: ServerProcess, name: str) -> None:
    refused: list[Any] = [name, [], [f"{name}.{number}" for number in range(1_001)]]
    for threads in refused:
        with pytest.raises(InvalidArgument, match="threads"):
            await reader.wait(threads, timeout=0)
    for field, value in (("timeout", -1), ("min_messages", -1), ("max_bytes", -1)):
        with pytest.raises(InvalidArgument, match=field):
            await reader.wait(**{"timeout": 0, field: value})  # type: ignore[arg-type]
    async with BusClient(server.address) as anonymous:
        with pytest.raises(InvalidArgument, match="agent"):
            await anonymous.wait(timeout=0)


def test_the_blocking_client_waits_and_acknowledges(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    with (
        BlockingClient(server.address, agent=name, credentials=tmp_path / "r.json") as reader,
        BlockingClient(server.address) as poster,
    ):
        reader.join(name)
        poster.thread(name).post("1")
        assert found(reader.wait(timeout=0)) == [(name, "1")]
        reader.acknowledge()
        assert reader.wait([name], timeout=0) == []


async def test_notices_for_others_are_skipped_unless_all_are_wanted(
    reader: BusClient, poster: BusClient, server: ServerProcess, name: str, tmp_path: Path
) -> None:
    await reader.join(name)
    file = tmp_path / "asked.json"
    async with BusClient(server.address, agent=f"{name}-asked", credentials=file) as asked:
        await post(poster, name, "?", ask=[asked.agent])
        await asked.thread(name).leave()
    await post(poster, name, "after")
    async with asyncio.timeout(BOUND):
        for messages, count in (
            (reader.inbox(addressed=False, acknowledge=False, all_notices=True), 3),
            (reader.follow([name], acknowledge=False, all_notices=True), 3),
            (reader.thread(name).follow(acknowledge=False, all_notices=True), 3),
            (reader.inbox(addressed=False, acknowledge=False), 2),
        ):
            seqs = [(await anext(messages)).seq for _ in range(count)]
            assert seqs == ([1, 2, 3] if count == 3 else [1, 3])
        found = [await reader.wait(timeout=60, max_messages=1) for _ in range(2)]
        assert [each.content for part in found for each in part] == ["?", "after"]
