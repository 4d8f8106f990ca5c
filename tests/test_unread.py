"""Responses and frames that clients do not read: how many bytes are buffered, and that other
clients are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.open_wait import WaitCall, wait_request
from tests.polling import until
from tests.process_memory import forget_peak, memory, peak_memory
from tests.raw_connection import RawConnection
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    ListMessagesRequest,
    PostMessageRequest,
    PostMessagesRequest,
    PostMessagesResponse,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

MIB = 1024 * 1024
#: Bytes of a response to read: enough for a wait's first frame, `started`.
WINDOW = 1_000
LIST = "/threadbus.v1.BusService/ListMessages"
WAIT = "/threadbus.v1.BusService/WaitMessages"
POST_MANY = "/threadbus.v1.BusService/PostMessages"

pytestmark = pytest.mark.slow


async def fill(bus: BusStub, thread: str, messages: int = 12) -> None:
    """Post messages of one MiB."""
    for _ in range(messages):
        await bus.PostMessage(PostMessageRequest(thread=thread, content="x" * MIB))


async def read_all(bus: BusStub, thread: str, messages: int) -> None:
    """Read a whole thread through a wait."""
    seqs: list[int] = []
    request = WaitMessagesRequest(threads=[Cursor(thread=thread)], max_messages=messages)
    async with asyncio.timeout(10):
        async for frame in bus.WaitMessages(request):
            seqs += [message.seq for message in frame.messages.messages]
    assert seqs == list(range(1, messages + 1))


async def read_to_end(wait: WaitCall) -> None:
    """Read all frames of a wait."""
    async for _ in wait:
        pass


@contextlib.asynccontextmanager
async def unread(server: ServerProcess, path: str, body: bytes, calls: int) -> AsyncIterator[None]:
    """Calls over two connections whose responses are not read past the first few bytes.

    Begins when the server has started to respond to some of them.
    """
    async with (
        RawConnection(server.address, window=WINDOW) as one,
        RawConnection(server.address, window=WINDOW) as other,
    ):
        for _ in range(calls // 2):
            one.call(path, body)
            other.call(path, body)
        await until(lambda: len(one.answered) + len(other.answered) >= 5)
        yield


@pytest.mark.parametrize("path", [WAIT, LIST])
async def test_unread_responses_do_not_fill_the_memory_and_others_are_served(
    start_server: StartServer, name: str, path: str
) -> None:
    server = start_server("--max-frame-bytes", str(16 * MIB))
    async with connected(server.address, name) as client:
        await fill(client.bus, name)
        before = memory(server.pid)
        forget_peak(server.pid)
        request = (
            WaitMessagesRequest(threads=[Cursor(thread=name)])
            if path == WAIT
            else ListMessagesRequest(thread=name)
        )
        async with unread(server, path, request.SerializeToString(), 100):
            for _ in range(5):
                await client.bus.ListMessages(ListMessagesRequest(thread=name), timeout=10)
                await read_all(client.bus, name, 12)
            assert peak_memory(server.pid) < before + 120 * MIB
        # Once they have disconnected, the whole budget is free again.
        await asyncio.gather(*(read_all(client.bus, name, 12) for _ in range(20)))


async def test_a_wait_for_room_that_lasts_too_long_is_an_error_that_releases_its_bytes(
    start_server: StartServer, name: str
) -> None:
    limits = ("--max-frame-bytes", str(16 * MIB), "--request-timeout", "1")
    server = start_server(*limits, "--log-level", "debug")
    # Else the client takes in more unread bytes the slower the machine is.
    fixed_window = [("grpc.http2.bdp_probe", 0)]
    async with connected(server.address, name, options=fixed_window) as client:
        await fill(client.bus, name, 6)
        request = WaitMessagesRequest(threads=[Cursor(thread=name)], max_messages=6)
        unread = [client.bus.WaitMessages(request) for _ in range(30)]
        await until(lambda: any("WaitMessages of anonymous: STORE_BUSY" in x for x in server.log))
        # Small responses are not counted.
        await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=5)
        small = ListMessagesRequest(thread=name, after_seq=6)
        assert not (await client.bus.ListMessages(small, timeout=5)).messages
        # Whichever was refused: its frames that were sent come first.
        refusal = await refused(asyncio.gather(*(read_to_end(wait) for wait in unread)))
        assert refusal.reason == "STORE_BUSY"
        assert refusal.retry_delay


async def test_posts_with_unread_responses_are_not_held_in_memory(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        await fill(client.bus, name, 40)  # as many as are kept in memory as recent messages
        before = memory(server.pid)
        forget_peak(server.pid)
        posts = [PostMessageRequest(thread=name, content="x" * MIB)] * 3
        async with contextlib.AsyncExitStack() as connections:
            streams = []
            for _ in range(4):
                opened = await connections.enter_async_context(connected(server.address))
                streams += [opened.bus.PostMessages() for _ in range(10)]
            request = PostMessagesRequest(posts=posts)
            sending = [asyncio.create_task(send_all(stream, request, 3)) for stream in streams]
            await asyncio.gather(*sending)
            posted = await client.bus.PostMessage(
                PostMessageRequest(thread=name, content="x"), timeout=10
            )
            assert posted.seq > 40
            # 128 MiB of requests, and the buffers of SQLite and gRPC.
            assert peak_memory(server.pid) < before + 250 * MIB
            for stream in streams:
                answers = [answer async for answer in stream]
                assert len(answers) == 3
                assert all(r.HasField("response") for answer in answers for r in answer.results)


async def send_all(
    stream: "grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]",
    request: PostMessagesRequest,
    times: int,
) -> None:
    for _ in range(times):
        await stream.write(request)
    await stream.done_writing()


async def test_a_batchs_response_fits_every_client_however_many_recipients(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        for number in range(100):
            member = await register(client.agents, f"{'m' * 56}-{number}")
            join = JoinThreadRequest(thread=name)
            await client.threads.JoinThread(join, metadata=member.metadata)
        post = PostMessageRequest(thread=name, content="x", include_recipients=True)
        stream = client.bus.PostMessages()
        await stream.write(PostMessagesRequest(posts=[post] * 1_000))
        await stream.done_writing()
        answers = [answer async for answer in stream]
        (answer,) = answers
        assert answer.ByteSize() < 4 * MIB
        assert [r.response.seq for r in answer.results] == list(range(1, 1_001))
        told = [len(r.response.recipients) for r in answer.results]
        assert told[0] == 100
        assert told[-1] == 0
        assert sum(told) * 59 > 2 * MIB


async def test_a_batchs_response_fits_every_client_however_each_post_is_refused(
    bus: BusStub, thread: str
) -> None:
    nobody = [f"{'n' * 58}-{number}" for number in range(30)]
    post = PostMessageRequest(thread=thread, content="x", mentions=nobody)
    stream = bus.PostMessages()
    await stream.write(PostMessagesRequest(posts=[post] * 1_000))
    await stream.done_writing()
    (answer,) = [answer async for answer in stream]
    assert answer.ByteSize() < 4 * MIB
    details = [len(result.status.details) for result in answer.results]
    assert details[0] > 1
    assert set(details[-10:]) == {1}
    for result in answer.results:
        assert result.status.message.startswith("no agent")
        assert b"AGENT_NOT_FOUND" in result.status.details[0].value


async def test_waits_of_anonymous_callers_are_counted_together(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-anonymous-waits", "3")
    async with connected(server.address, name) as one, connected(server.address) as other:
        agent = await register(one.agents, name)
        waits = [client.bus.WaitMessages(wait_request([name])) for client in (one, one, other)]
        for wait in waits:
            await wait.read()
        refusal = await refused(other.bus.WaitMessages(wait_request([name])))
        assert refusal.reason == "QUOTA_EXCEEDED"
        named = one.bus.WaitMessages(wait_request([name]), metadata=agent.metadata)
        assert isinstance(await named.read(), WaitMessagesResponse)
        waits[0].cancel()
        async with asyncio.timeout(10):
            while True:
                again = other.bus.WaitMessages(wait_request([name]))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    if isinstance(await again.read(), WaitMessagesResponse):
                        break
