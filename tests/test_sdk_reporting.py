"""When a client reports read positions, and which, with a scripted server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, BusError, InternalError, InvalidArgument
from tests.members import take
from tests.polling import until
from tests.script import THREAD, Failure, Script, batch, cursor, keepalive, scripted, started
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import HeartbeatRequest
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import JoinThreadResponse


def reported(script: Script) -> list[list[Cursor]]:
    """The positions in each report. Heartbeats without positions are left out."""
    return [
        list(request.read_cursors)
        for request in script.asked(HeartbeatRequest)
        if request.read_cursors
    ]


@contextlib.asynccontextmanager
async def agent(
    script: Script, home: Path, *, heartbeats: bool = False
) -> AsyncIterator[BusClient]:
    """A connected client of the scripted server, with a time limit."""
    credentials = home / "credentials.json"
    client = BusClient(
        script.address, agent="reader", credentials=credentials, heartbeats=heartbeats
    )
    async with asyncio.timeout(BOUND), client as bus:
        yield bus


@pytest.mark.slow
async def test_read_positions_are_reported_soon_for_several_messages_at_once(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        script.answer("WaitMessages", started(), batch(*range(1, 501)), asyncio.Event())
        async with contextlib.aclosing(bus.thread(THREAD).follow()) as messages:
            await take(messages, 500)
            # The last one is not read yet.
            await until(lambda: [cursor(499)] in reported(script))
            assert len(reported(script)) < 50


async def test_the_last_report_is_sent_when_the_client_is_closed(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            script.answer("WaitMessages", started(), batch(1, 2, 3), asyncio.Event())
            async with contextlib.aclosing(bus.thread(THREAD).follow()) as messages:
                await take(messages, 3)
        assert reported(script)[-1] == [cursor(2)]


async def test_skipped_messages_are_reported_too(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            script.answer("WaitMessages", started(), keepalive(9), asyncio.Event())
            handle = bus.thread(THREAD)
            following = asyncio.create_task(take(handle.follow(), 1))
            await until(lambda: handle.position == cursor(9))
            following.cancel()
            await asyncio.wait([following])
        assert reported(script)[-1] == [cursor(9)]


async def test_without_reads_nothing_is_reported(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            await bus.join(THREAD)
            await bus.thread(THREAD).acknowledge()
        assert reported(script) == []


async def test_anonymous_clients_report_nothing() -> None:
    async with scripted() as script:
        async with BusClient(script.address) as bus:
            script.answer("WaitMessages", started(), batch(1, 2, 3), asyncio.Event())
            handle = bus.thread(THREAD)
            async with contextlib.aclosing(handle.follow()) as messages:
                await take(messages, 3)
            await handle.acknowledge(3)
            assert handle.position.after_seq == 3
        assert reported(script) == []


async def test_the_positions_of_all_threads_are_in_one_report(tmp_path: Path) -> None:
    positions = [Cursor(thread=f"thread-{n}", after_seq=n, epoch="e") for n in range(1, 20)]
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            for position in positions:
                beginning = Cursor(thread=position.thread, epoch="e")
                script.answer("JoinThread", JoinThreadResponse(cursor=beginning))
                script.answer("Heartbeat", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
                handle = await bus.join(position.thread)
                with pytest.raises(InternalError):
                    await handle.acknowledge(position.after_seq)
        assert sorted(reported(script)[-1], key=lambda c: c.after_seq) == positions


@pytest.mark.slow
async def test_a_failed_report_is_sent_with_the_next_half_a_second_later(
    tmp_path: Path,
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        handle = await bus.join(THREAD)
        script.answer("Heartbeat", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
        gate = asyncio.Event()
        script.answer("WaitMessages", started(), batch(1, 2), gate, batch(3, 4), asyncio.Event())
        async with contextlib.aclosing(handle.follow()) as messages:
            await take(messages, 2)
            await until(lambda: reported(script) == [[cursor(1)]])
            gate.set()
            await take(messages, 2)
            await until(lambda: reported(script)[-1] == [cursor(3)])
        times = [at for at, request in script.requests if isinstance(request, HeartbeatRequest)]
        assert times[1] - times[0] > 0.4


async def test_acknowledge_raises_if_the_report_failed_and_keeps_it(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            handle = await bus.join(THREAD)
            script.answer("Heartbeat", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
            with pytest.raises(BusError):
                await handle.acknowledge(5)
            assert handle.position == cursor(5)
        assert reported(script) == [[cursor(5)], [cursor(5)]]


async def test_a_position_that_the_server_refuses_is_not_sent_again_and_the_others_are(
    tmp_path: Path,
) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path) as bus:
            refusal = Failure(
                grpc.StatusCode.INVALID_ARGUMENT,
                "VALIDATION_FAILED",
                fields=["read_cursors[0].thread"],
            )
            script.answer("Heartbeat", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
            script.answer("Heartbeat", refusal)
            with pytest.raises(InternalError):
                await bus.thread("no such name").acknowledge(1)
            handle = await bus.join(THREAD)
            with pytest.raises(InvalidArgument):
                await handle.acknowledge(5)
        bad = Cursor(thread="no such name", after_seq=1)
        assert reported(script) == [[bad], [bad, cursor(5)], [cursor(5)]]


@pytest.mark.slow
async def test_closing_waits_for_a_report_two_seconds_at_most(tmp_path: Path) -> None:
    async with scripted() as script:
        for _ in range(9):
            script.answer("Heartbeat", asyncio.Event())
        async with agent(script, tmp_path) as bus:
            script.answer("WaitMessages", started(), batch(1, 2), asyncio.Event())
            async with contextlib.aclosing(bus.thread(THREAD).follow()) as messages:
                await take(messages, 2)
        assert reported(script)[-1] == [cursor(1)]
