"""Many pages of one console: all are served, and its memory stays bounded."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from bus_client import BusClient
from tests.console.consoles import ConsoleProcess, Stream, browser, console_of, events
from tests.process_memory import forget_peak, memory, peak_memory
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture
def console(shared_server: ServerProcess, tmp_path: Path) -> Iterator[ConsoleProcess]:
    """A console of its own, whose memory is measured."""
    with console_of(shared_server, tmp_path, f"ann-{tmp_path.name[-20:].strip('_-')}") as running:
        yield running


def pid(console: ConsoleProcess) -> int:
    assert console.process is not None
    return console.process.pid


@pytest.mark.timeout(180)
async def test_two_hundred_pages_follow_a_burst_in_bounded_memory(
    console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    limits = httpx.Limits(max_connections=None)
    async with browser(console, limits=limits) as client, AsyncExitStack() as pages:
        streams: list[Stream] = []
        for _ in range(200):
            streams.append(await pages.enter_async_context(events(client, name)))
            await streams[-1].next("thread")
        before = memory(pid(console))
        forget_peak(pid(console))
        async for _ in thread.post_many("x" * 500 for _ in range(1_000)):
            pass
        for stream in streams:
            assert len(await stream.messages(1_000)) == 1_000
        assert peak_memory(pid(console)) - before < 100 * MIB


@pytest.mark.timeout(180)
async def test_pages_that_are_not_read_hold_little_memory_and_no_other_page(
    console: ConsoleProcess, bus: BusClient, name: str
) -> None:
    thread = await bus.join(name)
    url = httpx.URL(console.url)
    async with browser(console) as client, events(client, name) as stream:
        await stream.next("thread")
        (cookie,) = (f"{key}={value}" for key, value in client.cookies.items())
        request = (
            f"GET /api/events?thread={name} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n"
            f"Cookie: {cookie}\r\n\r\n"
        )
        stalled = [socket.create_connection((url.host, url.port or 0), 30) for _ in range(50)]
        for each in stalled:
            each.sendall(request.encode())
            assert each.recv(12) == b"HTTP/1.1 200"
        before = memory(pid(console))
        forget_peak(pid(console))
        async for _ in thread.post_many("x" * 15_000 for _ in range(2_000)):  # 30 MB for each page
            pass
        assert len(await stream.messages(2_000)) == 2_000
        assert peak_memory(pid(console)) - before < 150 * MIB
    assert await asyncio.to_thread(console.stop) == (128 + signal.SIGTERM, "")
    for each in stalled:
        each.close()
