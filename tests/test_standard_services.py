"""gRPC's health and reflection: hostile requests are refused, and not logged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import until_known
from tests.raw_connection import RawConnection
from tests.refusals import refused
from tests.serving import ServerProcess

CHECK, LIST, WATCH = (f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch"))
REFLECTION, OLD_REFLECTION = (
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)

every_method = pytest.mark.parametrize("path", [CHECK, LIST, WATCH, REFLECTION, OLD_REFLECTION])


def call(channel: grpc.aio.Channel, path: str, *requests: bytes) -> Any:
    """Send these requests and half-close, whether or not the method takes a stream."""
    stream: Any = channel.stream_stream(path)
    return stream(iter(requests), timeout=10)


@pytest.fixture
async def own_channel(start_server: StartServer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that has logged no warning or error at the end of the test."""
    server: ServerProcess = start_server()
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened
    assert server.stop() == 0
    assert server.problems == []


@every_method
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x01\xff"], ids=["no message", "no UTF-8"])
@pytest.mark.slow
async def test_bytes_that_do_not_parse_are_refused_and_not_logged(
    own_channel: grpc.aio.Channel, path: str, data: bytes
) -> None:
    if path in (REFLECTION, OLD_REFLECTION) and data != b"\xff":
        data = b"\x1a\x01\xff"  # file_by_filename
    if path == LIST:
        data = b"\xff"  # its request has no text
    refusal = await refused(call(own_channel, path, data))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "VALIDATION_FAILED",
    )


@pytest.mark.slow
async def test_an_unknown_method_is_unimplemented_and_not_logged(
    own_channel: grpc.aio.Channel,
) -> None:
    # Unary: grpc.aio reports INTERNAL for a stream that ends before its request was written.
    cure: Any = own_channel.unary_unary("/grpc.health.v1.Health/Cure")
    refusal = await refused(cure(b""))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED


async def test_health_lists_every_service(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthListRequest()
    response = await health_pb2_grpc.HealthStub(channel).List(request)
    services = (f"threadbus.v1.{name}Service" for name in ("Bus", "Thread", "Agent", "Admin"))
    assert {name: each.status for name, each in response.statuses.items()} == dict.fromkeys(
        ["", *services], health_pb2.HealthCheckResponse.SERVING
    )


@pytest.mark.parametrize("path", [CHECK, LIST, WATCH])
async def test_a_call_without_a_request_is_refused(channel: grpc.aio.Channel, path: str) -> None:
    refusal = await refused(call(channel, path))
    assert refusal.reason == "VALIDATION_FAILED"


@every_method
async def test_a_long_request_is_refused(channel: grpc.aio.Channel, path: str) -> None:
    # A name, or in it an unknown field: an open watch would keep it.
    data = b"\x0a\x80\x80\x01" + b"a" * 16_384
    refusal = await refused(call(channel, path, data))
    assert refusal.message == "at most 16,384 bytes"


async def test_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="x")
    refusal = await refused(call(channel, CHECK, request.SerializeToString()))
    assert refusal.code is grpc.StatusCode.NOT_FOUND


async def test_reflection_ignores_unknown_fields_of_a_request(
    channel: grpc.aio.Channel,
) -> None:
    deep = b"\x7b" * 100 + b"\x7c" * 100  # groups within groups: as deep as parsers go
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    async for response in call(channel, REFLECTION, request + deep):
        assert reflection_pb2.ServerReflectionResponse.FromString(response).HasField(
            "list_services_response"
        )


@pytest.mark.slow
async def test_the_open_streams_of_all_callers_are_counted(start_server: StartServer) -> None:
    server = start_server()
    request = health_pb2.HealthCheckRequest(service="made up").SerializeToString()
    async with contextlib.AsyncExitStack() as channels:
        watches: list[Any] = []
        for _ in range(4):
            connection = await channels.enter_async_context(connected(server.address))
            channel: Any = connection.channel
            watches += [channel.unary_stream(WATCH)(request) for _ in range(500)]
            await asyncio.gather(*(watch.read() for watch in watches[-500:]))
        refusal = await refused(channel.unary_stream(WATCH)(request))
        assert refusal.reason == "QUOTA_EXCEEDED"
        assert await channel.unary_unary(CHECK)(b"")
        watches[0].cancel()

        async def room() -> bool:
            watch = channel.unary_stream(WATCH)(request)
            with contextlib.suppress(grpc.aio.AioRpcError):
                return bool(await watch.read())
            return False

        await until_known(room)


@pytest.mark.slow
async def test_a_watch_that_is_not_read_holds_up_no_other_and_no_shutdown(
    start_server: StartServer,
) -> None:
    server = start_server()
    request = health_pb2.HealthCheckRequest().SerializeToString()
    async with RawConnection(server.address) as silent:
        silent.call(WATCH, request)
        async with connected(server.address) as connection:
            channel: Any = connection.channel
            watch = channel.unary_stream(WATCH)(request, timeout=10)
            statuses = health_pb2.HealthCheckResponse.FromString
            assert statuses(await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            told = statuses(await watch.read()).status
            assert told == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await stopping == 0
