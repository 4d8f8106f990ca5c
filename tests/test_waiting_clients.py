"""WaitMessages: the limit on an agent's open waits, and clients that leave nothing behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from tests.conftest import StartServer
from tests.peers import Peer, recreate, registered
from tests.refusals import refused
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND, Frames
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

pytestmark = pytest.mark.slow

QUOTA = 5


@pytest.fixture
def limited(start_server: StartServer) -> ServerProcess:
    """A server that allows each agent few open waits."""
    return start_server("--max-open-waits", str(QUOTA))


@pytest.fixture
async def near(limited: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the limited server."""
    async with grpc.aio.insecure_channel(limited.address) as opened:
        yield opened


@pytest.fixture
async def coder(near: grpc.aio.Channel) -> Peer:
    """An agent there; thread `t` has more history than a connection buffers."""
    await ThreadServiceStub(near).CreateThread(CreateThreadRequest(thread="t"))
    peer = await registered(AgentServiceStub(near), BusServiceStub(near), "coder")
    for _ in range(16):
        await peer.post("t", "x" * 1_000_000)
    return peer


async def fill(stack: contextlib.AsyncExitStack, peer: Peer) -> list[Frames]:
    """Open as many waits as allowed, once earlier ones have ended."""
    waits: list[Frames] = []
    async with asyncio.timeout(BOUND):
        while len(waits) < QUOTA:
            frames = await stack.enter_async_context(peer.wait("t"))
            try:
                await frames.next()
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            else:
                waits.append(frames)
    return waits


async def check_quota(peer: Peer) -> None:
    """Check that the whole quota is free, and no more than that."""
    async with contextlib.AsyncExitStack() as stack:
        await fill(stack, peer)
        async with peer.wait("t") as frames:
            refusal = await refused(frames.failure())
        assert (refusal.reason, refusal.metadata) == ("QUOTA_EXCEEDED", {"limit": str(QUOTA)})
        assert len(refusal.quotas) == 1
        assert frames.received == []


async def test_an_agent_can_open_no_more_waits_than_allowed(
    near: grpc.aio.Channel, coder: Peer
) -> None:
    await check_quota(coder)
    other = await registered(AgentServiceStub(near), BusServiceStub(near), "other")
    async with contextlib.AsyncExitStack() as stack:
        await fill(stack, coder)
        await check_quota(other)


async def test_waits_of_anonymous_are_not_counted(near: grpc.aio.Channel, coder: Peer) -> None:
    anyone = Peer(BusServiceStub(near))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3 * QUOTA):
            await (await stack.enter_async_context(anyone.wait("t"))).next()


async def test_a_cancelled_wait_makes_room_for_another(coder: Peer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        waits = await fill(stack, coder)
        for frames in waits:
            frames.cancel()
        await fill(stack, coder)


async def cancel_at_once(peer: Peer) -> None:
    async with peer.wait("t"):
        pass


async def cancel_once_it_is_open(peer: Peer) -> None:
    async with peer.wait("t") as frames:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await frames.next()


async def cancel_in_mid_history(peer: Peer) -> None:
    async with peer.wait("t") as frames:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await frames.messages(2)


async def cancel_when_all_is_read(peer: Peer) -> None:
    async with peer.wait("t") as frames:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await frames.until("caught_up")


async def let_it_end(peer: Peer) -> None:
    async with peer.wait("t", max_wait=0, max_messages=1) as frames:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await frames.rest()


async def let_the_deadline_pass(peer: Peer) -> None:
    async with peer.wait("t", timeout=0.01) as frames:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await frames.rest()


async def wait_on_a_missing_thread(peer: Peer) -> None:
    async with peer.wait("t", "unknown") as frames:
        assert (await refused(frames.failure())).reason in ("THREAD_NOT_FOUND", "QUOTA_EXCEEDED")


@pytest.mark.parametrize(
    "leave",
    [
        cancel_at_once,
        cancel_once_it_is_open,
        cancel_in_mid_history,
        cancel_when_all_is_read,
        let_it_end,
        let_the_deadline_pass,
        wait_on_a_missing_thread,
    ],
    ids=lambda leave: leave.__name__,
)
async def test_however_a_wait_ends_nothing_is_left_of_it(
    limited: ServerProcess, coder: Peer, leave: Callable[[Peer], Awaitable[None]]
) -> None:
    await asyncio.gather(*(leave(coder) for _ in range(2 * QUOTA)))
    await check_quota(coder)
    assert limited.stop() == 0
    assert not [line for line in limited.log if "ERROR" in line or "Traceback" in line]


async def test_waits_end_with_their_connection(limited: ServerProcess, coder: Peer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        away = grpc.aio.insecure_channel(limited.address)
        bus: BusStub = BusServiceStub(away)
        await fill(stack, Peer(bus, coder.caller))
        await away.close()
        await check_quota(coder)


async def test_waits_on_a_deleted_thread_leave_nothing_behind(
    near: grpc.aio.Channel, coder: Peer
) -> None:
    threads: ThreadStub = ThreadServiceStub(near)
    async with contextlib.AsyncExitStack() as stack:
        waits = await fill(stack, coder)
        await recreate(threads, "t")
        for frames in waits:
            assert (await refused(frames.failure())).reason == "THREAD_NOT_FOUND"
        await check_quota(coder)
