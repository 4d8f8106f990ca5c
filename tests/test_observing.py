"""WaitMessages with observe: it delivers as any wait does, and tells nothing of its agent."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from tests.callers import operator, register, with_token
from tests.participation import join, participants
from tests.peers import Peer, registered
from tests.polling import until_known
from tests.presence import beat, seen, state, until_state
from tests.refusals import refused
from tests.requests import alive, ask, noticed, read_up_to
from tests.server_pairs import caller_of
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import Frames
from threadbus.v1.admin_service_pb2 import ListWaitsRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_UNSPECIFIED,
    Presence,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest, UnregisterAgentRequest
from threadbus.v1.message_pb2 import Cursor

#: Agents lapse a second after a call, and may have two waits.
FLAGS = (
    *("--heartbeat-interval", "0.5", "--agent-timeout", "1", "--max-open-waits", "2"),
    *("--checkpoint-interval", "0.05"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db", *FLAGS) as running:
        yield running


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub, other: Peer, name: str) -> Peer:
    """An agent that has not called yet: another one registered it."""
    return Peer(bus, await register(agents, f"{name}-me", other.caller))


@pytest.fixture
async def other(agents: AgentStub, bus: BusStub) -> Peer:
    """Another agent, which posts."""
    return await registered(agents, bus, "other")


@pytest.fixture(params=["on a thread", "on all threads"])
def where(request: pytest.FixtureRequest, thread: str) -> dict[str, Any]:
    """What to observe: a thread, or all of the agent's."""
    if request.param == "on a thread":
        return {"threads": [Cursor(thread=thread)]}
    return {"threads": [], "all_my_threads": True}


class Watched:
    """What an operator sees of the waits of an agent."""

    def __init__(self, channel: grpc.aio.Channel, server: ServerProcess, agent: Peer) -> None:
        self._admin: AdminStub = AdminServiceStub(channel)
        self._metadata = operator(server).metadata
        self._agent = agent

    async def waits(self) -> list[bool]:
        """Returns of each wait whether it observes."""
        request = ListWaitsRequest(agent=self._agent.name)
        answer = await self._admin.ListWaits(request, metadata=self._metadata)
        return [wait.observe for wait in answer.waits]

    async def until(self, *observe: bool) -> None:
        """Return once these are its waits."""

        async def are() -> bool:
            return await self.waits() == list(observe)

        await until_known(are)


@pytest.fixture
def watched(channel: grpc.aio.Channel, server: ServerProcess, agent: Peer) -> Watched:
    return Watched(channel, server, agent)


@contextlib.asynccontextmanager
async def observing(agent: Peer, *, threads: list[Cursor], **fields: Any) -> AsyncIterator[Frames]:
    """A wait that observes, and has caught up."""
    async with agent.wait(*threads, observe=True, **fields) as frames:
        await frames.until("caught_up")
        yield frames


async def handed(frames: Frames, other: Peer, thread: str) -> None:
    """Post a message; return when the wait has it."""
    seq = (await other.post(thread, "hello")).seq
    assert [message.seq for message in await frames.messages(1)] == [seq]


# ── Presence ────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_was_never_seen_stays_so(
    agents: AgentStub,
    agent: Peer,
    other: Peer,
    thread: str,
    where: dict[str, Any],
    watched: Watched,
) -> None:
    await other.post(thread, "hello", mentions=[agent.name])
    async with observing(agent, **where) as frames:
        await handed(frames, other, thread)
        during = await seen(agents, agent.name)
    await watched.until()
    for found in (during, await seen(agents, agent.name)):
        assert found.presence == PRESENCE_UNSPECIFIED
        assert not found.HasField("last_seen_time")


@pytest.mark.parametrize("reported", [PRESENCE_IDLE, PRESENCE_AWAITING_HUMAN])
async def test_what_an_agent_reported_stays(
    agents: AgentStub,
    agent: Peer,
    other: Peer,
    thread: str,
    watched: Watched,
    reported: Presence.ValueType,
) -> None:
    await alive(agent, state=reported)
    async with observing(agent, threads=[Cursor(thread=thread)]) as frames:
        assert (await seen(agents, agent.name)).presence == reported
        await handed(frames, other, thread)
        assert (await seen(agents, agent.name)).presence == reported
    await watched.until()
    assert (await seen(agents, agent.name)).presence == reported


@pytest.mark.slow
async def test_an_agent_that_only_observes_lapses(
    agents: AgentStub, agent: Peer, thread: str
) -> None:
    await beat(agent.bus, caller_of(agent))
    async with observing(agent, threads=[Cursor(thread=thread)]):
        await until_state(agents, agent.name, "LAPSED", never="WAITING")


async def test_an_agent_at_work_stays_at_work(
    agents: AgentStub, agent: Peer, other: Peer, thread: str, watched: Watched
) -> None:
    async with agent.wait(thread) as frames:
        await frames.until("caught_up")
        await handed(frames, other, thread)
        async with observing(agent, threads=[Cursor(thread=thread)]):
            assert await state(agents, agent.name) == "WORKING"
        await watched.until(False)
        assert await state(agents, agent.name) == "WORKING"


async def test_a_wait_outlasts_one_that_observes(
    agents: AgentStub, agent: Peer, thread: str, watched: Watched
) -> None:
    async with agent.wait(thread) as frames:
        await frames.until("caught_up")
        async with observing(agent, threads=[Cursor(thread=thread)]):
            pass
        await watched.until(False)
        assert await state(agents, agent.name) == "WAITING"


async def test_it_goes_on_when_the_session_is_ended_and_begins_none(
    agents: AgentStub, server: ServerProcess, agent: Peer, other: Peer, thread: str
) -> None:
    async with observing(agent, threads=[Cursor(thread=thread)]) as frames:
        await agents.EndSession(EndSessionRequest(), metadata=agent.metadata)
        await handed(frames, other, thread)
        by_operator = EndSessionRequest(agent=agent.name)
        await agents.EndSession(by_operator, metadata=operator(server).metadata)
        await handed(frames, other, thread)
        async with observing(agent, threads=[Cursor(thread=thread)]):
            assert await state(agents, agent.name) == "OFFLINE"


async def test_a_limited_token_ends_the_session_of_an_agent_that_only_observes(
    agents: AgentStub,
    channel: grpc.aio.Channel,
    server: ServerProcess,
    agent: Peer,
    thread: str,
) -> None:
    limited = await with_token(channel, operator(server), agent.name, thread_prefixes=[thread])
    async with observing(Peer(agent.bus, limited), threads=[Cursor(thread=thread)]):
        await agents.EndSession(EndSessionRequest(), metadata=limited.metadata)
        assert await state(agents, agent.name) == "OFFLINE"


@pytest.mark.slow
async def test_an_asker_is_told_that_the_agent_is_idle(
    agent: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(other, thread, agent.name)
    await read_up_to(agent, thread, seq)
    async with observing(agent, threads=[Cursor(thread=thread, after_seq=seq)]) as frames:
        await handed(frames, other, thread)
        assert await noticed(other, thread, 1) == [("AGENT_IDLE", seq, agent.name)]


# ── Participants ────────────────────────────────────────────────────────────────────────────────


async def test_a_participant_is_not_waiting_and_was_delivered_nothing(
    threads: ThreadStub, agent: Peer, other: Peer, thread: str, where: dict[str, Any]
) -> None:
    await alive(agent)
    await join(threads, thread, agent)
    async with observing(agent, **where) as frames:
        posted = await other.post(thread, include_recipients=True)
        await frames.messages(1)
        (recipient,) = posted.recipients
        assert recipient.presence == PRESENCE_IDLE
        for found in (recipient, (await participants(threads, thread))[agent.name]):
            assert (found.waiting, found.wait_count, found.delivered_seq) == (False, 0, 0)


async def test_a_wait_beside_it_counts_once(
    threads: ThreadStub, agent: Peer, thread: str, where: dict[str, Any], watched: Watched
) -> None:
    await join(threads, thread, agent)
    async with observing(agent, **where), agent.wait(thread) as frames:
        await frames.until("caught_up")
        assert await watched.waits() == [True, False]
        assert (await participants(threads, thread))[agent.name].wait_count == 1


async def test_a_stranger_that_observes_is_no_recipient(
    agent: Peer, other: Peer, thread: str
) -> None:
    async with observing(agent, threads=[Cursor(thread=thread)]):
        assert not (await other.post(thread, include_recipients=True)).recipients


async def test_an_agent_that_was_never_seen_is_a_recipient_that_was_never_seen(
    agent: Peer, other: Peer, thread: str, where: dict[str, Any]
) -> None:
    await other.post(thread, "hello", mentions=[agent.name])
    async with observing(agent, **where):
        (found,) = (await other.post(thread, include_recipients=True)).recipients
        assert found.presence == PRESENCE_UNSPECIFIED


# ── Limits ──────────────────────────────────────────────────────────────────────────────────────


async def test_it_counts_as_a_wait_of_the_agent(agent: Peer, thread: str) -> None:
    where = [Cursor(thread=thread)]
    async with observing(agent, threads=where), observing(agent, threads=where):
        for observe in (True, False):
            async with agent.wait(thread, observe=observe) as frames:
                assert (await refused(frames.failure())).reason == "QUOTA_EXCEEDED"


async def test_it_ends_when_its_agent_is_unregistered(
    agents: AgentStub, agent: Peer, thread: str
) -> None:
    async with observing(agent, threads=[Cursor(thread=thread)]) as frames:
        await agents.UnregisterAgent(UnregisterAgentRequest(), metadata=agent.metadata)
        assert (await refused(frames.failure())).reason == "TOKEN_INVALID"


async def test_anonymous_callers_may_set_it(bus: BusStub, other: Peer, thread: str) -> None:
    async with observing(Peer(bus), threads=[Cursor(thread=thread)]) as frames:
        await handed(frames, other, thread)
