"""follow() and wait() with observe: for a program that watches beside the agent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, Message, Presence
from tests.members import contents, take
from tests.participation import participants
from tests.peers import Peer
from tests.presence import state
from tests.script import THREAD, Failure, batch, scripted, started
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, WaitMessagesRequest

#: What reads the messages of a thread until there are two.
Read = Callable[[BusClient, str], Awaitable[list[str]]]


async def two(messages: AsyncIterator[Message]) -> list[str]:
    async with contextlib.aclosing(messages):  # type: ignore[type-var]
        return await take(messages, 2)


async def thread_follow(bus: BusClient, thread: str) -> list[str]:
    return await two((await bus.join(thread)).follow(observe=True))


async def thread_wait(bus: BusClient, thread: str) -> list[str]:
    handle = await bus.join(thread)
    found = await handle.wait(timeout=60, min_messages=2, observe=True)
    assert handle.position.after_seq == 2
    await handle.wait(timeout=0, observe=True)
    return contents(found)


async def bus_follow(bus: BusClient, thread: str) -> list[str]:
    return await two(bus.follow([thread], observe=True))


async def bus_inbox(bus: BusClient, thread: str) -> list[str]:
    return await two(bus.inbox(addressed=False, observe=True))


async def bus_wait(bus: BusClient, thread: str) -> list[str]:
    found = await bus.wait(timeout=60, min_messages=2, observe=True)
    assert await bus.wait([thread], timeout=0, observe=True) == found
    return contents(found)


@pytest.mark.parametrize("read", [thread_follow, thread_wait, bus_follow, bus_inbox, bus_wait])
async def test_others_see_nothing_of_it(
    server: ServerProcess,
    bus: BusStub,
    agents: AgentStub,
    threads: ThreadStub,
    thread: str,
    tmp_path: Path,
    read: Read,
) -> None:
    file = tmp_path / "credentials.json"
    client = BusClient(server.address, agent=f"{thread}-me", credentials=file, heartbeats=False)
    async with asyncio.timeout(BOUND), client as me:
        await me.join(thread, start="first")
        await me.heartbeat(state=Presence.PRESENCE_AWAITING_HUMAN, lease=600)
        await Peer(bus).post_all(thread, "a", "b")
        assert await read(me, thread) == ["a", "b"]
    # close() would have reported what was read.
    found = (await participants(threads, thread))[f"{thread}-me"]
    assert (found.delivered_seq, found.read_seq, found.wait_count) == (0, 0, 0)
    assert await state(agents, f"{thread}-me") == "AWAITING_HUMAN"


async def test_it_does_not_wait_for_others(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    async with (
        asyncio.timeout(BOUND),
        BusClient(server.address, agent=f"{thread}-me", credentials=file) as me,
        contextlib.aclosing((await me.join(thread)).follow(observe=True)) as messages,
    ):
        coming = asyncio.create_task(take(messages, 1))
        await Peer(bus).post(thread, "hello")
        assert await coming == ["hello"]
        found = (await participants(threads, thread))[f"{thread}-me"]
        assert (found.waiting, found.delivered_seq) == (False, 0)


async def test_it_begins_no_session(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    async with (
        asyncio.timeout(BOUND),
        BusClient(server.address, agent=f"{thread}-me", credentials=file) as me,
    ):
        handle = await me.join(thread)
        assert await handle.wait(timeout=0) == []
        await Peer(bus).post(thread, "hello")
        await me.end_session()
        assert contents(await me.wait(timeout=0, observe=True)) == ["hello"]
        assert contents(await handle.wait(timeout=0, observe=True)) == ["hello"]
        assert await two_of(handle.follow(observe=True), bus, thread) == ["a", "b"]
        assert await state(agents, f"{thread}-me") == "OFFLINE"


async def two_of(messages: AsyncIterator[Message], bus: BusStub, thread: str) -> list[str]:
    """Returns the next two messages, which are posted meanwhile."""
    coming = asyncio.create_task(two(messages))
    await Peer(bus).post_all(thread, "a", "b")
    return await coming


async def test_it_outlasts_the_session_and_reconnects(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    async with (
        asyncio.timeout(BOUND),
        scripted() as script,
        BusClient(script.address, agent="me", credentials=file, heartbeats=False) as me,
    ):
        broken = asyncio.Event()
        script.answer(
            "WaitMessages", started(), batch(1), broken, Failure(grpc.StatusCode.UNAVAILABLE)
        )
        script.answer("WaitMessages", started(), batch(2), asyncio.Event())
        async with contextlib.aclosing(me.thread(THREAD).follow(observe=True)) as messages:
            assert await take(messages, 1) == ["1"]
            await me.end_session()
            broken.set()
            assert await take(messages, 1) == ["2"]
        assert all(request.observe for request in script.asked(WaitMessagesRequest))
        assert not script.asked(HeartbeatRequest)
