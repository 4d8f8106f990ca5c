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

_OWN = (("grpc.use_local_subchannel_pool", 1),)


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
    channel = grpc.aio.insecure_channel(address, options=[*_OWN, *options])
    async with _connection(channel, *threads) as connection:
        yield connection


@contextlib.asynccontextmanager
async def over_tls(
    address: str, credentials: grpc.ChannelCredentials, *threads: str
) -> AsyncIterator[Connection]:
    """A connection to a server with TLS. Creates the given threads if needed."""
    channel = grpc.aio.secure_channel(address, credentials, options=_OWN)
    async with _connection(channel, *threads) as connection:
        yield connection


@contextlib.asynccontextmanager
async def _connection(channel: grpc.aio.Channel, *threads: str) -> AsyncIterator[Connection]:
    async with channel:
        services = ThreadServiceStub(channel)
        for thread in threads:
            await services.JoinThread(JoinThreadRequest(thread=thread, create=True))
        yield Connection(channel, BusServiceStub(channel), services, AgentServiceStub(channel))
