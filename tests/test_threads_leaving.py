"""LeaveThread: which state of an agent is dropped, and which stays."""

import pytest

from tests.participation import join, leave, participants, position, report_read
from tests.peers import Peer, registered
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    ListThreadsRequest,
)


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def test_an_agent_that_leaves_is_no_participant_and_its_messages_stay(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str, agent: Peer
) -> None:
    another = await registered(agents, bus, "another")
    await agent.post(thread, "mine", mentions=[another.name])
    for _ in range(2):
        await leave(threads, thread, agent)
        assert list(await participants(threads, thread)) == [another.name]
    listed = await threads.ListThreads(ListThreadsRequest(participant=agent.name))
    assert list(listed.threads) == []
    assert [message.sender for message in await another.read(thread)] == [agent.name]


async def test_anonymous_cannot_leave(
    threads: ThreadStub, bus: BusStub, agent: Peer, thread: str
) -> None:
    await agent.post(thread)
    before = await participants(threads, thread)
    await leave(threads, thread, Peer(bus))
    assert await participants(threads, thread) == before


async def test_leaving_a_thread_that_was_never_joined_changes_nothing(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, thread: str, agent: Peer
) -> None:
    await agent.post(thread)
    await leave(threads, thread, await registered(agents, bus, "another"))
    assert list(await participants(threads, thread)) == [agent.name]


async def test_leaving_an_unknown_thread_is_refused(
    threads: ThreadStub, bus: BusStub, agent: Peer
) -> None:
    for peer in (agent, Peer(bus)):
        refusal = await refused(leave(threads, "unknown", peer))
        assert (refusal.reason, refusal.resources) == (
            "THREAD_NOT_FOUND",
            [("thread", "unknown")],
        )


async def test_an_agent_that_rejoins_after_leaving_is_a_newcomer(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post_all(thread, "1", "2", "3")
    await report_read(bus, agent, thread, 1)
    await leave(threads, thread, agent)
    joined = await join(threads, thread, agent)
    assert joined.cursor.after_seq == 3
    await leave(threads, thread, agent)
    joined = await join(threads, thread, agent, start=JOIN_START_FIRST)
    assert joined.cursor.after_seq == 0


@pytest.mark.parametrize("back", ["posts", "is mentioned"])
async def test_an_agent_back_without_joining_has_read_nothing(
    threads: ThreadStub, bus: BusStub, thread: str, agent: Peer, back: str
) -> None:
    await join(threads, thread, agent)
    await Peer(bus).post_all(thread, "1", "2", "3")
    await agent.read(thread)
    await report_read(bus, agent, thread, 3)
    assert await position(threads, thread, agent) == (3, 3)
    await leave(threads, thread, agent)
    if back == "posts":
        await agent.post(thread)
    else:
        await Peer(bus).post(thread, mentions=[agent.name])
    assert await position(threads, thread, agent) == (0, 0)
