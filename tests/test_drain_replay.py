"""Draining during a long replay: the replay ends early with the reason DRAINING."""

import asyncio
import signal

import grpc
import pytest

from tests.conftest import StartServer
from tests.connections import connected
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import BusStub
from tests.wait_frames import BOUND, by_thread, cursors_after, kinds, messages_in, waiting
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest, WaitEnding

THREADS, SIZE = 60, 900 * 1024


async def draining(bus: BusStub) -> bool:
    """Returns whether a server refuses calls because it is draining."""
    try:
        await bus.GetServerInfo(GetServerInfoRequest(), timeout=BOUND)
    except grpc.aio.AioRpcError:
        return (await refused(bus.GetServerInfo(GetServerInfoRequest()))).reason == "DRAINING"
    return False


@pytest.mark.slow
async def test_a_replay_of_many_threads_ends_early_with_draining_and_ok(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--durability", "fast")
    names = [f"{name}-{n}" for n in range(THREADS)]
    async with (
        connected(server.address, *names) as client,
        connected(server.address) as other,
    ):
        for start in range(0, THREADS, 10):
            requests = [
                PostMessageRequest(thread=thread, content="x" * SIZE)
                for thread in names[start : start + 10]
            ]
            await asyncio.gather(*(client.bus.PostMessage(request) for request in requests))
        async with waiting(client.bus, *names) as frames:
            await frames.until("started")
            await frames.messages(1)
            server.signal(signal.SIGTERM)
            await until_known(lambda: draining(other.bus))
            assert (await frames.ending()).reason == WaitEnding.REASON_DRAINING
        assert kinds(frames.received).count("ending") == 1
        came = by_thread(messages_in(frames.received))
        assert 0 < len(came) < THREADS  # or else this test shows nothing
        resume = {cursor.thread: cursor.after_seq for cursor in cursors_after(frames.received)}
        assert resume == {thread: len(came.get(thread, ())) for thread in names}
    assert server.process is not None
    assert await asyncio.to_thread(server.process.wait, 10) == 0
