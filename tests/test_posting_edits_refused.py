"""Edits that are refused: of another's message, of what is no message, in a closed thread."""

import grpc
import pytest

from tests.callers import operator
from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import CreateThreadRequest


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def edit_seqs(bus: BusStub, thread: str) -> list[int]:
    """Returns each message's edit_seq."""
    return [message.edit_seq for message in await Peer(bus).read(thread)]


async def test_no_agent_edits_anothers_message(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, thread: str, agent: Peer,
    server: ServerProcess,
) -> None:  # fmt: skip
    await agent.post(thread, "mine")
    another = await registered(agents, bus, "another")
    for peer in (another, Peer(bus), Peer(bus, operator(server))):
        async with nothing_stored(channel):
            refusal = await refused(peer.post(thread, "yours", edit_of=1))
        assert (refusal.reason, "its sender" in refusal.message) == ("ACCESS_DENIED", True)
    assert await edit_seqs(bus, thread) == [0]


async def test_messages_of_anonymous_cannot_be_edited(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, agent: Peer
) -> None:
    await Peer(bus).post(thread, "anybody's")
    for peer in (Peer(bus), agent):
        async with nothing_stored(channel):
            assert (await refused(peer.post(thread, edit_of=1))).reason == "ACCESS_DENIED"


async def test_an_operator_edits_on_behalf_of_the_author(
    bus: BusStub, agents: AgentStub, thread: str, agent: Peer, server: ServerProcess
) -> None:
    boss, another = Peer(bus, operator(server)), await registered(agents, bus, "another")
    await agent.post(thread, "frist")
    refusal = await refused(boss.post(thread, edit_of=1, on_behalf_of=another.name))
    assert refusal.reason == "ACCESS_DENIED"
    await boss.post(thread, "first", edit_of=1, on_behalf_of=agent.name)
    _, edit = await boss.read(thread)
    assert (edit.sender, edit.posted_by) == (agent.name, "operator")
    assert await edit_seqs(bus, thread) == [2, 0]


@pytest.mark.parametrize("seq", [2, 2**32 + 1, 2**53, 2**63 - 1])
async def test_a_message_that_does_not_exist_cannot_be_edited(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, agent: Peer, seq: int
) -> None:
    await agent.post(thread)
    async with nothing_stored(channel):
        refusal = await refused(agent.post(thread, edit_of=seq))
    assert (refusal.reason, refusal.resources) == (
        "MESSAGE_NOT_FOUND",
        [("message", f"{thread}/{seq}")],
    )
    assert await edit_seqs(bus, thread) == [0]


async def test_no_number_edits_a_message_of_another_thread(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(8)]
    for thread in names:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
        await agent.post(thread)
    for high in range(1, 64):
        refusal = await refused(agent.post(names[0], edit_of=high << 32 | 1))
        assert refusal.reason == "MESSAGE_NOT_FOUND"
    for thread in names:
        assert await edit_seqs(bus, thread) == [0]


async def test_an_edit_cannot_be_edited(
    channel: grpc.aio.Channel, thread: str, agent: Peer
) -> None:
    await agent.post(thread, "frist")
    await agent.post(thread, "first", edit_of=1)
    async with nothing_stored(channel):
        refusal = await refused(agent.post(thread, "First", edit_of=2))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["edit_of"])
    assert "edit message 1" in refusal.message


async def test_an_entry_about_the_thread_cannot_be_edited(
    channel: grpc.aio.Channel, threads: ThreadStub, bus: BusStub, server: ServerProcess, thread: str
) -> None:
    boss = Peer(bus, operator(server))
    for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
        await set_state(threads, thread, state, by=boss)
    async with nothing_stored(channel):
        refusal = await refused(boss.post(thread, "not at all", edit_of=1))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["edit_of"])


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_nothing_is_edited_in_a_thread_that_takes_no_posts(
    channel: grpc.aio.Channel,
    threads: ThreadStub,
    bus: BusStub,
    thread: str,
    agent: Peer,
    state: ThreadState.ValueType,
) -> None:
    await agent.post(thread, "frist")
    await set_state(threads, thread, state)
    async with nothing_stored(channel):
        assert (await refused(agent.post(thread, edit_of=1))).reason == "THREAD_CLOSED"
    assert await edit_seqs(bus, thread) == [0, 0]
