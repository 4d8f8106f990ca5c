"""BusClient.follow and BusClient.inbox: several threads in one wait."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from bus_client import (
    BusClient,
    CursorLost,
    InvalidArgument,
    Message,
    ThreadNotFound,
    ThreadState,
)
from bus_client.sync import BusClient as BlockingClient
from tests.conftest import StartServer
from tests.relay import relay_to
from tests.script import EPOCH, batch, scripted, started
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import ThreadPosition

BOUND = 20.0


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


async def some(messages: AsyncGenerator[Message], count: int) -> list[tuple[str, str]]:
    """Returns the next messages: the thread and content of each."""
    async with asyncio.timeout(BOUND):
        found = [await anext(messages) for _ in range(count)]
    return [(message.thread, message.content) for message in found]


async def test_an_inbox_has_what_is_addressed_to_the_agent_in_any_thread(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    in_a = await poster.join(a)
    await in_a.post("for all")
    await in_a.post("one", mentions=[reader.agent])
    async with contextlib.aclosing(reader.inbox()) as messages:
        assert await some(messages, 1) == [(a, "one")]
        in_b = await poster.join(b)
        await in_b.post("for all")
        await in_b.post("two", handoff_to=reader.agent)
        assert await some(messages, 1) == [(b, "two")]


async def test_an_inbox_can_have_everything(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    own = await reader.join(f"{name}.a")
    other = await poster.join(f"{name}.a")
    async with contextlib.aclosing(reader.inbox(addressed=False)) as messages:
        await own.post("own")
        await other.post("for all")
        assert await some(messages, 1) == [(f"{name}.a", "for all")]


async def test_what_was_read_is_not_delivered_again(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    threads = [await poster.join(f"{name}.{suffix}") for suffix in "ab"]
    for thread in threads:
        await reader.join(thread.name)
        for number in range(3):
            await thread.post(f"{number}", mentions=[reader.agent])
    async with contextlib.aclosing(reader.inbox()) as messages:
        first = await some(messages, 4)
    async with contextlib.aclosing(reader.inbox()) as messages:
        second = await some(messages, 3)  # the last one was not acknowledged
    expected = {(thread.name, f"{number}") for thread in threads for number in range(3)}
    assert {*first, *second} == expected
    assert second[0] == first[-1]


async def test_several_named_threads_are_followed_until_all_are_closed(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    names = [f"{name}.{suffix}" for suffix in "ab"]
    threads = [await poster.join(each) for each in names]
    for each in names:
        await reader.join(each)
    for thread in threads:
        await thread.post(f"in {thread.name}")
        await thread.set_state(ThreadState.THREAD_STATE_CLOSED)
    async with asyncio.timeout(BOUND):
        found = [message.content async for message in reader.follow(names) if message.kind == 1]
    assert sorted(found) == [f"in {each}" for each in names]


async def test_each_message_comes_once_though_the_connection_breaks(
    server: ServerProcess, poster: BusClient, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "reader.json"
    async with (
        relay_to(server.address) as relay,
        BusClient(relay.address, agent=f"{name}-reader", credentials=file) as reader,
    ):
        threads = [await poster.join(f"{name}.{suffix}") for suffix in "abc"]
        async with contextlib.aclosing(reader.inbox()) as messages:
            found = []
            for number in range(9):
                await threads[number % 3].post(f"{number}", mentions=[reader.agent])
                found += await some(messages, 1)
                if number % 2:
                    relay.cut()
    assert [content for _, content in found] == [f"{number}" for number in range(9)]


async def test_a_thread_that_was_added_starts_where_it_was_though_the_connection_breaks(
    server: ServerProcess, poster: BusClient, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "reader.json"
    async with (
        relay_to(server.address) as relay,
        BusClient(relay.address, agent=f"{name}-reader", credentials=file) as reader,
    ):
        first, second = [await poster.join(f"{name}.{suffix}") for suffix in "ab"]
        await reader.join(first.name)
        await second.post("before")
        async with contextlib.aclosing(reader.inbox(addressed=False)) as messages:
            await first.post("1")
            assert await some(messages, 1) == [(first.name, "1")]
            await reader.join(second.name)
            await first.post("2")  # is sent after thread_added
            assert await some(messages, 1) == [(first.name, "2")]
            relay.cut()
            await second.post("after")
            assert await some(messages, 1) == [(second.name, "after")]


async def test_many_threads_that_are_added_do_not_delay_an_inbox() -> None:
    names = [f"thread-{number}" for number in range(1_500)]
    steps = [started()]
    for name in names:
        added = ThreadPosition(cursor=Cursor(thread=name, epoch=EPOCH))
        message = batch(1)
        message.messages.cursor.thread = message.messages.messages[0].thread = name
        steps += [WaitMessagesResponse(thread_added=added), message]
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", *steps, asyncio.Event())
        async with contextlib.aclosing(bus.inbox()) as messages:
            assert await some(messages, len(names)) == [(name, "1") for name in names]


@pytest.mark.slow
async def test_an_inbox_outlives_a_killed_server(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    async with (
        BusClient(server.address, agent="reader", credentials=tmp_path / "r.json") as reader,
        BusClient(server.address, agent="poster", credentials=tmp_path / "p.json") as poster,
    ):
        thread = await poster.join(name)
        async with contextlib.aclosing(reader.inbox()) as messages:
            await thread.post("before", mentions=["reader"])
            found = await some(messages, 1)
            server.kill()
            server.start()
            await thread.post("after", mentions=["reader"])
            found += await some(messages, 1)
    assert [content for _, content in found] == ["before", "after"]


async def test_a_lost_position_is_raised_by_a_follow_of_several(
    reader: BusClient, poster: BusClient, name: str
) -> None:
    names = [f"{name}.{suffix}" for suffix in "ab"]
    for each in names:
        thread = await poster.join(each)
        await reader.join(each)
        await thread.post("x")
    messages = reader.follow(names)
    await some(messages, 1)
    await thread.delete()
    with pytest.raises(ThreadNotFound):
        await some(messages, 2)
    with pytest.raises((ThreadNotFound, CursorLost)):
        await some(reader.follow([f"{name}.none"]), 1)


async def test_arguments_are_checked(reader: BusClient, server: ServerProcess, name: str) -> None:
    with pytest.raises(InvalidArgument, match="threads"):
        await anext(reader.follow(name))
    with pytest.raises(InvalidArgument, match="threads"):
        await anext(reader.follow([]))
    with pytest.raises(InvalidArgument, match="threads"):
        await anext(reader.follow(f"{name}.{number}" for number in range(1_001)))
    async with BusClient(server.address) as anonymous:
        with pytest.raises(InvalidArgument, match="all_my_threads"):
            await anext(anonymous.inbox())


def test_the_blocking_client_has_the_same(server: ServerProcess, name: str, tmp_path: Path) -> None:
    with (
        BlockingClient(
            server.address, agent=f"{name}-r", credentials=tmp_path / "r.json"
        ) as reader,
        BlockingClient(
            server.address, agent=f"{name}-p", credentials=tmp_path / "p.json"
        ) as poster,
    ):
        thread = poster.join(name)
        thread.post("one", mentions=[reader.agent])
        assert next(reader.inbox()).content == "one"
        reader.join(name)
        thread.post("two")
        assert next(reader.follow([name])).content in ("one", "two")
