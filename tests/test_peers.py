"""Clients and servers that die or hang are detected, and cost others nothing."""

import asyncio
import signal

import grpc
import pytest

from bus_client import BusClient, OutcomeUnknown
from tests.callers import register
from tests.client_process import waiting_client
from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import history
from tests.open_wait import admitted, open_wait, wait_request
from tests.polling import until, until_known
from tests.raw_connection import RawConnection
from tests.refusals import refused
from tests.serving import ServerProcess
from threadbus.v1.bus_service_pb2 import PostMessageRequest

#: Detects within about two seconds. These tests also check that gRPC knows the options.
SERVER_KEEPALIVE = ("--keepalive-time", "1", "--keepalive-timeout", "1")
CLIENT_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

#: HTTP/2's error code.
ENHANCE_YOUR_CALM = 11


@pytest.mark.slow
async def test_a_client_that_hangs_is_detected_by_keepalive_pings(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-open-waits", "1", *SERVER_KEEPALIVE)
    async with connected(server.address, name) as client:
        bus, agent = client.bus, await register(client.agents, name)
        with waiting_client(server.address, name, agent.token) as process:
            process.send_signal(signal.SIGSTOP)
            refusal = await refused(bus.WaitMessages(wait_request([name]), metadata=agent.metadata))
            assert refusal.reason == "QUOTA_EXCEEDED"
            await until_known(lambda: admitted(bus, agent, name))


@pytest.mark.slow
async def test_a_killed_client_leaves_no_wait_behind(start_server: StartServer, name: str) -> None:
    server = start_server("--max-open-waits", "1")
    async with connected(server.address, name) as client:
        bus, agent = client.bus, await register(client.agents, name)
        with waiting_client(server.address, name, agent.token) as process:
            assert not await admitted(bus, agent, name)
            process.kill()
            await until_known(lambda: admitted(bus, agent, name))


async def test_a_cancelled_wait_makes_room_for_another_at_once(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    async with connected(server.address, name) as client:
        bus, agent = client.bus, await register(client.agents, name)
        for _ in range(20):  # each opens one and cancels it
            await until_known(lambda: admitted(bus, agent, name))


@pytest.mark.slow
async def test_a_live_client_is_not_taken_for_dead_by_keepalive_pings(
    start_server: StartServer, name: str
) -> None:
    server = start_server(*SERVER_KEEPALIVE)
    async with (
        connected(server.address, name) as client,
        open_wait(client.bus, name, keepalive=1) as wait,
    ):
        # A server that no client pings, and that pings an idle client.
        await wait.until(lambda: wait.kinds().count("keepalive") == 4)


@pytest.mark.slow
async def test_a_peer_may_ping_every_few_seconds(server: ServerProcess) -> None:
    async with RawConnection(server.address) as connection:
        for _ in range(4):  # the third that comes too soon closes the connection
            connection.ping()
            await until(lambda: connection.pongs == connection.pings)
            await asyncio.sleep(1.2)  # not a state: how often it pings
        assert not connection.closed


async def test_a_peer_that_floods_with_pings_is_disconnected(server: ServerProcess) -> None:
    async with RawConnection(server.address) as connection:
        for _ in range(50):
            connection.ping()
        await until(lambda: connection.closed)
        # The close can overtake the GOAWAY.
        assert connection.farewell in (ENHANCE_YOUR_CALM, None)


@pytest.mark.slow
async def test_a_server_that_hangs_is_detected_by_the_clients_keepalive_pings(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with (
        connected(server.address, name, options=CLIENT_KEEPALIVE) as client,
        open_wait(client.bus, name) as wait,
    ):
        server.signal(signal.SIGSTOP)
        refusal = await refused(wait.ended())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "")


@pytest.mark.slow
async def test_the_outcome_of_a_post_to_a_hung_server_is_unknown_until_it_is_retried(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as bus:
        thread = await bus.join(name)
        server.signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown) as raised:
            await thread.post("hello?", timeout=1.5)
        server.signal(signal.SIGCONT)
        answer = await thread.post("hello?", request_id=raised.value.request_id)
        assert answer.seq == 1
    async with connected(server.address) as client:
        stored = await history(client.bus, name)
    assert [message.content for message in stored] == ["hello?"]


@pytest.mark.slow
async def test_a_wait_survives_a_server_that_hung_for_a_while(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        bus = client.bus
        async with open_wait(bus, name) as wait:
            server.signal(signal.SIGSTOP)
            post = bus.PostMessage(PostMessageRequest(thread=name, content="meanwhile"))
            server.signal(signal.SIGCONT)
            assert (await post).seq == 1
            await wait.until(lambda: wait.seqs(name) == [1])
