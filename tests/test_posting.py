"""PostMessage: what is stored, what is returned, and who becomes a participant."""

import asyncio
import time

import pytest

from tests.callers import operator
from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_ANONYMOUS
from threadbus.v1.bus_service_pb2 import PostMessageResponse
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    PRIORITY_NORMAL,
    PRIORITY_UNSPECIFIED,
    WAKE_ALL,
    Message,
    Priority,
)
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
)


async def participants(threads: ThreadStub, thread: str, *peers: Peer) -> list[str]:
    """Returns which of the peers are participants of the thread."""
    found = []
    for peer in peers:
        request = ListThreadsRequest(participant=peer.name, prefix=thread)
        if [listed.name for listed in (await threads.ListThreads(request)).threads] == [thread]:
            found.append(peer.name)
    return found


async def test_posts_get_seqs_without_gaps(bus: BusStub, thread: str) -> None:
    assert await Peer(bus).post_all(thread, *"abcde") == [1, 2, 3, 4, 5]


async def test_each_thread_numbers_its_own_posts(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post_all(thread, *"abc")
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.other"))
    assert (await anyone.post(f"{thread}.other")).seq == 1
    assert (await anyone.post(thread)).seq == 4


async def test_concurrent_posts_get_each_seq_once(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    answers = await asyncio.gather(*(anyone.post(thread, str(n)) for n in range(100)))
    assert sorted(answer.seq for answer in answers) == list(range(1, 101))
    stored = {message.seq: message.content for message in await anyone.read(thread)}
    assert stored == {answer.seq: str(n) for n, answer in enumerate(answers)}


async def test_the_response_names_the_seq_and_the_time(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    answer = await anyone.post(thread)
    [message] = (await anyone.read(thread))[1:]
    epoch = (await threads.GetThread(GetThreadRequest(thread=thread))).thread.epoch
    assert answer == PostMessageResponse(
        thread=thread, seq=2, create_time=message.create_time, last_seq=2, epoch=epoch
    )
    assert epoch


async def test_a_message_with_content_only_is_stored_as_it_is(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    answer = await anyone.post(thread, "hello")
    assert await anyone.read(thread) == [
        Message(
            thread=thread,
            seq=1,
            sender="anonymous",
            sender_kind=AGENT_KIND_ANONYMOUS,
            kind=MESSAGE_KIND_CHAT,
            content="hello",
            create_time=answer.create_time,
            priority=PRIORITY_NORMAL,
            wakes=WAKE_ALL,
            content_size=5,
        )
    ]


async def test_create_time_is_the_servers_clock_in_microseconds(bus: BusStub, thread: str) -> None:
    before = time.time_ns()
    answers = [await Peer(bus).post(thread) for _ in range(20)]
    after = time.time_ns()
    times = [answer.create_time.ToNanoseconds() for answer in answers]
    assert before - 1_000 <= times[0] <= times[-1] <= after
    assert times == sorted(times)
    assert all(moment % 1_000 == 0 for moment in times)
    assert any(moment % 1_000_000 for moment in times)


async def test_the_server_stamps_the_sender(bus: BusStub, agents: AgentStub, thread: str) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.post(thread, labels={"sender": "somebody-else"})
    [message] = await coder.read(thread)
    assert (message.sender, message.sender_kind) == (coder.name, AGENT_KIND_AGENT)


async def test_only_an_operator_posts_on_behalf_of_another(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    boss = Peer(bus, operator(server))
    for caller in (coder, Peer(bus)):
        refusal = await refused(caller.post(thread, on_behalf_of=coder.name))
        assert refusal.reason == "ACCESS_DENIED"
    await boss.post(thread, on_behalf_of=coder.name)
    [message] = await boss.read(thread)
    assert (message.sender, message.posted_by) == (coder.name, "operator")
    assert message.sender_kind == AGENT_KIND_AGENT


async def test_an_unknown_agent_that_is_posted_for_is_registered(
    server: ServerProcess, bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    boss = Peer(bus, operator(server))
    await boss.post(thread, on_behalf_of=name)
    await boss.post(thread, mentions=[name])
    assert [message.mentions for message in await boss.read(thread)] == [[], [name]]


async def test_priority_defaults_to_normal(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for priority in Priority.values():
        await anyone.post(thread, priority=priority)
    stored = [message.priority for message in await anyone.read(thread)]
    assert stored == [
        PRIORITY_NORMAL if priority == PRIORITY_UNSPECIFIED else priority
        for priority in Priority.values()
    ]


async def test_a_post_to_an_unknown_thread_is_refused_and_creates_none(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    refusal = await refused(Peer(bus).post(name))
    assert (refusal.reason, refusal.resources) == ("THREAD_NOT_FOUND", [("thread", name)])
    refusal = await refused(threads.GetThread(GetThreadRequest(thread=name)))
    assert refusal.reason == "THREAD_NOT_FOUND"


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_a_closed_thread_refuses_posts_until_it_is_opened(
    bus: BusStub, threads: ThreadStub, thread: str, state: ThreadState.ValueType
) -> None:
    anyone = Peer(bus)
    await set_state(threads, thread, state)
    assert (await refused(anyone.post(thread))).reason == "THREAD_CLOSED"
    await set_state(threads, thread, THREAD_STATE_OPEN)
    assert (await anyone.post(thread)).seq == 3


async def test_a_deleted_thread_refuses_posts(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    await threads.DeleteThread(DeleteThreadRequest(thread=thread))
    assert (await refused(Peer(bus).post(thread))).reason == "THREAD_NOT_FOUND"


async def test_anyone_may_post_anywhere_and_becomes_a_participant(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    reader = await registered(agents, bus, "reader")
    await reader.read(thread)
    assert await participants(threads, thread, coder, reader) == []
    await coder.post(thread)
    assert await participants(threads, thread, coder, reader) == [coder.name]


async def test_agents_mentioned_and_handed_to_become_participants(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    anna, bert, carl = [await registered(agents, bus, name) for name in ("anna", "bert", "carl")]
    await Peer(bus).post(thread, mentions=[anna.name], handoff_to=bert.name)
    assert await participants(threads, thread, anna, bert, carl) == [anna.name, bert.name]


async def test_mentions_keep_their_order_and_lose_their_duplicates(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    anna, bert, carl = [
        (await registered(agents, bus, name)).name for name in ("anna", "bert", "carl")
    ]
    await Peer(bus).post(thread, mentions=[carl, anna, carl, bert, anna], handoff_to=anna)
    [message] = await Peer(bus).read(thread)
    assert (list(message.mentions), message.handoff_to) == ([carl, anna, bert], anna)


async def test_agents_that_are_not_registered_cannot_be_addressed(
    bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    anyone = Peer(bus)
    known = (await registered(agents, bus, "known")).name
    for post in (
        anyone.post(thread, mentions=[known, name]),
        anyone.post(thread, mentions=[known], handoff_to=name),
    ):
        refusal = await refused(post)
        assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", name)])
    assert await anyone.read(thread) == []


async def test_a_sender_may_mention_itself(bus: BusStub, agents: AgentStub, thread: str) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.post(thread, mentions=[coder.name])
    assert [message.mentions for message in await coder.read(thread)] == [[coder.name]]


async def test_a_wait_opened_after_the_response_returns_the_post(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for n in range(20):
        await anyone.post(thread, str(n))
        async with anyone.wait(thread, max_wait=0) as frames:
            assert messages_in(await frames.rest())[-1].content == str(n)


async def test_based_on_seq_raises_the_senders_read_position(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    await Peer(bus).post_all(thread, *"abc")
    metadata = coder.metadata
    for based_on_seq, read_seq in ((2, 2), (1, 2), (3, 3)):
        await coder.post(thread, based_on_seq=based_on_seq)
        joined = await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=metadata)
        assert joined.cursor.after_seq == read_seq
    assert [message.based_on_seq for message in (await coder.read(thread))[3:]] == [2, 1, 3]
