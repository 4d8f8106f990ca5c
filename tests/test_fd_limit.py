"""The limit on file descriptors: a server raises it, and logs when none is left."""

import contextlib
import resource
import socket
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import until
from tests.serving import ServerProcess
from tests.strace import traced
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest


def logged(server: ServerProcess, text: str) -> int:
    return sum(text in line for line in server.log)


@pytest.mark.slow
async def test_a_server_out_of_descriptors_logs_that_once_and_its_recovery_once(
    start_server: StartServer,
) -> None:
    server = start_server(fresh=True)  # where no other code has silenced gRPC's own log
    used = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
    host, _, port = server.address.rpartition(":")
    with contextlib.ExitStack() as connections:
        for _ in range(8):
            connections.enter_context(socket.create_connection((host, int(port))))
        await until(lambda: logged(server, f"no file descriptor is left, of {used + 4}: ") == 1)
    await until(lambda: logged(server, "file descriptors again") == 1)
    async with connected(server.address) as client:
        await client.bus.GetServerInfo(GetServerInfoRequest(), timeout=10)
    assert server.stop() == 0
    # A database on PostgreSQL cannot be reached meanwhile, either.
    assert len([line for line in server.problems if "faults: the database" not in line]) == 2


@pytest.mark.slow
async def test_the_log_says_that_the_machine_is_out_of_descriptors_not_the_server(
    start_server: StartServer,
) -> None:
    server = start_server()
    with traced(server, "-P", "/", "-e", "inject=openat:error=ENFILE", "-o", "/dev/null"):
        await until(lambda: logged(server, "no file descriptor is left on this machine: ") == 1)
    await until(lambda: logged(server, "file descriptors again") == 1)
    assert server.stop() == 0
    assert not logged(server, "ulimit")


@pytest.mark.slow
async def test_a_server_raises_its_soft_limit_to_the_hard_one(start_server: StartServer) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        server = start_server(fresh=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)
    assert hard == before[1]
