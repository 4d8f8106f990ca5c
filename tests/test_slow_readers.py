"""Readers that do not read: no other caller notices, and the server buffers nothing for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from tests.connections import connected
from tests.open_wait import open_wait, wait_request
from tests.process_memory import forget_peak, memory, peak_memory
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    WaitMessagesRequest,
    WaitMessagesResponse,
)

MIB = 1024 * 1024
MESSAGES = 200  # of one MiB each
READERS = 20

Call = grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's own server, which a test may stop."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db") as running:
        yield running


@pytest.fixture(scope="module")
async def long_thread(server: ServerProcess) -> str:
    """A thread with a long history."""
    async with connected(server.address, "long") as client:
        for _ in range(MESSAGES // 10):
            request = PostMessageRequest(thread="long", content="x" * MIB)
            await asyncio.gather(*(client.bus.PostMessage(request) for _ in range(10)))
    return "long"


@contextlib.asynccontextmanager
async def stalled_readers(server: ServerProcess, thread: str) -> AsyncIterator[list[Call]]:
    """Waits over the whole thread, each on its own connection, whose frames are not read."""
    async with contextlib.AsyncExitStack() as connections:
        calls = []
        for _ in range(READERS):
            client = await connections.enter_async_context(connected(server.address))
            call = client.bus.WaitMessages(wait_request([thread]))
            frame = await call.read()
            assert isinstance(frame, WaitMessagesResponse)
            assert frame.HasField("started")
            calls.append(call)
        yield calls


async def converse(bus: BusStub, thread: str, posts: int) -> None:
    """Post and be woken by it, `count` times."""
    async with open_wait(bus, thread) as wait:
        for n in range(1, posts + 1):
            await bus.PostMessage(PostMessageRequest(thread=thread, content=str(n)))
            await wait.until(lambda n=n: wait.seqs(thread)[-1:] == [n])  # type: ignore[misc]


@pytest.mark.slow
async def test_stalled_readers_neither_hold_up_others_nor_fill_the_memory(
    server: ServerProcess, bus: BusStub, thread: str, long_thread: str
) -> None:
    forget_peak(server.pid)
    before = memory(server.pid)
    async with stalled_readers(server, long_thread):
        await converse(bus, thread, 100)
        # A few frames for each; the history is 200 MiB, and each requests all of it.
        assert peak_memory(server.pid) - before < READERS * 10 * MIB


@pytest.mark.slow
async def test_a_stalled_reader_gets_everything_once_it_reads(
    server: ServerProcess, bus: BusStub, thread: str, long_thread: str
) -> None:
    async with stalled_readers(server, long_thread) as calls:
        await converse(bus, thread, 10)
        seqs: list[int] = []
        async with asyncio.timeout(20):
            while len(seqs) < MESSAGES:
                frame = await calls[7].read()
                assert isinstance(frame, WaitMessagesResponse)
                seqs += [message.seq for message in frame.messages.messages]
    assert seqs == list(range(1, MESSAGES + 1))


@pytest.mark.slow
async def test_stalled_readers_do_not_delay_a_draining_server(
    server: ServerProcess, bus: BusStub, thread: str, long_thread: str
) -> None:
    async with stalled_readers(server, long_thread):
        await converse(bus, thread, 10)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(server.stop) == 0
    server.start()
