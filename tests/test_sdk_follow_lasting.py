"""follow() and inbox() go on after an anext() that was cancelled, and after a thread was closed."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from bus_client import BusClient, Message, MessageKind, ThreadHandle, ThreadNotFound, ThreadState
from bus_client.sync import BusClient as BlockingClient
from tests.members import contents, member, take
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.wait_frames import BOUND

CLOSED, OPEN = ThreadState.THREAD_STATE_CLOSED, ThreadState.THREAD_STATE_OPEN


@pytest.fixture
async def poster(server: ServerProcess, thread: str) -> AsyncIterator[ThreadHandle]:
    async with BusClient(server.address) as bus:
        yield bus.thread(thread)


@pytest.fixture
async def reader(server: ServerProcess, thread: str, tmp_path: Path) -> AsyncIterator[BusClient]:
    credentials = tmp_path / "credentials.json"
    async with BusClient(server.address, agent=f"{thread}-r", credentials=credentials) as bus:
        await bus.join(thread)
        yield bus


async def follow(reader: BusClient, thread: str) -> AsyncGenerator[Message]:
    return (await reader.join(thread)).follow()


async def follow_several(reader: BusClient, thread: str) -> AsyncGenerator[Message]:
    return reader.follow([thread])


async def inbox(reader: BusClient, thread: str) -> AsyncGenerator[Message]:
    return reader.inbox(addressed=False)


async def cancel_one(messages: AsyncGenerator[Message]) -> None:
    """Cancel an anext() that waits."""
    coming = asyncio.create_task(take(messages, 1))
    await asyncio.sleep(0)
    coming.cancel()
    await asyncio.wait([coming])
    assert coming.cancelled()


async def waits(reader: BusClient, poster: ThreadHandle) -> int:
    """Returns how many waits the agent has open in the thread."""
    participants = poster.list_participants()
    (count,) = [each.wait_count async for each in participants if each.agent == reader.agent]
    return count


@pytest.mark.parametrize("begin", [follow, follow_several, inbox])
async def test_a_cancelled_anext_loses_nothing(
    reader: BusClient, poster: ThreadHandle, begin: Callable[..., object]
) -> None:
    messages = await begin(reader, poster.name)  # type: ignore[misc]
    async with aclosing(messages), asyncio.timeout(BOUND):
        found: list[str] = []
        await cancel_one(messages)
        for n in range(50):
            await poster.post(f"{n}")
            try:
                found.append((await asyncio.wait_for(anext(messages), n % 5 / 1_000)).content)
            except TimeoutError:
                continue
        found += await take(messages, 50 - len(found))
        assert found == [f"{n}" for n in range(50)]


async def test_the_wait_stays_open_until_the_iterator_is_closed(
    reader: BusClient, poster: ThreadHandle
) -> None:
    async def opened() -> bool:
        return await waits(reader, poster) == 1

    async def ended() -> bool:
        return await waits(reader, poster) == 0

    messages = await follow(reader, poster.name)
    await cancel_one(messages)
    await until_known(opened)
    await cancel_one(messages)
    assert await opened()
    await messages.aclose()
    await until_known(ended)
    assert [message async for message in messages] == []


async def test_the_wait_ends_with_an_iterator_that_is_dropped(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    messages = handle.follow()
    await cancel_one(messages)
    del messages
    gc.collect()  # what was cancelled may be in a cycle
    async with aclosing(handle.follow()) as messages:
        await poster.post("again")
        assert await take(messages, 1) == ["again"]


async def test_the_next_wait_closes_an_iterator_that_was_left(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    messages = handle.follow()
    await cancel_one(messages)
    await poster.post("one")
    async with asyncio.timeout(BOUND):
        assert contents(await handle.wait(timeout=60)) == ["one"]
        assert [message async for message in messages] == []


async def test_the_next_follow_may_begin_while_the_cancellation_is_handled(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    for n in range(2):
        try:
            async with asyncio.timeout(0):
                async for _ in handle.follow():
                    pass
        except TimeoutError:
            messages = handle.follow()
            await cancel_one(messages)
            await poster.post(f"{n}")
            async with aclosing(messages), asyncio.timeout(BOUND):
                assert await take(messages, 1) == [f"{n}"]
                await handle.acknowledge(n + 1)


async def test_the_next_wait_is_refused_while_an_anext_waits(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    async with aclosing(handle.follow()) as messages, asyncio.timeout(BOUND):
        await cancel_one(messages)
        coming = asyncio.create_task(take(messages, 1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running"):
            await handle.wait(timeout=0)
        await poster.post("one")
        assert await coming == ["one"]


async def test_what_came_while_nobody_asked_is_not_read(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    messages = handle.follow()
    await cancel_one(messages)
    await poster.post("one")

    async def delivered() -> bool:
        participants = poster.list_participants()
        return any([each.delivered_seq == 1 async for each in participants])

    await until_known(delivered)
    await messages.aclose()
    assert handle.position.after_seq == 0
    assert contents(await handle.wait(timeout=60)) == ["one"]


async def test_an_error_that_came_while_nobody_asked_is_raised(
    reader: BusClient, poster: ThreadHandle
) -> None:
    messages = await follow(reader, poster.name)
    await cancel_one(messages)
    await poster.delete()
    with pytest.raises(ThreadNotFound):
        await take(messages, 1)
    assert [message async for message in messages] == []


async def test_two_tasks_cannot_ask_for_the_next_at_once(
    reader: BusClient, poster: ThreadHandle
) -> None:
    async with aclosing(await follow(reader, poster.name)) as messages:
        coming = asyncio.create_task(take(messages, 1))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="running"):
            await anext(messages)
        await poster.post("one")
        assert await coming == ["one"]


async def test_closing_an_iterator_ends_an_anext_that_waits(
    reader: BusClient, poster: ThreadHandle
) -> None:
    messages = await follow(reader, poster.name)
    coming = asyncio.ensure_future(anext(messages, None))
    await asyncio.sleep(0)
    async with asyncio.timeout(BOUND):
        await messages.aclose()
        assert await coming is None


async def test_an_exception_thrown_into_an_iterator_ends_it(
    reader: BusClient, poster: ThreadHandle
) -> None:
    messages = await follow(reader, poster.name)
    with pytest.raises(ZeroDivisionError):
        await messages.athrow(ZeroDivisionError())
    assert [message async for message in messages] == []


def chats(messages: AsyncGenerator[Message]) -> AsyncGenerator[Message]:
    """Yields the messages that are not changes of the thread."""
    return (each async for each in messages if each.kind == MessageKind.MESSAGE_KIND_CHAT)


async def test_a_follow_goes_on_after_the_thread_was_closed(
    reader: BusClient, poster: ThreadHandle
) -> None:
    handle = await reader.join(poster.name)
    async with aclosing(handle.follow(until_closed=False)) as messages:
        for n in range(3):
            await poster.post(f"{n}")
            await poster.set_state(CLOSED)
            assert await take(chats(messages), 1) == [f"{n}"]
            assert (await anext(messages)).kind == MessageKind.MESSAGE_KIND_THREAD
            coming = asyncio.create_task(take(chats(messages), 1))
            await poster.set_state(OPEN)
            await poster.post("open again")
            assert await coming == ["open again"]
            assert not handle.closed


async def test_a_follow_of_several_threads_goes_on_after_all_were_closed(
    reader: BusClient, poster: ThreadHandle
) -> None:
    async with aclosing(reader.follow([poster.name], until_closed=False)) as messages:
        await poster.set_state(CLOSED)
        assert (await anext(messages)).kind == MessageKind.MESSAGE_KIND_THREAD
        await poster.set_state(OPEN)
        await poster.post("open again")
        assert await take(chats(messages), 1) == ["open again"]


async def test_a_closed_thread_that_is_deleted_ends_it(
    reader: BusClient, poster: ThreadHandle
) -> None:
    async with aclosing(reader.thread(poster.name).follow(until_closed=False)) as messages:
        await poster.set_state(CLOSED)
        coming = asyncio.create_task(take(chats(messages), 1))
        await poster.delete()
        with pytest.raises(ThreadNotFound):
            await coming


async def test_a_follow_ends_with_its_thread_by_default(
    server: ServerProcess, poster: ThreadHandle, tmp_path: Path
) -> None:
    async with (
        member(server.address, poster.name, tmp_path) as handle,
        asyncio.timeout(BOUND),
    ):
        await poster.post("one")
        await poster.set_state(CLOSED)
        assert contents([each async for each in chats(handle.follow())]) == ["one"]
        assert handle.closed


def test_a_blocking_follow_goes_on_after_the_thread_was_closed(
    server: ServerProcess, name: str
) -> None:
    with BlockingClient(server.address) as bus:
        thread = bus.join(name)
        messages = thread.follow(until_closed=False)
        thread.set_state(CLOSED)
        assert next(messages).seq == 1
        thread.set_state(OPEN)
        thread.post("open again")
        assert [next(messages).seq for _ in range(2)] == [2, 3]
