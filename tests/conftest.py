"""Fixtures: a server process per module, a channel and a fresh thread per test."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """This module's server."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db") as running:
        yield running


StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers for one test alone: `start_server(*flags, db=…, listen=…)`."""
    with contextlib.ExitStack() as running:

        def start(
            *flags: str, db: Path | None = None, listen: str = "127.0.0.1:0"
        ) -> ServerProcess:
            return running.enter_context(
                ServerProcess(db or tmp_path / "bus.db", *flags, listen=listen)
            )

        yield start


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to this module's server."""
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture
def bus(channel: grpc.aio.Channel) -> BusStub:
    return BusServiceStub(channel)


@pytest.fixture
def threads(channel: grpc.aio.Channel) -> ThreadStub:
    return ThreadServiceStub(channel)


@pytest.fixture
def agents(channel: grpc.aio.Channel) -> AgentStub:
    return AgentServiceStub(channel)


@pytest.fixture
def admin(channel: grpc.aio.Channel) -> AdminStub:
    return AdminServiceStub(channel)


@pytest.fixture
def name() -> str:
    """A name that nothing has yet, fit for a thread and for an agent."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def thread(threads: ThreadStub, name: str) -> str:
    """A fresh thread's name."""
    await threads.CreateThread(CreateThreadRequest(thread=name))
    return name
