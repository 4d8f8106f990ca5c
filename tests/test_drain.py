"""Draining: waits end with OK, posts are acknowledged or refused, then the server exits."""

import asyncio
import contextlib
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bus_client import BusClient, Message, ThreadHandle
from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import Ledger, history
from tests.locks import locked
from tests.open_wait import open_wait, open_waits, wait_request
from tests.polling import until
from tests.refusals import Refusal, refused
from tests.serving import BusStub, ServerProcess
from tests.statements import commits_tried
from tests.strace import traced
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    WaitEnding,
)

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


async def exit_code(server: ServerProcess) -> int:
    """Wait for a draining server to exit; returns its exit code."""
    assert server.process is not None
    code = await asyncio.to_thread(server.process.wait, 10)
    server.kill()  # it has exited: this makes room for the next one
    return code


@pytest.mark.slow
@SIGNALS
async def test_five_hundred_waits_end_with_draining_and_ok(
    start_server: StartServer, name: str, number: signal.Signals
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        bus = client.bus
        requests = [wait_request([name]) for _ in range(500)]
        async with open_waits(bus, requests) as waits:
            server.signal(number)
            for wait in waits:
                ending = await wait.ended()
                assert ending.reason == WaitEnding.REASON_DRAINING
                assert 0 < ending.retry_delay.ToMilliseconds() <= 5_000
                assert [position.cursor.thread for position in ending.threads] == [name]
            assert await exit_code(server) == 0
    assert [line for line in server.log if "ERROR" in line or "Traceback" in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_server_logs_why_it_drains_and_that_it_has_stopped(
    start_server: StartServer, number: signal.Signals
) -> None:
    server = start_server()
    server.signal(number)
    assert await exit_code(server) == 0
    # The first three are that it starts, the audit log's, and that it listens.
    assert [line.partition(": ")[2] for line in server.log[3:]] == [
        f"received {number.name}: draining\n",
        "stopped\n",
    ]


@pytest.mark.slow
async def test_a_server_whose_background_task_ended_drains_and_exits_with_1(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        # An empty statm is what memory.trim_forever does not expect.
        statm = f"/proc/{server.pid}/statm"
        with traced(server, "-P", statm, "-e", "inject=read:retval=0", "-o", "/dev/null"):
            assert (await wait.ended()).reason == WaitEnding.REASON_DRAINING
            assert await exit_code(server) == 1
    assert sum("a background task ended: stopping" in line for line in server.log) == 1
    assert server.log[-1] == "threadbus: a background task ended: the log says why\n"


@pytest.mark.slow
async def test_when_the_terminal_closes_waits_end_with_draining(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client, open_wait(client.bus, name) as wait:
        server.signal(signal.SIGHUP)
        assert (await wait.ended()).reason == WaitEnding.REASON_DRAINING
        assert await exit_code(server) == 0


@pytest.mark.slow
async def test_a_server_under_nohup_outlives_its_terminal(
    start_server: StartServer, name: str
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; it is inherited
    try:
        server = start_server(fresh=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    server.signal(signal.SIGHUP)
    async with connected(server.address, name) as client:
        assert await Ledger().attempt(client.bus, name, "still here") is None
    assert server.stop() == 0
    assert len(server.log) == 5
    assert "SIGTERM" in server.log[3]


@pytest.mark.sqlite
@pytest.mark.slow
@SIGNALS
async def test_posts_in_flight_are_acknowledged_and_new_ones_are_refused(
    start_server: StartServer, name: str, number: signal.Signals
) -> None:
    server, ledger = start_server("--log-level", "debug", "--max-queued-posts", "100"), Ledger()
    refusals: list[Refusal] = []

    async def post(bus: BusStub, content: str) -> None:
        if refusal := await ledger.attempt(bus, name, content):
            refusals.append(refusal)

    async with connected(server.address, name) as client, asyncio.TaskGroup() as group:
        bus = client.bus
        async with open_wait(bus, name) as wait:
            tried = commits_tried(server)
            with locked(server.db):
                first = group.create_task(post(bus, "being committed"))
                await until(lambda: commits_tried(server) > tried)
                for n in range(120):
                    group.create_task(post(bus, f"queued {n}"))
                await until(lambda: bool(refusals))  # so a hundred are in the queue
                server.signal(number)
                ending = await wait.ended()
                assert ending.reason == WaitEnding.REASON_DRAINING
                for call in (
                    bus.PostMessage(PostMessageRequest(thread=name, content="late")),
                    bus.WaitMessages(wait_request([name])),
                ):
                    late = await refused(call)
                    assert (late.code, late.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
                    assert late.retry_delay
                # It stays for the posts, longer than gRPC's own grace period for calls.
                await asyncio.wait([first], timeout=1.5)
                assert not first.done()
                assert len(ledger) == 0
        assert await exit_code(server) == 0

    assert len(ledger) >= 101
    assert {refusal.reason for refusal in refusals} <= {"STORE_BUSY", "DRAINING"}
    server.start()
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))


@pytest.mark.sqlite
@pytest.mark.slow
async def test_health_says_not_serving_as_soon_as_a_server_drains(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--log-level", "debug")
    request = health_pb2.HealthCheckRequest(service="threadbus.v1.BusService")
    async with connected(server.address, name) as client:
        bus, health = client.bus, health_pb2_grpc.HealthStub(client.channel)
        watch = health.Watch(request)
        async with asyncio.timeout(20):
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            with locked(server.db):  # so that it cannot exit at once
                tried = commits_tried(server)
                post = bus.PostMessage(PostMessageRequest(thread=name, content="x"))
                await until(lambda: commits_tried(server) > tried)
                server.signal(signal.SIGTERM)
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
                for service in ("", request.service):
                    check = await health.Check(health_pb2.HealthCheckRequest(service=service))
                    assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await post).seq == 1
            assert await exit_code(server) == 0


@pytest.mark.slow
@SIGNALS
async def test_under_load_exactly_the_acknowledged_posts_are_stored(
    start_server: StartServer, name: str, number: signal.Signals
) -> None:
    server, ledger = start_server(), Ledger()
    refusals: list[Refusal] = []

    async def poster(bus: BusStub, label: int) -> None:
        for n in range(100_000):
            if refusal := await ledger.attempt(bus, name, f"{label}-{n}"):
                refusals.append(refusal)
                return

    async with asyncio.timeout(30), connected(server.address, name) as client:
        posters = [asyncio.create_task(poster(client.bus, label)) for label in range(50)]
        await until(lambda: len(ledger) > 500)
        server.signal(number)
        await asyncio.gather(*posters)
        assert await exit_code(server) == 0

    server.start()
    async with connected(server.address) as client:
        ledger.check(name, await history(client.bus, name))
    # Refused by the server, or never sent because no server listens any more.
    others = [refusal for refusal in refusals if refusal.reason != "DRAINING"]
    assert [other for other in others if "failed to connect" not in other.message] == []


@pytest.mark.slow
@SIGNALS
async def test_followers_and_posters_continue_with_the_next_server(
    start_server: StartServer, name: str, number: signal.Signals
) -> None:
    server = start_server()
    received: list[Message] = []

    async def follow(thread: ThreadHandle) -> None:
        async with contextlib.aclosing(thread.follow(include_own=True)) as messages:
            async for message in messages:
                received.append(message)  # noqa: PERF401 - it is looked at while it grows

    async with asyncio.timeout(50), BusClient(server.address) as bus, asyncio.TaskGroup() as group:
        thread = await bus.join(name)
        follower = group.create_task(follow(thread))
        for n in range(4):
            await thread.post(f"{n}, before")
            await until(lambda n=n: len(received) == 2 * n + 1)  # type: ignore[misc]
            server.signal(number)
            meanwhile = group.create_task(thread.post(f"{n}, meanwhile"))
            assert await exit_code(server) == 0
            await asyncio.to_thread(server.start)
            await meanwhile
            await until(lambda n=n: len(received) == 2 * n + 2)  # type: ignore[misc]
        follower.cancel()

    when = ("before", "meanwhile")
    assert [m.content for m in received] == [f"{n}, {w}" for n in range(4) for w in when]
