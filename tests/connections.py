"""Connections to a test's own servers, each on a new channel: earlier failures delay none."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc

from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import JoinThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@dataclass(frozen=True, slots=True)
class Connection:
    """One channel, and the stubs of the services."""

    channel: grpc.aio.Channel
    bus: BusStub
    threads: ThreadStub
    agents: AgentStub


@contextlib.asynccontextmanager
async def connected(
    address: str, *threads: str, options: Sequence[tuple[str, int]] = ()
) -> AsyncIterator[Connection]:
    """A connection to a server. Creates the given threads if needed."""
    options = [("grpc.use_local_subchannel_pool", 1), *options]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        services = ThreadServiceStub(channel)
        for thread in threads:
            await services.JoinThread(JoinThreadRequest(thread=thread, create=True))
        yield Connection(channel, BusServiceStub(channel), services, AgentServiceStub(channel))
