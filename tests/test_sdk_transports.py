"""BusClient over TCP, over a Unix socket, through a proxy, and without a server."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus_client import BusClient, OutcomeUnknown, Unreachable
from tests.conftest import StartServer
from tests.members import member
from tests.serving import ServerProcess
from tests.wait_frames import BOUND


@pytest.fixture
def silent_listener() -> Iterator[str]:
    """The address of a listener that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def no_listener() -> str:
    """An address without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow
async def test_a_unix_socket_works_like_any_other_address(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server(listen=f"unix:{tmp_path / 's'}")
    async with member(server.address, name, tmp_path) as thread:
        await thread.post("hello")
        assert [m.content for m in await thread.messages()] == ["hello"]


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_proxy_is_not_used_for_this_machine(
    server: ServerProcess,
    no_listener: str,
    variable: str,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for other in ("no_proxy", "no_grpc_proxy", "http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, f"http://{no_listener}")
    address = server.address.replace("127.0.0.1", host)
    async with BusClient(address, timeout=10) as bus:
        assert (await bus.server_info()).agent == "anonymous"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["no_listener", "silent_listener", "unix:/nowhere/at/all"])
async def test_without_a_server_connecting_fails_in_time(
    request: pytest.FixtureRequest, where: str
) -> None:
    address = where if ":" in where else request.getfixturevalue(where)
    async with asyncio.timeout(BOUND):
        with pytest.raises(Unreachable) as unreachable:
            await BusClient(address, timeout=0.3).connect()
    assert unreachable.value.code == "UNAVAILABLE"
    assert unreachable.value.retryable
    assert address in str(unreachable.value)
    assert unreachable.value.hint


@pytest.mark.slow
async def test_a_server_that_starts_late_is_waited_for(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    server.kill()
    async with asyncio.TaskGroup() as group:
        bus = BusClient(server.address)
        connecting = group.create_task(bus.connect())
        await asyncio.to_thread(server.start)
        await connecting
    assert (await bus.join(name)).created
    await bus.close()


@pytest.mark.slow
async def test_calls_are_retried_until_the_server_is_back(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as bus, asyncio.TaskGroup() as group:
        thread = await bus.join(name)
        await asyncio.to_thread(server.kill)
        calls = [
            group.create_task(bus.get_thread(name)),
            group.create_task(thread.refresh()),
        ]
        await asyncio.to_thread(server.start)
        assert [(await call).name for call in calls] == [name, name]


@pytest.mark.slow
async def test_once_a_server_is_known_to_be_down_errors_say_that_nothing_was_sent(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as bus:
        thread = await bus.join(name)
        server.kill()
        with contextlib.suppress(OutcomeUnknown, Unreachable):
            await thread.post("into a connection that breaks", timeout=0.2)
        async with asyncio.timeout(BOUND):
            with pytest.raises(Unreachable):
                await thread.post("into none", timeout=0.2)


@pytest.mark.slow
async def test_closing_does_not_wait_for_a_hung_server(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    async with asyncio.timeout(BOUND):
        async with member(server.address, name, tmp_path) as thread:
            await thread.post("one")
            await thread.post("two")
            messages = thread.follow(include_own=True)
            async with contextlib.aclosing(messages):
                await anext(messages)
                await anext(messages)
            server.signal(signal.SIGSTOP)
