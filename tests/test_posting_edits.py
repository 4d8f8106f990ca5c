"""Edits: entries of their own kind that replace the content of a message."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_server.store import Append, CreateThread
from tests.conftest import StartServer
from tests.connections import connected
from tests.own_bus import opened
from tests.pages import read_pages
from tests.peers import Peer, registered, set_state
from tests.polling import until_known
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT
from threadbus.v1.bus_service_pb2 import GetMessageRequest
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_EDIT,
    MESSAGE_KIND_THREAD,
    PRIORITY_NORMAL,
    WAKE_ALL,
    Message,
    MessageFilter,
)
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    Thread,
)


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def stored(bus: BusStub, thread: str, seq: int, **options: Any) -> Message:
    request = GetMessageRequest(thread=thread, seq=seq)
    return (await bus.GetMessage(request, **options)).message


async def edit_seqs(bus: BusStub, thread: str) -> list[int]:
    """Returns each message's edit_seq, which must be the same wherever it is read."""
    waited = await Peer(bus).read(thread)
    listed = [message for page in await read_pages(bus, thread) for message in page.messages]
    assert listed == waited
    assert [await stored(bus, thread, message.seq) for message in listed] == listed
    return [message.edit_seq for message in listed]


async def test_an_edit_is_an_entry_of_its_own(bus: BusStub, thread: str, agent: Peer) -> None:
    first = await agent.post(thread, "the frist")
    edit = await agent.post(thread, "the first", edit_of=1)
    assert (edit.seq, edit.last_seq, edit.deduplicated) == (2, 2, False)
    assert await stored(bus, thread, 2) == Message(
        thread=thread,
        seq=2,
        sender=agent.name,
        sender_kind=AGENT_KIND_AGENT,
        content="the first",
        create_time=edit.create_time,
        kind=MESSAGE_KIND_EDIT,
        priority=PRIORITY_NORMAL,
        wakes=WAKE_ALL,
        edit_of=1,
        content_size=9,
    )
    assert await stored(bus, thread, 1) == Message(
        thread=thread,
        seq=1,
        sender=agent.name,
        sender_kind=AGENT_KIND_AGENT,
        content="the frist",
        create_time=first.create_time,
        kind=MESSAGE_KIND_CHAT,
        priority=PRIORITY_NORMAL,
        wakes=WAKE_ALL,
        edit_seq=2,
        content_size=9,
    )


async def test_a_message_has_the_seq_of_its_newest_edit_wherever_it_is_read(
    bus: BusStub, thread: str, agent: Peer
) -> None:
    await agent.post_all(thread, "1", "2", "3")
    assert await edit_seqs(bus, thread) == [0, 0, 0]
    await agent.post(thread, "one", edit_of=1)
    assert await edit_seqs(bus, thread) == [4, 0, 0, 0]
    await agent.post(thread, "three", edit_of=3)
    await agent.post(thread, "One", edit_of=1)
    assert await edit_seqs(bus, thread) == [6, 0, 5, 0, 0, 0]
    newest = await read_pages(bus, thread, newest=True, limit=2)
    assert [message.edit_seq for page in newest for message in page.messages] == [6, 0, 5, 0, 0, 0]


@pytest.mark.own_server
@pytest.mark.slow
async def test_a_message_has_the_seq_of_its_newest_edit_after_a_restart(
    bus: BusStub, thread: str, agent: Peer, server: ServerProcess
) -> None:
    await agent.post_all(thread, "1", "2")
    await agent.post(thread, "one", edit_of=1)
    server.kill()
    server.start()
    await stored(bus, thread, 1, wait_for_ready=True)
    assert await edit_seqs(bus, thread) == [3, 0, 0]
    await agent.post(thread, "One", edit_of=1)
    assert await edit_seqs(bus, thread) == [4, 0, 0, 0]


async def test_two_edits_in_one_transaction_both_count(tmp_path: Path) -> None:
    def post(content: str, edit_of: int = 0) -> Append:
        kind = MESSAGE_KIND_EDIT if edit_of else MESSAGE_KIND_CHAT
        message = Message(thread="t", sender="coder", kind=kind, content=content, edit_of=edit_of)
        return Append.of(message)

    async with opened(tmp_path / "bus.db") as store:
        batch = [post("frist"), post("first", 1), post("First", 1)]
        await store.commit([CreateThread(Thread(name="t")), *batch])
        page = await store.excerpt("t", 0, 0, 10, 1_000_000, newest=False)
    messages = [Message.FromString(body) for _, body in page.rows]
    assert [(m.content, m.edit_of, m.edit_seq) for m in messages] == [
        ("frist", 0, 3),
        ("first", 1, 0),
        ("First", 1, 0),
    ]


async def test_concurrent_edits_are_all_stored_and_the_last_one_counts(
    bus: BusStub, thread: str, agent: Peer
) -> None:
    await agent.post(thread, "0")
    edits = [agent.post(thread, str(n), edit_of=1) for n in range(1, 51)]
    answers = await asyncio.gather(*edits)
    assert sorted(answer.seq for answer in answers) == list(range(2, 52))
    assert await edit_seqs(bus, thread) == [51, *[0] * 50]


async def test_a_live_wait_is_woken_and_gets_edits_in_order(
    bus: BusStub, thread: str, agent: Peer
) -> None:
    async with Peer(bus).wait(thread) as frames:
        await frames.until("caught_up")
        await agent.post(thread, "frist")
        await frames.messages(1)
        await agent.post(thread, "first", edit_of=1)
        (edit,) = await frames.messages(1)
        assert (edit.seq, edit.kind, edit.edit_of) == (2, MESSAGE_KIND_EDIT, 1)
        await agent.post(thread, "second")
        await agent.post(thread, "First", edit_of=1)
        rest = await frames.messages(2)
    assert [(message.seq, message.edit_of) for message in rest] == [(3, 0), (4, 1)]


async def test_an_edited_message_does_not_split_a_batch(
    bus: BusStub, thread: str, agent: Peer
) -> None:
    await agent.post_all(thread, "1", "2", "3")
    await agent.post(thread, "two", edit_of=2)
    async with agent.wait(thread, max_wait=0) as frames:
        told = [frame.messages for frame in await frames.rest() if frame.HasField("messages")]
    assert [[message.edit_seq for message in batch.messages] for batch in told] == [[0, 4, 0, 0]]


@pytest.mark.parametrize(
    ("kinds", "seqs"),
    [
        ([MESSAGE_KIND_CHAT], [1, 3]),
        ([MESSAGE_KIND_EDIT], [2]),
        ([MESSAGE_KIND_THREAD], [4, 5]),
        ([MESSAGE_KIND_EDIT, MESSAGE_KIND_CHAT], [1, 2, 3]),
        ([], [1, 2, 3, 4, 5]),
    ],
)
async def test_a_filter_tells_edits_from_messages_by_kind(
    bus: BusStub, threads: ThreadStub, thread: str, agent: Peer, kinds: list[Any], seqs: list[int]
) -> None:
    await agent.post(thread, "frist")
    await agent.post(thread, "first", edit_of=1)
    await agent.post(thread, "second")
    for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
        await set_state(threads, thread, state)
    wanted = MessageFilter(kinds=kinds)
    assert [message.seq for message in await Peer(bus).read(thread, filter=wanted)] == seqs
    pages = await read_pages(bus, thread, filter=wanted)
    assert [message.seq for page in pages for message in page.messages] == seqs


async def test_an_edit_that_is_retried_is_stored_once(
    bus: BusStub, thread: str, agent: Peer
) -> None:
    await agent.post(thread, "frist")
    first = await agent.post(thread, "first", edit_of=1, request_id="edit")
    await agent.post(thread, "First", edit_of=1)
    again = await agent.post(thread, "first", edit_of=1, request_id="edit")
    assert (again.seq, again.create_time) == (first.seq, first.create_time)
    assert (again.deduplicated, again.last_seq) == (True, 3)
    assert await edit_seqs(bus, thread) == [3, 0, 0]  # the retry is not the newest edit


@pytest.mark.parametrize(
    "fields", [{"edit_of": 2}, {}, {"edit_of": 1, "content": "other"}], ids=str
)
async def test_an_edits_request_id_cannot_be_reused_for_a_post(
    channel: grpc.aio.Channel, thread: str, agent: Peer, fields: dict[str, Any]
) -> None:
    await agent.post_all(thread, "1", "2")
    await agent.post(thread, "new", edit_of=1, request_id="edit")
    async with nothing_stored(channel):
        refusal = await refused(
            agent.post(thread, **{"content": "new", "request_id": "edit", **fields})
        )
    assert (refusal.reason, refusal.metadata) == ("REQUEST_ID_REUSED", {"seq": "3"})


async def test_a_retry_of_a_post_edited_since_is_recognised(thread: str, agent: Peer) -> None:
    first = await agent.post(thread, "frist", request_id="one")
    await agent.post(thread, "first", edit_of=1)
    again = await agent.post(thread, "frist", request_id="one")
    assert (again.seq, again.create_time) == (1, first.create_time)
    assert (again.deduplicated, again.last_seq) == (True, 2)


async def test_an_edit_can_expect_the_last_seq(thread: str, agent: Peer) -> None:
    await agent.post_all(thread, "frist", "second")
    refusal = await refused(agent.post(thread, "first", edit_of=1, expected_last_seq=1))
    assert (refusal.reason, refusal.metadata["last_seq"]) == ("SEQ_CONFLICT", "2")
    assert (await agent.post(thread, "first", edit_of=1, expected_last_seq=2)).seq == 3


async def test_an_edit_of_another_epoch_is_refused(thread: str, agent: Peer) -> None:
    await agent.post(thread, "frist")
    refusal = await refused(agent.post(thread, "first", edit_of=1, epoch="another"))
    assert refusal.reason == "CURSOR_INVALID"


@pytest.fixture
def pair(start_server: StartServer) -> Iterator[list[ServerProcess]]:
    """Two servers on one file."""
    yield [start_server("--fallback-interval", "0.1") for _ in range(2)]


@pytest.mark.slow
async def test_an_edit_through_another_server_reaches_cached_messages(
    pair: list[ServerProcess], name: str
) -> None:
    async with connected(pair[0].address, name) as here, connected(pair[1].address) as there:
        agent = await registered(here.agents, here.bus, "coder")
        await agent.post_all(name, "frist", "second")
        assert await edit_seqs(here.bus, name) == [0, 0]
        async with Peer(here.bus).wait(name) as frames:
            await frames.messages(2)
            await Peer(there.bus, agent.caller).post(name, "first", edit_of=1)
            (edit,) = await frames.messages(1)
        assert (edit.seq, edit.edit_of) == (3, 1)

        async def seen() -> bool:
            return [m.edit_seq for m in await Peer(here.bus).read(name)] == [3, 0, 0]

        await until_known(seen, within=5)
