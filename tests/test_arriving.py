"""Reading of requests: who may send one, for how long, and how many bytes are buffered."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest

from tests.callers import operator, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import until
from tests.process_memory import forget_peak, memory, peak_memory
from tests.raw_connection import RawConnection
from tests.refusals import refused
from tests.rpcs import RPCS, Rpc
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessagesRequest,
)

MIB = 1024 * 1024
POST = "/threadbus.v1.BusService/PostMessage"
POST_MANY = "/threadbus.v1.BusService/PostMessages"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
#: All but the last byte of the largest request.
UNFINISHED = b"\0" * (4 * MIB - 1)


def unsent(
    channel: grpc.aio.Channel, path: str, metadata: tuple[tuple[str, str], ...] = ()
) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
    """A call whose request has not been sent."""
    return channel.stream_stream(path)(metadata=metadata)


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if "GetServerInfo" not in rpc.path], ids=str)
async def test_a_call_without_a_token_is_refused_before_its_request_is_sent(
    required: ServerProcess, rpc: Rpc
) -> None:
    async with grpc.aio.insecure_channel(required.address) as channel:
        refusal = await refused(unsent(channel, rpc.path))
        assert refusal.reason == "TOKEN_INVALID"
        bad = (("authorization", "Bearer " + "x" * 43),)
        refusal = await refused(unsent(channel, rpc.path, bad))
        assert refusal.reason == "TOKEN_INVALID"


@pytest.fixture(scope="module")
def required(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """A server that requires tokens."""
    with ServerProcess(
        tmp_path_factory.mktemp("required") / "bus.db", "--auth", "required"
    ) as running:
        yield running


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if not rpc.takes_many], ids=str)
async def test_a_call_that_sends_no_request_is_refused(
    server: ServerProcess, channel: grpc.aio.Channel, rpc: Rpc
) -> None:
    call = unsent(channel, rpc.path, operator(server).metadata)
    await call.done_writing()
    refusal = await refused(call)
    assert refusal.reason == "VALIDATION_FAILED"
    assert "no request" in refusal.message


@pytest.mark.parametrize("path", [POST, HEALTH])
async def test_a_request_that_does_not_arrive_in_time_is_refused(
    start_server: StartServer, path: str
) -> None:
    server = start_server("--request-timeout", "0.5")
    async with grpc.aio.insecure_channel(server.address) as channel:
        refusal = await refused(unsent(channel, path))
        assert refusal.reason == "STORE_BUSY"
        assert "did not arrive within 0.5 s" in refusal.message


async def test_a_stream_of_posts_may_be_idle_for_longer_than_a_request_may_take(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--request-timeout", "0.5")
    async with connected(server.address, name) as client:
        stream = client.bus.PostMessages()
        batch = PostMessagesRequest(posts=[PostMessageRequest(thread=name, content="x")])
        await stream.write(batch)
        posted = [await stream.read()]
        async with grpc.aio.insecure_channel(server.address) as channel:
            await refused(unsent(channel, POST))  # it took 0.5 s
        await stream.write(batch)
        posted.append(await stream.read())
        assert [str(answer).count("seq: 2") > 0 for answer in posted] == [False, True]
        await stream.done_writing()


@pytest.mark.slow
@pytest.mark.parametrize("path", [POST, POST_MANY, HEALTH, REFLECTION])
async def test_requests_that_are_never_finished_do_not_fill_the_memory_nor_stop_others(
    start_server: StartServer, name: str, path: str
) -> None:
    server = start_server("--max-request-bytes", str(32 * MIB))
    async with (
        connected(server.address, name) as client,
        RawConnection(server.address) as one,
        RawConnection(server.address) as other,
    ):
        before = memory(server.pid)
        forget_peak(server.pid)
        for _ in range(40):
            for hostile in (one, other):
                hostile.begin(path, UNFINISHED, announced=4 * MIB)
        # The whole budget of callers that already hold some: three quarters.
        await until(lambda: one.sent + other.sent > 20 * MIB)
        for number in range(1, 51):
            posted = await client.bus.PostMessage(
                PostMessageRequest(thread=name, content="x"), timeout=5
            )
            assert posted.seq == number
        assert peak_memory(server.pid) < before + 64 * MIB


@pytest.mark.slow
async def test_requests_that_wait_to_be_read_are_held_back(
    start_server: StartServer, name: str
) -> None:
    """Even over a connection that was fast before."""
    server = start_server("--max-request-bytes", str(16 * MIB))
    async with connected(server.address, name), RawConnection(server.address) as hostile:
        for _ in range(100):
            hostile.begin(POST, UNFINISHED, announced=4 * MIB)
        await until(lambda: hostile.sent > 11 * MIB)
        before = hostile.sent
        for _ in range(100):
            hostile.begin(POST, UNFINISHED, announced=4 * MIB)
        await until(lambda: hostile.sent > before + 100 * 15 * 1024)
        assert hostile.sent < 12 * MIB + 200 * 64 * 1024


@pytest.mark.slow
async def test_requests_of_many_connections_make_room_for_one_more(
    start_server: StartServer, name: str
) -> None:
    """Each caller sends only one request, and together they use the whole budget."""
    server = start_server("--max-request-bytes", str(16 * MIB))
    async with (
        connected(server.address, name) as client,
        contextlib.AsyncExitStack() as connections,
    ):
        hostile = [
            await connections.enter_async_context(RawConnection(server.address)) for _ in range(6)
        ]
        for path in (POST, POST_MANY):
            for connection in hostile:
                connection.begin(path, UNFINISHED, announced=4 * MIB)
        await until(lambda: sum(connection.sent for connection in hostile) > 15 * MIB)
        for number in range(1, 4):
            request = PostMessageRequest(thread=name, content="x")
            assert (await client.bus.PostMessage(request, timeout=10)).seq == number


@pytest.mark.slow
async def test_the_caller_with_most_unfinished_requests_makes_room_for_one_without_any(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-request-bytes", str(16 * MIB))  # four at a time
    async with (
        connected(server.address, name) as client,
        RawConnection(server.address) as heavy,
        RawConnection(server.address) as one,
        RawConnection(server.address) as other,
    ):
        for _ in range(2):
            heavy.begin(POST, UNFINISHED, announced=4 * MIB)
        await until(lambda: heavy.sent > 7 * MIB)
        for hostile in (one, other):
            hostile.begin(POST, UNFINISHED, announced=4 * MIB)
        await until(lambda: one.sent + other.sent > 7 * MIB)
        for number in range(1, 21):
            posted = await client.bus.PostMessage(
                PostMessageRequest(thread=name, content="x"), timeout=5
            )
            assert posted.seq == number
        await until(lambda: len(heavy.ended) == 1)
        assert [len(hostile.open) for hostile in (heavy, one, other)] == [1, 1, 1]


@pytest.mark.slow
async def test_a_connection_that_opens_and_resets_calls_fills_no_memory(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        before = memory(server.pid)
        forget_peak(server.pid)
        for path in ("/no/such", "/threadbus.v1.BusService/GetServerInfo"):
            async with RawConnection(server.address) as hostile:
                assert hostile.max_streams == 1_000
                await hostile.reset_many(path, 20_000)
        await client.bus.PostMessage(PostMessageRequest(thread=name, content="x"), timeout=10)
        assert peak_memory(server.pid) < before + 100 * MIB


@pytest.mark.slow
async def test_freed_memory_goes_back_to_the_system(start_server: StartServer, name: str) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        before = memory(server.pid)
        async with RawConnection(server.address) as one, RawConnection(server.address) as other:
            for _ in range(40):
                for hostile in (one, other):
                    hostile.begin(POST, UNFINISHED, announced=4 * MIB)
                # Blocks that stay lie between blocks that are freed.
                await client.bus.PostMessage(PostMessageRequest(thread=name, content="x" * 5_000))
            await until(lambda: one.sent + other.sent > 90 * MIB)
            await until(lambda: memory(server.pid) > before + 80 * MIB)
        await until(lambda: memory(server.pid) < before + 40 * MIB, within=30)


@pytest.mark.slow
async def test_large_posts_in_flight_share_the_request_budget(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-request-bytes", str(16 * MIB))
    async with connected(server.address, name) as client:
        before = memory(server.pid)
        forget_peak(server.pid)
        large = PostMessageRequest(thread=name, content="x" * MIB)
        calls = [client.bus.PostMessage(large, timeout=60) for _ in range(100)]
        assert {(await call).seq for call in calls} == set(range(1, 101))
        # Requests being handled, 32 MiB of recent messages, and the buffers of SQLite and gRPC.
        assert peak_memory(server.pid) < before + 150 * MIB


async def test_the_limits_are_reported(start_server: StartServer) -> None:
    server = start_server(
        *("--max-streams", "7", "--max-request-bytes", str(20 * MIB)),
        *("--max-frame-bytes", str(24 * MIB), "--max-anonymous-waits", "8"),
        *("--request-timeout", "1.5"),
    )
    async with connected(server.address) as client, RawConnection(server.address) as raw:
        limits = (await client.bus.GetServerInfo(GetServerInfoRequest())).limits
        assert (limits.max_streams, limits.max_anonymous_waits) == (7, 8)
        assert (limits.max_request_bytes, limits.max_frame_bytes) == (20 * MIB, 24 * MIB)
        assert limits.request_timeout.ToMilliseconds() == 1_500
        assert raw.max_streams == 7


async def test_a_caller_with_a_token_is_let_in_where_one_is_required(
    required: ServerProcess, name: str
) -> None:
    async with connected(required.address) as client:
        boss = operator(required)
        caller = await register(client.agents, name, boss)
        info = await client.bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
        assert info.agent == name
