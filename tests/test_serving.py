"""The server as an operator and a generic gRPC tool see it."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.conftest import StartServer
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

SERVICES = {f"threadbus.v1.{name}Service" for name in ("Bus", "Thread", "Agent")}


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
async def test_health_says_serving(channel: grpc.aio.Channel, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_names_the_services(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    answer = await anext(aiter(call))
    assert {service.name for service in answer.list_services_response.service} >= SERVICES


async def test_server_info_describes_the_server(bus: BusStub, server: ServerProcess) -> None:
    info = await bus.GetServerInfo(GetServerInfoRequest())
    assert (info.durability, info.auth, info.agent) == ("full", "open", "anonymous")
    assert set(info.scopes) == {"post", "read"}
    assert info.version
    assert info.epoch
    assert info.limits.max_content_bytes == 1024 * 1024
    assert info.limits.max_message_bytes == 3 * 1024 * 1024
    assert info.limits.max_wait_threads == 1_000


@pytest.mark.sqlite
def test_the_start_up_line_names_address_store_and_authentication(server: ServerProcess) -> None:
    assert server.announcement == (
        f"listening on {server.address} · store {server.db} (sqlite, fsync) · auth open (loopback)"
    )


@pytest.mark.slow
def test_settings_are_read_from_the_environment_too(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bus_server"],
        env=os.environ
        | {
            "THREADBUS_LISTEN": "127.0.0.1:0",
            "THREADBUS_DB": str(tmp_path / "other.db"),
            "THREADBUS_DURABILITY": "fast",
            "THREADBUS_AUTH": "required",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert f"store {tmp_path / 'other.db'} (sqlite, no fsync" in line
        assert "auth required" in line
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.slow
def test_an_invalid_setting_is_refused(start_server: StartServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bus_server", "--durability", "sometimes"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "--durability" in done.stderr
