"""Waits and tokens end rightly on one server after another one on the file has written."""

from collections.abc import Awaitable

import grpc
import pytest

from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.peers import Peer
from tests.polling import until_known
from tests.presence import beat, state, until_state
from tests.refusals import refused
from tests.wait_frames import messages_in, positions_in, waiting
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitEnding
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import DeleteThreadRequest


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
async def test_max_wait_ends_only_after_what_another_server_committed_before_it(
    start_server: StartServer, name: str, threads: int
) -> None:
    # Without the fallback nothing wakes the wait but its own end.
    servers = [start_server("--fallback-interval", "0") for _ in range(2)]
    names = [f"{name}-{n}" for n in range(threads)]
    async with (
        connected(servers[0].address, *names) as here,
        connected(servers[1].address) as there,
        waiting(here.bus, *names, max_wait=2, keepalive=300) as frames,
    ):
        for _ in names:
            await frames.until("caught_up")
        for thread in names:
            await there.bus.PostMessage(PostMessageRequest(thread=thread, content="hello"))
        rest = await frames.rest()
    assert sorted((message.thread, message.seq) for message in messages_in(rest)) == [
        (thread, 1) for thread in names
    ]
    assert rest[-1].ending.reason == WaitEnding.REASON_MAX_WAIT
    told = {position.cursor.thread: position for position in positions_in(rest[-1])}
    assert {thread: told[thread].cursor.after_seq for thread in names} == dict.fromkeys(names, 1)


@pytest.mark.slow
async def test_max_wait_ends_with_not_found_when_another_server_deleted_the_thread(
    start_server: StartServer, name: str
) -> None:
    servers = [start_server("--fallback-interval", "0") for _ in range(2)]
    async with (
        connected(servers[0].address, name) as here,
        connected(servers[1].address) as there,
        waiting(here.bus, name, max_wait=2, keepalive=300) as frames,
    ):
        await frames.until("caught_up")
        await there.threads.DeleteThread(DeleteThreadRequest(thread=name))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await frames.rest()
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
async def test_a_token_that_ends_at_one_server_ends_at_the_other(
    start_server: StartServer, name: str
) -> None:
    servers = [start_server("--fallback-interval", "0.1") for _ in range(2)]
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        rotated, gone = [await register(here.agents, f"{name}-{n}") for n in range(2)]

        async def ended(caller: Caller) -> str:
            """Returns why the token no longer works here; empty if it works."""
            try:
                await Peer(here.bus, caller).post(name)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED
                return (await refused(Peer(here.bus, caller).post(name))).reason
            return ""

        async with Peer(here.bus, rotated).wait(Cursor(thread=name)) as frames:
            assert [await ended(caller) for caller in (rotated, gone)] == ["", ""]
            await there.agents.RotateToken(RotateTokenRequest(), metadata=rotated.metadata)
            await there.agents.UnregisterAgent(UnregisterAgentRequest(), metadata=gone.metadata)
            await until_known(lambda: is_now(ended(rotated), "TOKEN_EXPIRED"))
            await until_known(lambda: is_now(ended(gone), "TOKEN_INVALID"))
            assert (await refused(frames.failure())).reason == "TOKEN_EXPIRED"


async def is_now(found: Awaitable[str], wanted: str) -> bool:
    """Returns whether a value has become `wanted`; until then it must be empty."""
    now = await found
    assert now in ("", wanted)
    return now == wanted


@pytest.mark.slow
async def test_a_session_ended_through_another_server_ends_the_agents_waits(
    start_server: StartServer, name: str
) -> None:
    flags = ("--checkpoint-interval", "0.05", "--fallback-interval", "0.1")
    servers = [start_server(*flags) for _ in range(2)]
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        agent = await register(here.agents, name)
        async with waiting(here.bus, name, metadata=agent.metadata) as frames:
            await frames.until("caught_up")
            await there.agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
            assert (await frames.ending()).reason == WaitEnding.REASON_SESSION_ENDED
        assert await state(here.agents, name) == "OFFLINE"
        await beat(there.bus, agent)
        await until_state(here.agents, name, "IDLE")
        async with waiting(here.bus, name, metadata=agent.metadata) as frames:
            await frames.until("caught_up")
            assert await state(here.agents, name) == "WAITING"
