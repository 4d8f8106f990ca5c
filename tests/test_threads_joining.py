"""JoinThread: what one call returns to a newcomer, and where the caller resumes."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.callers import Caller, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import waiting
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, PostMessageRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import (
    JOIN_START_FIRST,
    JOIN_START_HEAD,
    JOIN_START_UNSPECIFIED,
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinStart,
    JoinThreadRequest,
    JoinThreadResponse,
    ListParticipantsRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@pytest.fixture
async def agent(agents: AgentStub, name: str) -> Caller:
    """A newly registered agent."""
    return await register(agents, name)


async def say(bus: BusStub, thread: str, *contents: str) -> None:
    for content in contents:
        await bus.PostMessage(PostMessageRequest(thread=thread, content=content))


async def join(
    threads: ThreadStub, thread: str, by: Caller | None = None, **fields: Any
) -> JoinThreadResponse:
    request = JoinThreadRequest(thread=thread, **fields)
    return await threads.JoinThread(request, metadata=by.metadata if by else ())


async def resumes_at(threads: ThreadStub, thread: str, agent: Caller) -> int:
    """Returns the seq after which an agent resumes."""
    return (await join(threads, thread, agent)).cursor.after_seq


async def heartbeat(bus: BusStub, agent: Caller, *cursors: Cursor) -> None:
    await bus.Heartbeat(HeartbeatRequest(read_cursors=cursors), metadata=agent.metadata)


def contents(joined: JoinThreadResponse) -> list[str]:
    return [message.content for message in joined.context]


async def test_joining_creates_a_thread_if_asked_to(
    threads: ThreadStub, agent: Caller, name: str
) -> None:
    first = await join(threads, name, agent, create=True, topic="a topic")
    assert first.created
    assert (first.thread.name, first.thread.topic) == (name, "a topic")
    assert (first.thread.creator, first.thread.state) == (name, THREAD_STATE_OPEN)
    assert first.cursor == Cursor(thread=name, after_seq=0, epoch=first.thread.epoch)
    assert first.thread == (await threads.GetThread(GetThreadRequest(thread=name))).thread

    again = await join(threads, name, agent, create=True, topic="another topic")
    assert (again.created, again.thread) == (False, first.thread)


async def test_joining_creates_no_thread_unless_asked_to(threads: ThreadStub, name: str) -> None:
    assert (await refused(threads.JoinThread(JoinThreadRequest(thread=name)))).reason == (
        "THREAD_NOT_FOUND"
    )
    assert (await refused(threads.GetThread(GetThreadRequest(thread=name)))).reason == (
        "THREAD_NOT_FOUND"
    )


async def test_of_concurrent_joins_one_creates_the_thread(threads: ThreadStub, name: str) -> None:
    answers = await asyncio.gather(*(join(threads, name, create=True) for _ in range(16)))
    assert sorted(answer.created for answer in answers) == [False] * 15 + [True]
    assert len({answer.thread.epoch for answer in answers}) == 1


@pytest.mark.parametrize(
    ("start", "after_seq"),
    [(JOIN_START_UNSPECIFIED, 3), (JOIN_START_HEAD, 3), (JOIN_START_FIRST, 0)],
)
@pytest.mark.parametrize("registered", [True, False])
async def test_a_newcomer_starts_where_it_asks_to(
    threads: ThreadStub,
    bus: BusStub,
    agent: Caller,
    thread: str,
    start: JoinStart.ValueType,
    after_seq: int,
    registered: bool,
) -> None:
    await say(bus, thread, "1", "2", "3")
    joined = await join(threads, thread, agent if registered else None, start=start)
    assert joined.cursor == Cursor(thread=thread, after_seq=after_seq, epoch=joined.thread.epoch)
    assert joined.thread.head_seq == 3


@pytest.mark.parametrize("start", [JOIN_START_HEAD, JOIN_START_FIRST])
async def test_an_agent_that_rejoins_resumes_where_it_started(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str, start: JoinStart.ValueType
) -> None:
    await say(bus, thread, "1", "2", "3")
    first = await join(threads, thread, agent, start=start)
    await say(bus, thread, "4", "5")
    for again in (JOIN_START_HEAD, JOIN_START_FIRST):
        assert (await join(threads, thread, agent, start=again)).cursor == first.cursor


async def test_anonymous_is_a_newcomer_each_time(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    for n in range(1, 4):
        await say(bus, thread, "x")
        assert (await join(threads, thread)).cursor.after_seq == n


async def test_a_heartbeat_raises_the_read_position_and_never_lowers_it(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await join(threads, thread, agent)
    await say(bus, thread, "1", "2", "3", "4")
    epoch = (await join(threads, thread)).thread.epoch
    for reported, resumed in [(2, 2), (1, 2), (0, 2), (3, 3), (4, 4), (2, 4)]:
        await heartbeat(bus, agent, Cursor(thread=thread, after_seq=reported, epoch=epoch))
        assert await resumes_at(threads, thread, agent) == resumed


async def test_the_furthest_of_several_heartbeats_counts(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    joined = await join(threads, thread, agent)
    await say(bus, thread, "1", "2", "3", "4")
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=1))
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=3, epoch=joined.thread.epoch))
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=2))
    assert await resumes_at(threads, thread, agent) == 3


@pytest.mark.parametrize("seq", [5, 2**53, 2**63 - 1])
async def test_a_heartbeat_past_the_head_is_ignored(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str, seq: int
) -> None:
    await join(threads, thread, agent)
    await say(bus, thread, "1", "2", "3", "4")
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=seq))
    assert await resumes_at(threads, thread, agent) == 0
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=1))
    assert await resumes_at(threads, thread, agent) == 1


async def test_a_heartbeat_past_the_head_does_not_hide_a_valid_one(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await join(threads, thread, agent)
    await say(bus, thread, "1", "2", "3", "4")
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=2**53))
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=3))
    assert await resumes_at(threads, thread, agent) == 3


async def test_invalid_positions_in_a_heartbeat_do_not_affect_the_others(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str, name: str
) -> None:
    other = f"{name}-2"
    await join(threads, other, agent, create=True)
    await join(threads, thread, agent)
    await say(bus, thread, "1", "2")
    await say(bus, other, "1", "2")
    await heartbeat(
        bus,
        agent,
        Cursor(thread="unknown", after_seq=1),
        Cursor(thread=other, after_seq=1, epoch="another"),
        Cursor(thread=thread, after_seq=2),
    )
    assert await resumes_at(threads, thread, agent) == 2
    assert await resumes_at(threads, other, agent) == 0


async def test_a_heartbeat_counts_for_its_caller_only(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, agent: Caller, thread: str, name: str
) -> None:
    other = await register(agents, f"{name}-2")
    for caller in (agent, other):
        await join(threads, thread, caller)
    await say(bus, thread, "1", "2")
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=2))
    await bus.Heartbeat(HeartbeatRequest(read_cursors=[Cursor(thread=thread, after_seq=1)]))
    assert await resumes_at(threads, thread, other) == 0


async def test_a_heartbeat_about_a_deleted_thread_does_not_count_for_its_successor(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    old = await join(threads, thread, agent)
    await threads.DeleteThread(DeleteThreadRequest(thread=thread))
    await threads.CreateThread(CreateThreadRequest(thread=thread))
    await join(threads, thread, agent)
    await say(bus, thread, "1", "2")
    await heartbeat(bus, agent, Cursor(thread=thread, after_seq=2, epoch=old.thread.epoch))
    assert await resumes_at(threads, thread, agent) == 0


async def test_based_on_seq_raises_the_read_position_and_never_lowers_it(
    threads: ThreadStub, bus: BusStub, agent: Caller, thread: str
) -> None:
    await say(bus, thread, "1", "2", "3")
    for based_on, resumed in [(2, 2), (1, 2), (4, 4)]:
        post = PostMessageRequest(thread=thread, content="x", based_on_seq=based_on)
        await bus.PostMessage(post, metadata=agent.metadata)
        assert await resumes_at(threads, thread, agent) == resumed


@pytest.mark.slow
async def test_where_an_agent_resumes_survives_restarts(start_server: StartServer) -> None:
    server = start_server()
    async with grpc.aio.insecure_channel(server.address) as channel:
        threads: ThreadStub = ThreadServiceStub(channel)
        bus: BusStub = BusServiceStub(channel)
        agent = await register(AgentServiceStub(channel), "coder")
        await join(threads, "design", agent, create=True)
        await say(bus, "design", "1", "2", "3")
        await heartbeat(bus, agent, Cursor(thread="design", after_seq=2))
        server.stop()  # which saves the positions
    for end in (server.kill, server.stop):
        server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            assert await resumes_at(ThreadServiceStub(channel), "design", agent) == 2
        end()
    server.start()


@pytest.mark.parametrize(
    ("limit", "context"),
    [(0, []), (1, ["3"]), (2, ["2", "3"]), (3, ["1", "2", "3"]), (2**31 - 1, ["1", "2", "3"])],
)
async def test_the_context_is_the_newest_messages_that_a_wait_will_not_repeat(
    threads: ThreadStub,
    bus: BusStub,
    agent: Caller,
    thread: str,
    limit: int,
    context: list[str],
) -> None:
    await say(bus, thread, "1", "2", "3")
    assert contents(await join(threads, thread, agent, context_limit=limit)) == context
    await say(bus, thread, "4", "5")
    assert contents(await join(threads, thread, agent, context_limit=limit)) == context
    assert [m.seq for m in (await join(threads, thread, context_limit=1)).context] == [5]


async def test_an_agent_that_starts_at_the_first_message_gets_no_context(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await say(bus, thread, "1", "2")
    joined = await join(threads, thread, start=JOIN_START_FIRST, context_limit=10)
    assert (joined.cursor.after_seq, contents(joined)) == (0, [])


async def test_the_context_is_at_most_a_hundred_messages(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await say(bus, thread, *(str(n) for n in range(1, 104)))
    joined = await join(threads, thread, context_limit=1_000)
    assert contents(joined) == [str(n) for n in range(4, 104)]


async def test_the_context_is_at_most_about_a_mebibyte(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await say(bus, thread, *(str(n) * 400_000 for n in range(5)), "x" * 1024 * 1024, "last")
    joined = await join(threads, thread, context_limit=100)
    assert contents(joined) == ["last"]
    await say(bus, thread, *(str(n) * 400_000 for n in range(5)))
    joined = await join(threads, thread, context_limit=100)
    assert contents(joined) == [str(n) * 400_000 for n in (3, 4)]


@pytest.mark.parametrize("field", ["mentions", "handoff_to"])
@pytest.mark.parametrize(("start", "after"), [(JOIN_START_HEAD, 3), (JOIN_START_FIRST, 0)])
async def test_a_mention_does_not_move_a_newcomers_start(
    bus: BusStub,
    threads: ThreadStub,
    agent: Caller,
    thread: str,
    field: str,
    start: JoinStart.ValueType,
    after: int,
) -> None:
    await say(bus, thread, "1")
    named: dict[str, Any] = {field: [agent.name] if field == "mentions" else agent.name}
    await bus.PostMessage(PostMessageRequest(thread=thread, content="2", **named))
    await say(bus, thread, "3")
    listed = await threads.ListParticipants(ListParticipantsRequest(thread=thread))
    assert [(found.agent, found.read_seq) for found in listed.participants] == [(agent.name, 0)]
    beat = await bus.Heartbeat(HeartbeatRequest(), metadata=agent.metadata)
    assert [(found.head_seq, found.read_seq) for found in beat.unread] == [(3, 0)]
    joined = await join(threads, thread, agent, start=start)
    assert joined.cursor.after_seq == after
    assert [found.read_seq for found in joined.participants] == [after]
    await say(bus, thread, "4")
    assert await resumes_at(threads, thread, agent) == after


async def test_an_agent_that_was_mentioned_and_has_read_or_posted_is_no_newcomer(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, agent: Caller, thread: str
) -> None:
    reader, writer = (
        await register(agents, f"{agent.name}-r"),
        await register(agents, f"{agent.name}-w"),
    )
    names = [reader.name, writer.name]
    await bus.PostMessage(PostMessageRequest(thread=thread, content="1", mentions=names))
    await say(bus, thread, "2")
    await heartbeat(bus, reader, Cursor(thread=thread, after_seq=1))
    post = PostMessageRequest(thread=thread, content="3")
    await bus.PostMessage(post, metadata=writer.metadata)
    await say(bus, thread, "4")
    assert await resumes_at(threads, thread, reader) == 1
    assert await resumes_at(threads, thread, writer) == 0


async def test_a_mentioned_agent_that_only_waited_is_a_newcomer_after_a_restart_too(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        post = PostMessageRequest(thread=name, content="1", mentions=[agent.name])
        await client.bus.PostMessage(post)
        async with waiting(client.bus, name, max_wait=0, metadata=agent.metadata) as frames:
            await frames.ending()
        assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        listed = await client.threads.ListParticipants(ListParticipantsRequest(thread=name))
        assert [(each.delivered_seq, each.read_seq) for each in listed.participants] == [(1, 0)]
        assert await resumes_at(client.threads, name, agent) == 1
