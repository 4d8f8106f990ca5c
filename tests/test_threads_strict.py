"""Strict threads: posts must name the seq that they follow."""

from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import ExpectedSeqRequired
from bus_server.store import Appended, CreateThread, UpdateThread
from tests.callers import operator, register
from tests.own_bus import append, opened
from tests.peers import Peer, registered
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_OFF,
    SYNC_MODE_STRICT,
    SYNC_MODE_UNSPECIFIED,
    SyncMode,
    Thread,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    JoinThreadRequest,
    UpdateThreadRequest,
)


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def set_mode(threads: ThreadStub, thread: str, mode: SyncMode.ValueType) -> None:
    mask = FieldMask(paths=["sync_mode"])
    request = UpdateThreadRequest(thread=thread, sync_mode=mode, update_mask=mask)
    await threads.UpdateThread(request)


@pytest.fixture
async def strict(threads: ThreadStub, bus: BusStub, name: str) -> str:
    """A strict thread with one message."""
    request = CreateThreadRequest(thread=name, sync_mode=SYNC_MODE_STRICT)
    assert (await threads.CreateThread(request)).thread.sync_mode == SYNC_MODE_STRICT
    await Peer(bus).post(name, expected_last_seq=0)
    return name


@pytest.mark.parametrize("mode", [SYNC_MODE_UNSPECIFIED, SYNC_MODE_OFF])
async def test_a_thread_is_not_strict_by_default(
    threads: ThreadStub, bus: BusStub, name: str, mode: SyncMode.ValueType
) -> None:
    created = await threads.CreateThread(CreateThreadRequest(thread=name, sync_mode=mode))
    assert created.thread.sync_mode == SYNC_MODE_OFF
    joined = await threads.JoinThread(JoinThreadRequest(thread=f"{name}-2", create=True))
    assert joined.thread.sync_mode == SYNC_MODE_OFF
    assert (await Peer(bus).post(name)).seq == 1


@pytest.mark.parametrize("who", ["agent", "anonymous"])
async def test_a_strict_thread_takes_only_posts_that_name_the_seq_they_follow(
    channel: grpc.aio.Channel, bus: BusStub, strict: str, agent: Peer, who: str
) -> None:
    poster = agent if who == "agent" else Peer(bus)
    async with nothing_stored(channel):
        assert (await refused(poster.post(strict))).reason == "EXPECTED_SEQ_REQUIRED"
        assert (await refused(poster.post(strict, expected_last_seq=0))).reason == "SEQ_CONFLICT"
        assert (await refused(poster.post(strict, expected_last_seq=2))).reason == "SEQ_CONFLICT"
    assert (await poster.post(strict, expected_last_seq=1)).seq == 2


async def test_an_edit_in_a_strict_thread_must_name_the_seq_too(strict: str, agent: Peer) -> None:
    await agent.post(strict, expected_last_seq=1)
    assert (await refused(agent.post(strict, edit_of=2))).reason == "EXPECTED_SEQ_REQUIRED"
    assert (await agent.post(strict, edit_of=2, expected_last_seq=2)).seq == 3


async def test_humans_need_not_name_it(
    agents: AgentStub, bus: BusStub, server: ServerProcess, strict: str, name: str
) -> None:
    boss = operator(server)
    own = (await register(agents, name, boss, AGENT_KIND_HUMAN)).metadata
    request = PostMessageRequest(thread=strict, content="stop")
    assert (await bus.PostMessage(request, metadata=own)).seq == 2
    assert (await bus.PostMessage(request, metadata=boss.metadata)).seq == 3
    request.expected_last_seq = 1  # but if they do it must match
    assert (await refused(bus.PostMessage(request, metadata=own))).reason == "SEQ_CONFLICT"


async def test_a_post_on_behalf_of_another_is_checked_by_the_kind_of_that_agent(
    channel: grpc.aio.Channel,
    agents: AgentStub,
    bus: BusStub,
    server: ServerProcess,
    strict: str,
    agent: Peer,
    name: str,
) -> None:
    boss = Peer(bus, operator(server))
    person = await register(agents, f"{name}-person", boss.caller, AGENT_KIND_HUMAN)
    assert (await boss.post(strict, on_behalf_of=person.name)).seq == 2
    for other in (agent.name, f"{name}-unknown"):
        async with nothing_stored(channel):
            refusal = await refused(boss.post(strict, on_behalf_of=other))
        assert refusal.reason == "EXPECTED_SEQ_REQUIRED"
    for seq, other in enumerate((agent.name, f"{name}-unknown"), start=2):
        answer = await boss.post(strict, on_behalf_of=other, expected_last_seq=seq)
        assert answer.seq == seq + 1


async def test_a_retry_is_recognised_before_the_mode_is_checked(
    threads: ThreadStub, thread: str, agent: Peer
) -> None:
    async def post() -> PostMessageResponse:
        return await agent.post(thread, request_id="one")

    first = await post()
    await set_mode(threads, thread, SYNC_MODE_STRICT)
    again = await post()
    assert (again.seq, again.deduplicated, again.last_seq) == (first.seq, True, 2)
    assert (await refused(agent.post(thread))).reason == "EXPECTED_SEQ_REQUIRED"


async def test_the_next_post_is_checked_by_a_mode_just_turned_on_or_off(
    threads: ThreadStub, thread: str, agent: Peer
) -> None:
    for _ in range(10):
        await set_mode(threads, thread, SYNC_MODE_STRICT)
        assert (await refused(agent.post(thread))).reason == "EXPECTED_SEQ_REQUIRED"
        await set_mode(threads, thread, SYNC_MODE_OFF)
        await agent.post(thread)


async def test_a_post_of_the_same_transaction_is_checked_too(tmp_path: Path) -> None:
    strict = UpdateThread(
        "t", Message(sender="coder"), Thread(sync_mode=SYNC_MODE_STRICT), ["sync_mode"]
    )
    async with opened(tmp_path / "bus.db") as store:
        create = CreateThread(Thread(name="t"))
        commit = await store.commit([create, append("t", "before"), strict, append("t", "after")])
    assert [type(outcome) for outcome in commit.outcomes[1:]] == [
        Appended,
        Thread,
        ExpectedSeqRequired,
    ]
    assert list(commit.entries["t"]) == [1, 2]
