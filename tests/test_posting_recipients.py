"""The recipients of a post: their presence, their waits, and how far each has read."""

import pytest

from tests.callers import Caller, register
from tests.peers import Peer
from tests.presence import beat
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import waiting
from threadbus.v1.agent_pb2 import (
    PRESENCE_IDLE,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
    Participant,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.bus_service_pb2 import PostMessageResponse
from threadbus.v1.message_pb2 import PRIORITY_URGENT, Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest


@pytest.fixture
async def team(agents: AgentStub, threads: ThreadStub, thread: str) -> dict[str, Caller]:
    """Three agents that joined the thread: a, b and c."""
    found = {}
    for role in "abc":
        agent = found[role] = await register(agents, f"{thread}-{role}")
        await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)
    return found


def roles(answer: PostMessageResponse) -> list[str]:
    """Returns the recipients, each by the last part of its name."""
    return [recipient.agent.rpartition("-")[2] for recipient in answer.recipients]


def one(answer: PostMessageResponse, agent: Caller) -> Participant:
    """Returns an agent's entry among the recipients."""
    return next(found for found in answer.recipients if found.agent == agent.name)


async def test_recipients_are_returned_only_on_request(
    bus: BusStub, team: dict[str, Caller], thread: str
) -> None:
    assert not (await Peer(bus).post(thread)).recipients


async def test_recipients_are_all_participants_but_the_sender(
    bus: BusStub, team: dict[str, Caller], thread: str
) -> None:
    answer = await Peer(bus, team["b"]).post(thread, include_recipients=True)
    assert roles(answer) == ["a", "c"]


async def test_addressed_agents_come_first_and_become_participants(
    bus: BusStub, agents: AgentStub, team: dict[str, Caller], thread: str
) -> None:
    stranger = await register(agents, f"{thread}-x")
    answer = await Peer(bus, team["a"]).post(
        thread,
        mentions=[stranger.name, team["a"].name],
        handoff_to=team["c"].name,
        include_recipients=True,
    )
    assert roles(answer) == ["x", "c", "b"]
    assert one(answer, stranger).join_time == answer.create_time


async def test_each_recipient_has_its_presence_and_positions(
    bus: BusStub, agents: AgentStub, team: dict[str, Caller], thread: str
) -> None:
    await Peer(bus, team["a"]).post_all(thread, "1", "2")
    a, b, c = team.values()
    await agents.EndSession(EndSessionRequest(), metadata=a.metadata)
    async with waiting(bus, thread, max_wait=0, metadata=b.metadata) as frames:
        await frames.ending()
    async with waiting(bus, thread, metadata=c.metadata) as frames:
        await frames.messages(2)
        await beat(bus, c, read_cursors=[Cursor(thread=thread, after_seq=2)])
        stranger = Peer(bus, await register(agents, f"{thread}-x"))
        answer = await stranger.post(thread, include_recipients=True)
    told = {
        role: (found.presence, found.waiting, min(found.delivered_seq, 2), found.read_seq)
        for role, found in zip(roles(answer), answer.recipients, strict=True)
    }
    assert told == {
        "c": (PRESENCE_WAITING, True, 2, 2),
        "a": (PRESENCE_OFFLINE, False, 0, 2),  # its own
        "b": (PRESENCE_WORKING, False, 2, 0),
    }


async def test_an_agent_that_waits_without_participating_is_a_recipient_too(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    watcher = await register(agents, f"{thread}-w")
    async with waiting(bus, thread, metadata=watcher.metadata) as frames:
        await frames.until("caught_up")
        answer = await Peer(bus).post(thread, include_recipients=True)
    (found,) = answer.recipients
    assert (found.agent, found.waiting) == (watcher.name, True)
    assert not found.HasField("join_time")


@pytest.mark.parametrize(
    ("wanted", "waits"),
    [
        (MessageFilter(), True),
        (MessageFilter(min_priority=PRIORITY_URGENT), False),
        (MessageFilter(senders=["somebody-else"]), False),
        (MessageFilter(addressed_to_me=True), False),
    ],
    ids=["everything", "urgent", "of_another", "to_me"],
)
async def test_waiting_means_that_the_waits_filter_matches_the_post(
    bus: BusStub, team: dict[str, Caller], thread: str, wanted: MessageFilter, waits: bool
) -> None:
    a = team["a"]
    async with waiting(bus, thread, filter=wanted, metadata=a.metadata) as frames:
        await frames.until("caught_up")
        answer = await Peer(bus).post(thread, include_recipients=True)
    found = one(answer, a)
    assert (found.presence, found.waiting) == (PRESENCE_WAITING, waits)


async def test_a_reply_to_an_agents_own_message_matches_its_wait_for_addressed_ones(
    bus: BusStub, team: dict[str, Caller], thread: str
) -> None:
    a = team["a"]
    asked = await Peer(bus, a).post(thread, "anybody?")
    mine = MessageFilter(addressed_to_me=True)
    async with waiting(bus, thread, filter=mine, metadata=a.metadata) as frames:
        await frames.until("caught_up")
        answer = await Peer(bus).post(thread, reply_to=asked.seq, include_recipients=True)
    assert one(answer, a).waiting


async def test_an_edit_of_an_addressed_message_matches_a_wait_for_addressed_ones(
    bus: BusStub, team: dict[str, Caller], thread: str
) -> None:
    a, b = team["a"], Peer(bus, team["b"])
    addressed = await b.post(thread, mentions=[a.name])
    other = await b.post(thread)
    async with waiting(
        bus, thread, filter=MessageFilter(addressed_to_me=True), metadata=a.metadata
    ) as frames:
        await frames.until("caught_up")
        for post, waits in ((addressed, True), (other, False)):
            answer = await b.post(thread, "new", edit_of=post.seq, include_recipients=True)
            assert one(answer, a).waiting is waits


async def test_a_retried_post_returns_the_current_recipients(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, team: dict[str, Caller], thread: str
) -> None:
    a = Peer(bus, team["a"])
    first = await a.post(thread, request_id="once", include_recipients=True)
    late = await register(agents, f"{thread}-late")
    await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=late.metadata)
    again = await a.post(thread, request_id="once", include_recipients=True)
    assert (again.seq, again.deduplicated) == (first.seq, True)
    assert (roles(first), roles(again)) == (["b", "c"], ["b", "c", "late"])


async def test_of_more_than_a_hundred_recipients_those_addressed_and_waiting_are_returned(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    crowd = [await register(agents, f"{thread}-{n:03}") for n in range(120)]
    for agent in crowd:
        await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)
    async with waiting(bus, thread, metadata=crowd[119].metadata) as frames:
        await frames.until("caught_up")
        answer = await Peer(bus, crowd[0]).post(
            thread, mentions=[crowd[118].name], include_recipients=True
        )
    assert roles(answer)[:3] == ["118", "119", "001"]
    assert len(answer.recipients) == 100
    assert {found.presence for found in answer.recipients[2:]} <= {PRESENCE_IDLE}
    assert PRESENCE_UNSPECIFIED not in {found.presence for found in answer.recipients}
