"""`participants` frames: the changes of a thread's participants while a wait is open."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.callers import Caller, register
from tests.peers import Peer
from tests.presence import beat
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import BOUND, Frames, waiting
from threadbus.v1.agent_pb2 import PRESENCE_IDLE, PRESENCE_WORKING, Participant, Presence
from threadbus.v1.agent_service_pb2 import EndSessionRequest, UnregisterAgentRequest
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import (
    JoinThreadRequest,
    LeaveThreadRequest,
    ListParticipantsRequest,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server whose agents lapse soon."""
    flags = ("--heartbeat-interval", "1", "--agent-timeout", "2")
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db", *flags) as running:
        yield running


class Room:
    """The participants of a thread, from the frames of a wait."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.participants: dict[str, Participant] = {}

    async def update(self) -> None:
        """Apply the next `participants` frame."""
        update = (await self._frames.until("participants")).participants
        self.participants |= {found.agent: found for found in update.participants}
        for name in update.left:
            del self.participants[name]

    async def until(self, name: str, state: str) -> Participant:
        """Read frames until an agent's presence is `state`."""
        async with asyncio.timeout(BOUND):
            while self.state(name) != state:
                await self.update()
        return self.participants.get(name, Participant())

    def state(self, name: str) -> str:
        """Returns an agent's presence, such as `WAITING`; empty if it is no participant."""
        if name not in self.participants:
            return ""
        return Presence.Name(self.participants[name].presence).removeprefix("PRESENCE_")


async def join(threads: ThreadStub, thread: str, agent: Caller) -> None:
    await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)


@pytest.fixture
async def agent(agents: AgentStub, threads: ThreadStub, thread: str) -> Caller:
    """An agent that has joined the thread."""
    found = await register(agents, f"{thread}-a")
    await join(threads, thread, found)
    return found


async def test_all_come_after_started_then_those_that_changed(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str, agent: Caller
) -> None:
    async with waiting(bus, thread, include_participants=True) as frames:
        assert (await frames.next()).HasField("started")
        first = (await frames.next()).participants
        assert (first.thread, [p.agent for p in first.participants]) == (thread, [agent.name])
        other = await register(agents, f"{thread}-b")
        await join(threads, thread, other)
        second = (await frames.until("participants")).participants
        assert [p.agent for p in second.participants] == [other.name]


async def test_participants_frames_come_only_on_request(
    bus: BusStub, thread: str, agent: Caller
) -> None:
    async with waiting(bus, thread, max_wait=0) as frames:
        assert not [f for f in await frames.rest() if f.HasField("participants")]


async def test_an_agent_is_seen_to_wait_to_work_to_read_and_to_lapse(
    bus: BusStub, thread: str, agent: Caller
) -> None:
    async with waiting(bus, thread, include_participants=True) as frames:
        room = Room(frames)
        async with waiting(bus, thread, metadata=agent.metadata) as its:
            found = await room.until(agent.name, "WAITING")
            assert found.waiting
            await Peer(bus).post(thread, "work to do")
            await its.messages(1)
            found = await room.until(agent.name, "WORKING")
            assert (found.delivered_seq, found.read_seq) == (1, 0)
            await beat(bus, agent, read_cursors=[Cursor(thread=thread, after_seq=1)])
            found = await room.until(agent.name, "WAITING")
            assert found.read_seq == 1
        found = await room.until(agent.name, "LAPSED")
        assert not found.waiting


async def test_a_participants_open_waits_are_counted(
    bus: BusStub, threads: ThreadStub, thread: str, agent: Caller
) -> None:
    async def counts() -> list[int]:
        joined = await threads.JoinThread(JoinThreadRequest(thread=thread))
        listed = await threads.ListParticipants(ListParticipantsRequest(thread=thread))
        posted = await Peer(bus).post(thread, include_recipients=True)
        told = (*joined.participants, *listed.participants, *posted.recipients)
        return [found.wait_count for found in told if found.agent == agent.name]

    assert await counts() == [0, 0, 0]
    filtered = MessageFilter(addressed_to_me=True)
    async with (
        waiting(bus, thread, metadata=agent.metadata) as one,
        waiting(bus, thread, metadata=agent.metadata, filter=filtered) as another,
    ):
        await one.until("caught_up")
        await another.until("caught_up")
        assert await counts() == [2, 2, 1], "only one of them will see the post"


async def test_a_wait_that_is_cut_off_is_reported_though_the_agent_works_on(
    bus: BusStub, thread: str, agent: Caller
) -> None:
    async with waiting(bus, thread, include_participants=True) as frames:
        room = Room(frames)
        async with waiting(bus, thread, metadata=agent.metadata) as its:
            await its.until("caught_up")
            await beat(bus, agent, state=PRESENCE_WORKING, lease=60)
            assert (await room.until(agent.name, "WORKING")).waiting
        async with asyncio.timeout(BOUND):
            while room.participants[agent.name].waiting:
                await room.update()
        assert room.state(agent.name) == "WORKING"


async def test_ending_a_session_and_leaving_are_reported(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str, agent: Caller
) -> None:
    gone = await register(agents, f"{thread}-gone")
    await join(threads, thread, gone)
    async with waiting(bus, thread, include_participants=True) as frames:
        room = Room(frames)
        await room.update()
        await agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await room.until(agent.name, "OFFLINE")
        await threads.LeaveThread(LeaveThreadRequest(thread=thread), metadata=agent.metadata)
        await room.until(agent.name, "")
        await agents.UnregisterAgent(UnregisterAgentRequest(), metadata=gone.metadata)
        await room.until(gone.name, "")


async def test_many_participants_come_in_frames_that_fit(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    async def enter(number: int) -> None:
        await join(threads, thread, await register(agents, f"{thread}-{number:04}"))

    for first in range(0, 1_100, 100):
        await asyncio.gather(*(enter(number) for number in range(first, first + 100)))
    async with waiting(bus, thread, include_participants=True) as frames:
        room = Room(frames)
        await room.update()
        assert len(room.participants) == 1_000
        while len(room.participants) < 1_100:
            await room.update()


async def test_participants_frames_do_not_hold_up_messages(
    bus: BusStub, thread: str, agent: Caller
) -> None:
    async with waiting(bus, thread, include_participants=True) as frames:
        for number in range(1, 30):
            await beat(bus, agent, status_text=str(number))
            await Peer(bus, agent).post(thread, str(number))
            assert [m.seq for m in await frames.messages(1)] == [number]


async def test_changes_are_reported_at_most_once_a_second(
    bus: BusStub, threads: ThreadStub, thread: str, agent: Caller
) -> None:
    loop = asyncio.get_running_loop()
    opened = loop.time()
    async with waiting(bus, thread, include_participants=True) as frames:
        room, updates = Room(frames), 0
        await room.update()
        for state in [PRESENCE_WORKING, PRESENCE_IDLE] * 20:
            await beat(bus, agent, state=state)
        await threads.LeaveThread(LeaveThreadRequest(thread=thread), metadata=agent.metadata)
        while room.participants:
            await room.update()
            updates += 1
    # The first update may come at once.
    assert updates <= loop.time() - opened + 1
