"""Lists of messages, threads and agents, page by page."""

import asyncio

import pytest

from bus_client import (
    AgentNotFound,
    BusClient,
    CursorInvalid,
    MessageFilter,
    MessageNotFound,
    ThreadExists,
    ThreadNotFound,
    ThreadState,
)
from tests.callers import register
from tests.members import contents
from tests.peers import Peer, registered
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

#: Four of these do not fit into one page.
LARGE = "x" * 1_000_000


async def test_messages_are_read_in_a_range(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    await Peer(bus).post_all(thread, *"abcdef")
    async with BusClient(server.address) as client:
        handle = client.thread(thread)

        async def read(**wish: int) -> str:
            return "".join(contents(await handle.messages(**wish)))  # type: ignore[arg-type]

        assert await read() == "abcdef"
        assert await read(after_seq=2) == "cdef"
        assert await read(before_seq=3) == "ab"
        assert await read(after_seq=1, before_seq=5) == "bcd"
        assert await read(after_seq=1, before_seq=2) == ""
        assert await read(limit=2) == "ab"
        assert await read(limit=2, newest=True) == "ef"
        assert await read(limit=2, newest=True, before_seq=5) == "cd"
        assert await read(limit=0) == ""
        assert await read(limit=10**12) == "abcdef"


@pytest.mark.slow
@pytest.mark.parametrize("newest", [False, True])
async def test_many_large_messages_are_read_in_several_pages(
    server: ServerProcess, bus: BusStub, thread: str, newest: bool
) -> None:
    posted = [f"{n} {LARGE}" for n in range(7)]
    await Peer(bus).post_all(thread, *posted)
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        assert contents(await handle.messages(newest=newest)) == posted
        six = posted[1:] if newest else posted[:6]
        assert contents(await handle.messages(newest=newest, limit=6)) == six


@pytest.mark.slow
@pytest.mark.parametrize("newest", [False, True])
async def test_more_than_a_thousand_messages_are_read_in_several_pages(
    server: ServerProcess, bus: BusStub, thread: str, newest: bool
) -> None:
    async with BusClient(server.address) as client:
        await asyncio.gather(*(client.thread(thread).post("x") for _ in range(1_100)))
        handle = client.thread(thread)
        seqs = [m.seq for m in await handle.messages(limit=1_050, newest=newest)]
        assert seqs == list(range(51, 1_101) if newest else range(1, 1_051))
        wanted = MessageFilter(senders=["nobody"])
        assert await handle.messages(limit=1_050, newest=newest, filter=wanted) == []


async def test_messages_are_filtered(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    other = await registered(agents, bus, "other")
    for n in range(3):
        await Peer(bus).post(thread, f"anyone {n}")
        await other.post(thread, f"other {n}")
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        wanted = MessageFilter(senders=[other.name])
        found = await handle.messages(filter=wanted, limit=2)
        assert contents(found) == ["other 0", "other 1"]
        found = await handle.messages(filter=wanted, limit=2, newest=True)
        assert contents(found) == ["other 1", "other 2"]


async def test_one_message_is_read(server: ServerProcess, bus: BusStub, thread: str) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with BusClient(server.address) as client:
        handle = client.thread(thread)
        assert (await handle.message(2)).content == "b"
        with pytest.raises(MessageNotFound):
            await handle.message(3)
        with pytest.raises(ThreadNotFound):
            await client.thread(f"{thread}-2").message(1)


async def test_a_range_past_the_head_is_an_error(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with BusClient(server.address) as client:
        with pytest.raises(CursorInvalid) as refused:
            await client.thread(thread).messages(after_seq=3)
        assert refused.value.metadata["head_seq"] == "2"


@pytest.mark.slow
async def test_all_threads_are_listed_last_active_first(
    server: ServerProcess, threads: ThreadStub, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(250)]
    for each in names:
        await threads.CreateThread(CreateThreadRequest(thread=each))
    async with BusClient(server.address) as client:
        assert [thread.name async for thread in client.list_threads(prefix=name)] == names[::-1]
        await client.thread(names[0]).post("awake")
        first = await anext(client.list_threads(prefix=name))
        assert (first.name, first.head_seq) == (names[0], 1)


async def test_threads_are_listed_by_state_and_participant(
    server: ServerProcess, bus: BusStub, agents: AgentStub, name: str
) -> None:
    member = await registered(agents, bus, name)
    states = {
        "open": ThreadState.THREAD_STATE_OPEN,
        "closed": ThreadState.THREAD_STATE_CLOSED,
        "archived": ThreadState.THREAD_STATE_ARCHIVED,
    }
    async with BusClient(server.address) as client:
        for state, number in states.items():
            thread = await client.join(f"{name}-{state}")
            if state != "archived":
                await member.post(thread.name)
            if state != "open":
                assert (await thread.set_state(number)).state == number
                assert thread.info.state == number

        async def listed(*numbers: ThreadState.ValueType, participant: str = "") -> list[str]:
            found = client.list_threads(prefix=name, states=numbers, participant=participant)
            return sorted([thread.name.rpartition("-")[2] async for thread in found])

        assert await listed() == ["closed", "open"]
        assert await listed(*states.values()) == ["archived", "closed", "open"]
        assert await listed(states["archived"]) == ["archived"]
        assert await listed(*states.values(), participant=member.name) == ["closed", "open"]
        assert await listed(participant="nobody") == []


@pytest.mark.slow
async def test_all_agents_are_listed_by_name(
    server: ServerProcess, agents: AgentStub, name: str
) -> None:
    names = sorted(f"{name}-{n}" for n in range(250))
    for each in names:
        await register(agents, each)
    async with BusClient(server.address) as client:
        listed = [agent.name async for agent in client.list_agents()]
        assert [each for each in listed if each.startswith(name)] == names
        assert (await client.get_agent(names[0])).name == names[0]
        with pytest.raises(AgentNotFound):
            await client.get_agent(f"{name}-nobody")


async def test_threads_are_created_updated_and_deleted(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as client:
        created = await client.create_thread(name, topic="tests", labels={"colour": "blue"})
        assert (created.name, created.topic, dict(created.labels)) == (
            name,
            "tests",
            {"colour": "blue"},
        )
        with pytest.raises(ThreadExists):
            await client.create_thread(name)
        handle = client.thread(name)
        assert handle.info.topic == ""
        assert await handle.refresh() == handle.info == await client.get_thread(name) == created
        await handle.delete()
        for call in (handle.refresh(), handle.delete(), handle.post("x"), handle.messages()):
            with pytest.raises(ThreadNotFound):
                await call
