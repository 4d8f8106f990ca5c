"""The cost of a small request does not grow with the messages that it is about."""

import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus_server.errors import StoreBusy, ValidationFailed
from bus_server.services import validation
from bus_server.settings import Settings
from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.files import file
from tests.locks import commit_lock_held
from tests.own_bus import append, opened, running
from tests.peers import Peer
from tests.post_stream import PostStream, post_stream, reason, seqs
from tests.process_memory import forget_peak, memory, peak_memory
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Attachment

MIB = 1024 * 1024
#: A message may have 3 MiB in all.
LARGE = file(bytes(3 * MIB - 400), filename="f")


class Growth:
    """By how much a server's peak memory has grown since this was created."""

    def __init__(self, server: ServerProcess) -> None:
        self._pid = server.pid
        forget_peak(self._pid)
        self._before = memory(self._pid)

    def __call__(self) -> int:
        return peak_memory(self._pid) - self._before


@contextlib.asynccontextmanager
async def stream_of_an_agent(
    server: ServerProcess, thread: str
) -> AsyncIterator[tuple[PostStream, Peer]]:
    """A stream of an agent whose large message is the first of a thread, with a request_id."""
    async with connected(server.address, thread) as client:
        agent = Peer(client.bus, await register(client.agents, "coder"))
        await agent.post(thread, "large", attachments=[LARGE], request_id="a")
        async with post_stream(client.bus, metadata=agent.metadata) as stream:
            yield stream, agent


@pytest.mark.slow
async def test_retries_with_the_request_id_of_a_large_message(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with stream_of_an_agent(server, name) as (stream, _):
        growth = Growth(server)
        other = PostMessageRequest(thread=name, content="other", request_id="a")
        results = await stream.post(*[other] * 100)
        assert {reason(result) for result in results} == {"REQUEST_ID_REUSED"}
        assert growth() < 60 * MIB  # one message, several times; all together are 300


@pytest.mark.slow
async def test_edits_of_a_large_message(start_server: StartServer, name: str) -> None:
    server = start_server()
    async with stream_of_an_agent(server, name) as (stream, agent):
        growth = Growth(server)
        edit = PostMessageRequest(thread=name, content="small", edit_of=1)
        assert seqs(await stream.post(*[edit] * 100)) == list(range(2, 102))
        assert growth() < 60 * MIB
        page = await agent.read(name, max_messages=2)
        assert [message.edit_seq for message in page] == [101, 0]
        assert page[0].attachments[0] == LARGE


@pytest.mark.slow
async def test_large_posts_refused_one_after_the_other(
    start_server: StartServer, name: str
) -> None:
    async def refused_post(bus: BusStub) -> str:
        async with post_stream(bus) as stream:
            (result,) = await stream.post(PostMessageRequest(thread=name, content="x" * 4_000_000))
            await stream.done()
        return reason(result)

    server = start_server()
    async with connected(server.address, name) as client:
        assert await refused_post(client.bus) == "MESSAGE_TOO_LARGE"
        growth = Growth(server)
        for _ in range(60):
            await refused_post(client.bus)
        assert growth() < 100 * MIB


def test_urls_that_are_too_long_leave_nothing() -> None:
    tracemalloc.start()
    try:
        for n in range(20):
            file = Attachment(filename="f", url=f"http://h{n}/{'x' * MIB}")
            with pytest.raises(ValidationFailed):
                validation.attachments("attachments", [file])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * MIB


async def test_a_batch_that_cannot_be_written_is_refused_and_its_memory_freed(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db, busy_timeout=0.1) as store, running(store, settings) as bus:
        with commit_lock_held(settings.db), pytest.raises(StoreBusy) as raised:
            await bus.post(append("design", "x"))
    files = [Path(entry.path).parent.name for entry in raised.traceback]
    assert "store" not in files
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
