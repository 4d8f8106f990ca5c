"""However a loop over follow() ends, no wait stays open on the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bus_client import BusClient, BusError, QuotaExceeded, ThreadHandle
from tests.members import member, take
from tests.polling import until_known
from tests.relay import relay_to
from tests.serving import ServerProcess
from tests.wait_frames import BOUND


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server, which allows an agent one open wait."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--max-open-waits", "1") as running:
        yield running


@pytest.fixture(scope="module")
def roomy_server(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """A server that allows an agent many open waits."""
    with ServerProcess(tmp_path_factory.mktemp("roomy") / "bus.db") as running:
        yield running


@contextlib.asynccontextmanager
async def two_handles(
    server: ServerProcess, thread: str, home: Path
) -> AsyncIterator[tuple[ThreadHandle, ThreadHandle]]:
    """Handles of one agent for a thread with three messages, each of its own client."""
    async with BusClient(server.address) as anyone:
        posting = await anyone.join(thread)
        for text in "abc":
            await posting.post(text)
    async with (
        member(server.address, thread, home) as one,
        member(server.address, thread, home) as other,
    ):
        yield one, other


async def by_break(thread: ThreadHandle) -> None:
    async for message in thread.follow():
        assert message.content == "a"
        break


async def by_break_from_a_closed_block(thread: ThreadHandle) -> None:
    async with contextlib.aclosing(thread.follow()) as messages:
        async for _ in messages:
            break


async def by_an_error(thread: ThreadHandle) -> None:
    with pytest.raises(ZeroDivisionError):
        async with contextlib.aclosing(thread.follow()) as messages:
            async for _ in messages:
                _ = 1 / 0


async def by_cancelling_it_while_it_waits(thread: ThreadHandle) -> None:
    async def follow() -> None:
        async for message in thread.follow():
            if message.content == "c":
                last.set()

    last = asyncio.Event()
    following = asyncio.create_task(follow())
    await last.wait()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def by_a_timeout(thread: ThreadHandle) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            async for _ in thread.follow():
                pass


WAYS = [
    by_break,
    by_break_from_a_closed_block,
    by_an_error,
    by_cancelling_it_while_it_waits,
    by_a_timeout,
]


@pytest.mark.parametrize("leave", WAYS)
async def test_no_wait_stays_open(
    server: ServerProcess,
    name: str,
    tmp_path: Path,
    leave: Callable[[ThreadHandle], Awaitable[None]],
) -> None:
    async with two_handles(server, name, tmp_path) as (one, other), asyncio.timeout(BOUND):
        await leave(one)

        async def admitted() -> bool:
            try:
                await other.wait(timeout=0)
            except QuotaExceeded:
                return False
            return True

        await until_known(admitted)


@pytest.mark.parametrize("leave", WAYS)
async def test_the_same_handle_can_follow_again_at_once(
    roomy_server: ServerProcess,
    name: str,
    tmp_path: Path,
    leave: Callable[[ThreadHandle], Awaitable[None]],
) -> None:
    async with two_handles(roomy_server, name, tmp_path) as (one, _), asyncio.timeout(BOUND):
        await leave(one)
        async with contextlib.aclosing(one.follow(include_own=True)) as again:
            await one.post("d")
            assert (await anext(again)).seq == one.position.after_seq + 1


async def test_consecutive_loops_each_follow(
    roomy_server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with two_handles(roomy_server, name, tmp_path) as (one, _), asyncio.timeout(BOUND):
        seen = []
        async for message in one.follow():
            seen.append(message.content)
            break
        async for message in one.follow():
            seen.append(message.content)
            if message.content == "b":
                break
        seen += [message.content for message in await one.wait(timeout=0)]
        assert seen == ["a", "a", "b", "b", "c"]


async def test_an_agent_with_too_many_waits_gets_an_error(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with two_handles(server, name, tmp_path) as (one, other), asyncio.timeout(BOUND):
        messages = one.follow()
        assert await take(messages, 1) == ["a"]
        for _ in range(2):
            with pytest.raises(QuotaExceeded) as refused:
                await anext(other.follow())
            with pytest.raises(QuotaExceeded):
                await other.wait(timeout=0)
        assert refused.value.metadata == {"limit": "1"}
        assert await take(messages, 2) == ["b", "c"]  # the first was not disturbed
        await messages.aclose()


@pytest.mark.parametrize("open_call", ["follow", "wait", "post"])
async def test_closing_the_client_ends_its_calls_with_an_error(
    roomy_server: ServerProcess, name: str, open_call: str
) -> None:
    async with relay_to(roomy_server.address) as relay, asyncio.timeout(BOUND):
        bus = BusClient(relay.address)
        await bus.connect()
        handle = await bus.join(name)
        relay.silence()

        async def call() -> None:
            match open_call:
                case "follow":
                    await anext(handle.follow())
                case "wait":
                    await handle.wait(timeout=60)
                case "post":
                    await handle.post("x")

        calling = asyncio.create_task(call())
        await asyncio.sleep(0)
        await bus.close()
        await asyncio.wait([calling])
        assert not calling.cancelled()  # the task was not cancelled
        assert isinstance(calling.exception(), (BusError, RuntimeError))


async def test_a_handle_of_a_closed_client_raises_an_error(
    roomy_server: ServerProcess, name: str
) -> None:
    async with BusClient(roomy_server.address) as bus:
        handle = await bus.join(name)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: handle.post("x"),
        lambda: handle.wait(timeout=0),
        lambda: anext(handle.follow()),
        handle.refresh,
    ]
    for call in calls:
        with pytest.raises((BusError, RuntimeError)):
            await call()
