"""When a client sends heartbeats, and what they carry, with a scripted server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, InvalidArgument, Presence, Unreachable
from tests.members import take
from tests.polling import until
from tests.relay import relay_to
from tests.script import THREAD, Failure, Script, batch, cursor, scripted, started
from tests.wait_frames import BOUND, seconds
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, HeartbeatResponse, ThreadUnread

BROKEN = Failure(grpc.StatusCode.INTERNAL, "INTERNAL")


@contextlib.asynccontextmanager
async def agent(script: Script, home: Path, *, heartbeats: bool = True) -> AsyncIterator[BusClient]:
    """A connected client of the scripted server, with a time limit."""
    client = BusClient(
        script.address, agent="worker", credentials=home / "credentials.json", heartbeats=heartbeats
    )
    async with asyncio.timeout(BOUND), client as bus:
        yield bus


def beats(script: Script) -> list[HeartbeatRequest]:
    """Returns the heartbeats that the server received."""
    return script.asked(HeartbeatRequest)


def times(script: Script) -> list[float]:
    """Returns when the server received each."""
    return [at for at, request in script.requests if isinstance(request, HeartbeatRequest)]


async def until_beats(script: Script, count: int) -> None:
    """Wait for this many heartbeats in total."""
    await until(lambda: len(beats(script)) >= count)


def every(interval: float) -> HeartbeatResponse:
    """Returns a response that asks for the next one after this many seconds."""
    return HeartbeatResponse(heartbeat_interval=seconds(interval), agent_timeout=seconds(60))


async def test_the_first_heartbeat_is_sent_at_once(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path):
        await until_beats(script, 1)
        assert beats(script) == [HeartbeatRequest()]


@pytest.mark.slow
async def test_the_next_heartbeats_are_sent_when_the_server_asks_or_a_little_earlier(
    tmp_path: Path,
) -> None:
    async with scripted() as script:
        for _ in range(2):
            script.answer("Heartbeat", every(1.0))
        async with agent(script, tmp_path):
            await until_beats(script, 3)
            first, second, third = times(script)
            assert second - first >= 0.85
            assert third - second >= 0.85
            assert third - first < 3.0


@pytest.mark.slow
async def test_a_failed_heartbeat_is_soon_retried(tmp_path: Path) -> None:
    async with scripted() as script:
        for _ in range(2):
            script.answer("Heartbeat", BROKEN)
        async with agent(script, tmp_path):
            await until_beats(script, 3)
            assert times(script)[-1] - times(script)[0] < 10.0


async def test_anonymous_clients_send_no_heartbeats() -> None:
    async with scripted() as script:
        async with BusClient(script.address) as bus:
            script.answer("WaitMessages", started(), batch(1, 2), asyncio.Event())
            await take(bus.thread(THREAD).follow(), 1)
        assert beats(script) == []


async def test_with_heartbeats_off_only_read_positions_are_sent(tmp_path: Path) -> None:
    async with scripted() as script:
        async with agent(script, tmp_path, heartbeats=False) as bus:
            script.answer("WaitMessages", started(), batch(1, 2), asyncio.Event())
            async with contextlib.aclosing(bus.thread(THREAD).follow()) as messages:
                await take(messages, 2)
        assert beats(script) == [HeartbeatRequest(read_cursors=[cursor(1)])]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["follow", "wait"])
async def test_a_delivery_is_followed_by_a_heartbeat_before_anything_is_read(
    tmp_path: Path, by: str
) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        await until_beats(script, 1)
        gate = asyncio.Event()
        script.answer("WaitMessages", started(), batch(1), gate, batch(2), asyncio.Event())
        handle = bus.thread(THREAD)
        following = asyncio.create_task(
            take(handle.follow(acknowledge=False), 3)
            if by == "follow"
            else handle.wait(timeout=60, min_messages=3)
        )
        await until_beats(script, 2)
        # It no longer wakes up by itself after a pause.
        later = times(script)[1] + 0.6
        await until(lambda: asyncio.get_running_loop().time() > later)
        gate.set()
        await until_beats(script, 3)
        assert not any(request.read_cursors for request in beats(script))
        following.cancel()
        await asyncio.wait([following])


async def test_a_reported_state_is_sent_at_once_and_the_response_returned(tmp_path: Path) -> None:
    answer = every(40)
    answer.unread.append(ThreadUnread(thread=THREAD, head_seq=3, read_seq=1))
    async with scripted() as script, agent(script, tmp_path, heartbeats=False) as bus:
        script.answer("Heartbeat", answer)
        said = await bus.heartbeat(
            state=Presence.PRESENCE_AWAITING_HUMAN, status_text="may I delete it?", lease=600
        )
        assert said == answer
        assert beats(script) == [
            HeartbeatRequest(
                state=Presence.PRESENCE_AWAITING_HUMAN,
                status_text="may I delete it?",
                lease=seconds(600),
            )
        ]


async def test_anonymous_clients_may_report_a_state() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("Heartbeat", every(40))
        assert await bus.heartbeat() == every(40)


async def test_each_heartbeat_repeats_the_last_reported_state(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path, heartbeats=False) as bus:
        handle = await bus.join(THREAD)
        await bus.heartbeat(state=Presence.PRESENCE_WORKING, status_text="compiling", lease=600.0)
        await handle.acknowledge(1)
        await bus.heartbeat(status_text="")
        await bus.heartbeat(lease=0)
        await bus.heartbeat()
    first, second, third, *last = beats(script)
    assert second.state == Presence.PRESENCE_UNSPECIFIED
    assert (second.status_text, list(second.read_cursors)) == ("compiling", [cursor(1)])
    # The rest of the lease.
    assert 0 < first.lease.ToMicroseconds() - second.lease.ToMicroseconds() < 60_000_000
    assert third.status_text == ""
    assert third.HasField("lease")
    assert last == [HeartbeatRequest(), HeartbeatRequest()]


async def test_the_end_of_a_long_lease_does_not_shorten_an_ordinary_one(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path, heartbeats=False) as bus:
        script.answer("Heartbeat", every(40))  # a heartbeat is valid for 60 s
        await bus.heartbeat(lease=59)
        await bus.heartbeat()
        await bus.heartbeat(lease=61)
        script.answer("Heartbeat", HeartbeatResponse(agent_timeout=seconds(600)))
        await bus.heartbeat()
        await bus.heartbeat()
    assert [request.HasField("lease") for request in beats(script)] == [
        *(True, False, True, True, False)
    ]


@pytest.mark.slow
async def test_automatic_heartbeats_repeat_the_state_too(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        await until_beats(script, 1)
        script.answer("Heartbeat", every(0.5))
        await bus.heartbeat(state=Presence.PRESENCE_WORKING, status_text="compiling", lease=600)
        await until_beats(script, 3)
        request = beats(script)[2]
        assert (request.state, request.status_text) == (Presence.PRESENCE_UNSPECIFIED, "compiling")
        assert 540 < request.lease.seconds < 600


@pytest.mark.slow
async def test_any_heartbeat_postpones_the_next(tmp_path: Path) -> None:
    async with scripted() as script:
        script.answer("Heartbeat", every(1.0))
        async with agent(script, tmp_path) as bus:
            await until_beats(script, 1)
            script.answer("Heartbeat", every(2.0))
            await bus.heartbeat()
            await until_beats(script, 3)
            assert times(script)[2] - times(script)[1] >= 1.75


async def test_a_refused_state_is_not_repeated(tmp_path: Path) -> None:
    refusal = Failure(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", fields=["status_text"])
    async with scripted() as script, agent(script, tmp_path, heartbeats=False) as bus:
        await bus.heartbeat(status_text="fine", lease=600)
        script.answer("Heartbeat", refusal)
        with pytest.raises(InvalidArgument):
            await bus.heartbeat(status_text="x" * 257, lease=3_000)
        with pytest.raises(InvalidArgument, match="a lone surrogate"):
            await bus.heartbeat(status_text="\ud800")
        await bus.heartbeat()
    last = beats(script)[-1]
    assert last.status_text == "fine"
    assert 540 < last.lease.seconds < 600


async def test_a_state_that_could_not_be_sent_is_sent_with_the_next(tmp_path: Path) -> None:
    async with scripted() as script:
        client = BusClient(
            script.address,
            agent="worker",
            credentials=tmp_path / "credentials.json",
            heartbeats=False,
            timeout=0.1,
        )
        async with client as bus, asyncio.timeout(BOUND):
            script.answer("Heartbeat", asyncio.Event())
            with pytest.raises(Unreachable):
                await bus.heartbeat(status_text="thinking")
            await bus.heartbeat()
    assert [request.status_text for request in beats(script)] == ["thinking", "thinking"]


@pytest.mark.slow
async def test_the_last_reported_state_arrives_last(tmp_path: Path) -> None:
    async with scripted() as script, agent(script, tmp_path) as bus:
        await until_beats(script, 1)
        gate = asyncio.Event()
        script.answer("Heartbeat", gate, every(40))
        first = asyncio.create_task(bus.heartbeat(status_text="one"))
        await until_beats(script, 2)
        second = asyncio.create_task(bus.heartbeat(status_text="two"))
        for _ in range(3):
            await bus.join(THREAD)  # a heartbeat would have been sent before
        assert len(beats(script)) == 2
        gate.set()
        await asyncio.gather(first, second)
    assert [request.status_text for request in beats(script)[1:]] == ["one", "two"]


@pytest.mark.slow
async def test_heartbeats_survive_disconnects(tmp_path: Path) -> None:
    async with scripted() as script, relay_to(script.address) as relay:
        for _ in range(9):
            script.answer("Heartbeat", every(0.5))
        client = BusClient(relay.address, agent="worker", credentials=tmp_path / "credentials.json")
        async with asyncio.timeout(BOUND), client:
            for _ in range(3):
                await until_beats(script, len(beats(script)) + 1)
                relay.cut()
            await until_beats(script, len(beats(script)) + 1)


async def test_heartbeats_end_with_the_client(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with scripted() as script, agent(script, tmp_path):
        await until_beats(script, 1)
        assert asyncio.all_tasks() > before
    await until(lambda: asyncio.all_tasks() <= before)
