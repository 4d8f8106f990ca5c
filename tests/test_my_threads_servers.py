"""Waits on all threads of an agent, with two servers on the store."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.connections import Connection, connected
from tests.participation import join, participants
from tests.peers import Peer, registered
from tests.polling import until_known
from tests.server_pairs import HASTY, Servers, caller_of, pair, waits
from tests.wait_frames import by_thread, messages_in
from threadbus.v1.message_pb2 import MessageFilter
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    LeaveThreadRequest,
)

ADDRESSED = MessageFilter(addressed_to_me=True)

#: How the servers learn of each other's commits: by hints alone, or by polls alone.
WAYS = {
    "hints": HASTY,
    "polls": ("--hints", "off", "--fallback-interval", "0.2", "--checkpoint-interval", "0.05"),
}


@pytest.fixture(scope="module", params=WAYS)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[Servers]:
    """Two servers on one store, for this module."""
    db = tmp_path_factory.mktemp("servers") / "bus.db"
    with pair(db, *WAYS[request.param]) as both:
        yield both


@pytest.fixture
async def both(servers: Servers, name: str) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connections to both servers. There is a thread with the test's name."""
    async with connected(servers[0].address, name) as here, connected(servers[1].address) as there:
        yield here, there


@pytest.fixture
async def agent(both: tuple[Connection, Connection]) -> Peer:
    """An agent at the first server."""
    return await registered(both[0].agents, both[0].bus, "me")


@pytest.fixture
async def other(both: tuple[Connection, Connection]) -> Peer:
    """An agent at the second server."""
    return await registered(both[1].agents, both[1].bus, "other")


async def test_a_post_at_the_other_server_reaches_it(
    both: tuple[Connection, Connection], agent: Peer, other: Peer, name: str
) -> None:
    await join(both[0].threads, name, agent)
    async with agent.wait(all_my_threads=True) as frames:
        await frames.until("caught_up")
        await other.post_all(name, *"123")
        found = await frames.messages(3)
    assert by_thread(found) == {name: [1, 2, 3]}


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_a_hint_about_a_thread_is_enough(tmp_path: Path, name: str) -> None:
    flags = ("--fallback-interval", "3600", "--checkpoint-interval", "3600")
    with pair(tmp_path / "bus.db", *flags) as (here, there):
        async with connected(here.address, name) as first, connected(there.address) as second:
            agent = await registered(first.agents, first.bus, "me")
            await join(first.threads, name, agent)
            async with agent.wait(all_my_threads=True) as frames:
                await frames.until("caught_up")
                await Peer(second.bus).post(name, "x")
                assert [message.content for message in await frames.messages(1)] == ["x"]


async def test_a_mention_at_the_other_server_adds_the_thread(
    both: tuple[Connection, Connection], agent: Peer, other: Peer, name: str
) -> None:
    async with agent.wait(all_my_threads=True, filter=ADDRESSED) as frames:
        await frames.until("caught_up")
        await other.post(name, "for all")
        await other.post(name, "mention", mentions=[agent.name])
        await frames.until("thread_added")
        await frames.messages(1)
    assert [message.content for message in messages_in(frames.received)] == ["mention"]


async def test_a_thread_that_was_joined_elsewhere_is_added_with_its_next_entry(
    both: tuple[Connection, Connection], agent: Peer, other: Peer, name: str
) -> None:
    there = both[1]
    async with agent.wait(all_my_threads=True) as frames:
        await frames.until("caught_up")
        await join(there.threads, name, Peer(there.bus, agent.caller))
        await other.post(name, "next")
        assert [message.content for message in await frames.messages(1)] == ["next"]


async def test_leaving_and_deleting_elsewhere_end_a_thread(
    both: tuple[Connection, Connection], servers: Servers, agent: Peer, other: Peer, name: str
) -> None:
    here, there = both
    second = f"{name}.2"
    await there.threads.CreateThread(CreateThreadRequest(thread=second))
    for thread in (name, second):
        await join(here.threads, thread, agent)
    async with agent.wait(all_my_threads=True) as frames:
        await frames.until("caught_up")
        leave = LeaveThreadRequest(thread=name)
        await there.threads.LeaveThread(leave, metadata=caller_of(agent).metadata)
        await other.post(name, "not for it")
        assert (await frames.until("thread_removed")).thread_removed.thread == name
        if "--hints" not in servers[0].flags:  # polls see only what is active
            await there.threads.DeleteThread(DeleteThreadRequest(thread=second))
            assert (await frames.until("thread_removed")).thread_removed.thread == second
    assert not messages_in(frames.received)


async def test_who_waits_elsewhere_on_all_threads_is_waiting_in_each(
    both: tuple[Connection, Connection], servers: Servers, agent: Peer, other: Peer, name: str
) -> None:
    here, there = both
    await join(here.threads, name, agent)

    async def waiting(there_too: bool) -> bool:
        found = (await participants(there.threads, name))[agent.name]
        return found.waiting is there_too

    async with agent.wait(all_my_threads=True) as frames:
        await frames.until("caught_up")
        await until_known(lambda: waiting(True))
        (listed,) = await waits(there, servers[1], agent=agent.name)
        assert listed.all_my_threads
    await until_known(lambda: waiting(False))
