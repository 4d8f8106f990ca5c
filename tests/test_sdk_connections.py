"""BusClient: unary calls use one connection of their own, streams as many as they need."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, BusError, Cursor, Message, ThreadHandle
from bus_client import sync as blocking
from tests.conftest import StartServer
from tests.members import member, take
from tests.polling import until
from tests.relay import Relay, relay_to
from tests.script import THREAD, Failure, Step, batch, cursor, scripted, started
from tests.serving import ServerProcess
from tests.shell import Shell
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import HeartbeatRequest


@pytest.fixture
async def relay(server: ServerProcess) -> AsyncIterator[Relay]:
    """A relay to the server that counts connections, for one test."""
    async with relay_to(server.address) as road:
        yield road


@contextlib.asynccontextmanager
async def followers(
    bus: BusClient, thread: str, count: int
) -> AsyncIterator[list[asyncio.Queue[Message]]]:
    """Several follow() of one client from the first message on, and what each received."""
    got = [asyncio.Queue[Message]() for _ in range(count)]
    await bus.join(thread)

    async def follow(own: asyncio.Queue[Message]) -> None:
        handle = bus.thread(thread)
        handle.position = Cursor(thread=thread)
        async for message in handle.follow(include_own=True):
            await own.put(message)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(own)) for own in got]
        yield got
        for task in tasks:
            task.cancel()


async def all_get(got: list[asyncio.Queue[Message]], content: str) -> None:
    """Returns once this message was the next one of each follower."""
    async with asyncio.timeout(BOUND):
        assert {(await own.get()).content for own in got} == {content}


async def test_without_a_stream_there_is_one_connection_and_with_one_there_are_two(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    async with member(relay.address, name, tmp_path) as thread:
        await thread.post("one")
        assert [message.content for message in await thread.messages()] == ["one"]
        await asyncio.gather(*(thread.refresh() for _ in range(20)))
        assert relay.open == 1
        assert await take(thread.follow(include_own=True), 1) == ["one"]
        assert relay.open == 2
        await thread.post("two")
        assert [result async for result in thread.post_many(["three"])]
        assert relay.open == 2


async def test_consecutive_waits_share_a_connection(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    async with member(relay.address, name, tmp_path) as thread:
        for _ in range(5):
            await thread.post("hello")
            assert await thread.wait(timeout=5, include_own=True)
            assert await thread.wait(timeout=0) == []
        assert relay.accepted == 2


async def test_connections_are_closed_with_the_client(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    async with member(relay.address, name, tmp_path) as thread:
        following = asyncio.ensure_future(anext(thread.follow()))
        await until(lambda: relay.open == 2)
    with pytest.raises(RuntimeError, match="closed"):
        await following
    del following  # its exception refers to the call, and that to the connection
    await until(lambda: relay.open == 0)


async def test_a_client_closed_during_a_heartbeat_leaves_no_connection(
    tmp_path: Path,
) -> None:
    async with scripted() as script, relay_to(script.address) as relay:
        script.answer("Heartbeat", asyncio.Event())
        bus = BusClient(relay.address, agent="worker", credentials=tmp_path / "credentials.json")
        await bus.connect()
        handle = bus.thread(THREAD)
        await until(lambda: len(script.asked(HeartbeatRequest)) == 1)
        await bus.close()
        await until(lambda: relay.open == 0)
        assert handle.name == THREAD  # keeps the handle, and with it the client


async def follow(thread: ThreadHandle) -> None:
    async for _ in thread.follow(include_own=True):
        pass


async def wait_shortly(thread: ThreadHandle) -> None:
    await thread.wait(timeout=0.2, include_own=True)


async def post_two(thread: ThreadHandle) -> None:
    async for _ in thread.post_many(["one", "two"], timeout=0.2):
        pass


BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Frees only objects without references, and no cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    ("read_or_write", "rpc", "steps"),
    [
        (follow, "WaitMessages", [started(), batch(7)]),
        (follow, "WaitMessages", [Failure(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND")]),
        (follow, "WaitMessages", [Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")]),
        (follow, "WaitMessages", [Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")]),
        (follow, "GetServerInfo", [Failure(grpc.StatusCode.UNAUTHENTICATED)]),
        (wait_shortly, "WaitMessages", [started(), BROKEN]),
        (wait_shortly, "WaitMessages", [started()]),
        (post_two, "PostMessages", [Failure(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND")]),
        (post_two, "PostMessages", [BROKEN]),
        (post_two, "PostMessages", [asyncio.Event()]),
    ],
)
async def test_an_error_keeps_no_connection_of_a_closed_client(
    read_or_write: Callable[[ThreadHandle], Awaitable[None]],
    rpc: str,
    steps: Sequence[Step],
    tmp_path: Path,
) -> None:
    async with scripted() as script, relay_to(script.address) as relay:
        for _ in range(30):
            script.answer(rpc, *steps)
        credentials = tmp_path / "credentials.json"
        async with BusClient(relay.address, agent="worker", credentials=credentials) as bus:
            thread = bus.thread(THREAD)
            thread.position = cursor(0)
            failed = False
            try:
                await read_or_write(thread)
            except BusError:
                failed = True
            assert failed
        await until(lambda: relay.open == 0)


async def test_clients_of_one_process_share_connections(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(5):
            bus = BusClient(
                relay.address, agent=f"{name}-{number}", credentials=tmp_path / "credentials.json"
            )
            await stack.enter_async_context(bus)
            await stack.enter_async_context(followers(bus, name, 1))
        (got,) = await stack.enter_async_context(followers(bus, name, 1))
        await bus.thread(name).post("hello")
        assert (await got.get()).content == "hello"
        assert relay.accepted == 2
    # A later client fits.
    async with member(relay.address, name, tmp_path) as thread:
        assert await take(thread.follow(), 1) == ["hello"]
        assert relay.accepted <= 4


@pytest.mark.slow
@pytest.mark.parametrize(("most", "needed"), [(2, 10), (8, 3)])
async def test_more_waits_than_a_connection_allows_starve_nobody(
    start_server: StartServer, name: str, tmp_path: Path, most: int, needed: int
) -> None:
    server = start_server("--max-streams", str(most))
    async with (
        relay_to(server.address) as relay,
        member(relay.address, name, tmp_path, role="other") as other,
        BusClient(
            relay.address, agent=name, credentials=tmp_path / "credentials.json", timeout=BOUND
        ) as bus,
        followers(bus, name, 20) as got,
    ):
        await other.post("from another")
        await all_get(got, "from another")
        thread = bus.thread(name)
        await thread.post("from itself")
        await all_get(got, "from itself")
        assert len(await thread.messages()) == 2
        await bus.heartbeat(status_text="still here")
        assert (await bus.get_agent()).status_text == "still here"
        results = [result async for result in thread.post_many(["one of many"])]
        assert len(results) == 1
        await all_get(got, "one of many")
        assert relay.open <= 1 + needed + 1  # the last for post_many()


@pytest.mark.slow
async def test_a_full_connection_of_streams_delays_no_other_call(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--max-streams", "1")
    async with (
        BusClient(
            server.address, agent=name, credentials=tmp_path / "credentials.json", timeout=BOUND
        ) as bus,
        followers(bus, name, 1) as got,
    ):
        for number in range(5):
            await bus.thread(name).post(str(number))
            await all_get(got, str(number))
        await asyncio.gather(*(bus.server_info() for _ in range(50)))  # in turns


@pytest.mark.slow
async def test_a_disconnect_under_many_waits_loses_and_repeats_nothing(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    async with (
        member(relay.address, name, tmp_path) as thread,
        BusClient(relay.address, timeout=BOUND) as bus,
        followers(bus, name, 150) as got,
    ):
        await thread.post("before")
        await all_get(got, "before")
        assert relay.open == 3
        relay.cut()
        await thread.post("after")
        await all_get(got, "after")
        assert relay.open == 3
        assert all(own.empty() for own in got)


@pytest.mark.slow
def test_sync_followers_beyond_a_connections_limit_starve_nobody(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server("--max-streams", "2")
    credentials = tmp_path / "credentials.json"
    got: list[str] = []
    with blocking.BusClient(
        server.address, agent=name, credentials=credentials, timeout=BOUND
    ) as bus:

        def follow() -> None:
            handle = bus.thread(name)
            handle.position = Cursor(thread=name)
            messages = handle.follow(include_own=True)
            got.append(next(messages).content)
            got.append(next(messages).content)
            messages.close()

        readers = [threading.Thread(target=follow) for _ in range(10)]
        thread = bus.join(name)
        for reader in readers:
            reader.start()
        thread.post("one")
        bus.heartbeat(status_text="still here")
        assert bus.get_agent().status_text == "still here"
        thread.post("two")
        for reader in readers:
            reader.join(BOUND)
        assert sorted(got) == ["one"] * 10 + ["two"] * 10


@pytest.mark.slow
async def test_a_command_opens_a_second_connection_only_to_wait(
    relay: Relay, name: str, tmp_path: Path
) -> None:
    shell = Shell(relay.address, tmp_path)

    async def run(*arguments: str) -> int:
        before = relay.accepted
        await asyncio.to_thread(shell.ok, *arguments)
        return relay.accepted - before

    assert await run("join", name, "--as", f"{name}-me") == 1
    assert await run("post", name, "hello") == 1
    assert await run("read", name) == 1
    assert await run("agents") == 1
    assert await run("wait", name, "--as", f"{name}-me", "--timeout", "5") == 2


@pytest.mark.slow
async def test_any_number_of_calls_may_be_made_concurrently(
    server: ServerProcess, name: str
) -> None:
    """More calls than a server allows on a connection, none of which may be retried."""
    async with BusClient(server.address) as bus:
        made = (bus.create_thread(f"{name}-{number}") for number in range(1_500))
        assert len(await asyncio.gather(*made)) == 1_500
