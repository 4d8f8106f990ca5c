"""What ends a long poll, and makes an agent WORKING: only entries that wake the caller."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import StartServer
from tests.connections import connected
from tests.participation import join
from tests.peers import Peer, registered
from tests.presence import state, until_state
from tests.server_pairs import pair
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import Frames, kinds, messages_in
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest, WaitEnding
from threadbus.v1.message_pb2 import (
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Attachment,
    Cursor,
    MessageFilter,
    Wake,
)
from threadbus.v1.thread_service_pb2 import UpdateThreadRequest

MIN, MAX, TIME = (
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_MESSAGES,
    WaitEnding.REASON_MAX_WAIT,
)


@pytest.fixture
async def reader(bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str) -> Peer:
    """An agent that joined the empty thread."""
    peer = await registered(agents, bus, "reader")
    await join(threads, thread, peer)
    return peer


@contextlib.asynccontextmanager
async def polling(peer: Peer, thread: str) -> AsyncIterator[Frames]:
    """A long poll from the start of the thread that has caught up."""
    async with peer.wait(thread, min_messages=1, max_wait=600) as frames:
        await frames.until("caught_up")
        yield frames


async def set_topic(threads: ThreadStub, thread: str, topic: str) -> None:
    """Change a thread, which adds an entry."""
    request = UpdateThreadRequest(
        thread=thread, topic=topic, update_mask=FieldMask(paths=["topic"])
    )
    await threads.UpdateThread(request)


async def ends_with(frames: Frames, *seqs: int) -> None:
    """Read to the end, which must be because of min_messages. These messages came before, all."""
    await frames.rest()
    assert [message.seq for message in messages_in(frames.received)] == list(seqs)
    assert frames.received[-1].ending.reason == MIN


async def test_a_change_of_the_thread_ends_no_long_poll(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    async with polling(reader, thread) as frames, polling(Peer(bus), thread) as anonymous:
        await set_topic(threads, thread, "new")
        for each in (frames, anonymous):
            assert [message.seq for message in await each.messages(1)] == [1]
        await Peer(bus).post(thread)
        await ends_with(frames, 1, 2)
        await ends_with(anonymous, 1, 2)


async def test_quiet_entries_come_with_the_next_one_in_order(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    async with polling(reader, thread) as frames, polling(Peer(bus), thread) as anonymous:
        await Peer(bus).post(thread, wakes=WAKE_NOBODY)
        await Peer(bus).post(thread, wakes=WAKE_ADDRESSED)
        for each in (frames, anonymous):
            assert [message.seq for message in await each.messages(2)] == [1, 2]
        await Peer(bus).post(thread)
        await ends_with(frames, 1, 2, 3)
        await ends_with(anonymous, 1, 2, 3)
    async with reader.wait(thread, min_messages=1, max_wait=600) as frames:
        await ends_with(frames, 1, 2, 3)


@pytest.mark.parametrize("how", ["mention", "handoff", "reply"])
async def test_an_addressed_entry_wakes_those_it_addresses_and_nobody_else(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, reader: Peer, thread: str, how: str
) -> None:
    other, sender = [await registered(agents, bus, name) for name in ("other", "sender")]
    await reader.post(thread)
    at = Cursor(thread=thread, after_seq=1)
    ways: dict[str, dict[str, Any]] = {
        "mention": {"mentions": [reader.name, sender.name]},
        "handoff": {"handoff_to": reader.name},
        "reply": {"reply_to": 1},
    }
    async with contextlib.AsyncExitStack() as waits:
        polls = []
        for peer in (reader, other, sender, Peer(bus)):
            wait = peer.wait(at, min_messages=1, max_wait=600)
            polls.append(await waits.enter_async_context(wait))
            await polls[-1].until("caught_up")
        await sender.post(thread, wakes=WAKE_ADDRESSED, **ways[how])
        await ends_with(polls[0], 2)
        for unwoken in polls[1:]:
            assert [message.seq for message in await unwoken.messages(1)] == [2]
        await sender.post(thread)
        for unwoken in polls[1:]:
            await ends_with(unwoken, 2, 3)


async def test_an_entry_that_wakes_nobody_does_not_wake_those_it_addresses(
    bus: BusStub, reader: Peer, thread: str
) -> None:
    await reader.post(thread)
    at = Cursor(thread=thread, after_seq=1)
    async with reader.wait(at, min_messages=1, max_wait=600) as poll:
        named: dict[str, Any] = {"mentions": [reader.name], "handoff_to": reader.name}
        await Peer(bus).post(thread, wakes=WAKE_NOBODY, reply_to=1, **named)
        await poll.messages(1)
        await Peer(bus).post(thread)
        await ends_with(poll, 2, 3)


async def test_an_edit_of_a_quiet_message_ends_no_long_poll(
    bus: BusStub, agents: AgentStub, reader: Peer, thread: str
) -> None:
    author = await registered(agents, bus, "author")
    await author.post(thread, wakes=WAKE_NOBODY)
    async with polling(reader, thread) as frames:
        await author.post(thread, "new", edit_of=1)
        await frames.messages(1)
        async with reader.wait(thread, min_messages=1, max_wait=0) as again:
            rest = await again.rest()  # of which the first message has been edited
        assert ([m.seq for m in messages_in(rest)], rest[-1].ending.reason) == ([1, 2], TIME)
        await author.post(thread)
        await ends_with(frames, 1, 2, 3)


@pytest.mark.parametrize("text", ["hello", "x" * 20_000], ids=["small", "large"])
async def test_an_edit_that_repeats_the_text_wakes_nobody(
    bus: BusStub, agents: AgentStub, thread: str, text: str
) -> None:
    author = await registered(agents, bus, "author")
    await author.post(thread, "draft")
    edits = [PostMessageRequest(thread=thread, content=text, edit_of=1) for _ in range(2)]
    for _ in range(2):  # both in a batch, and then two that repeat what is stored
        call = bus.PostMessages(iter([PostMessagesRequest(posts=edits)]), metadata=author.metadata)
        assert [len(each.results) async for each in call] == [2]
    await author.post(thread, "draft", edit_of=1)
    found = await author.read(thread)
    assert [message.content for message in found[1:]] == [text] * 4 + ["draft"]
    repeats = WAKE_NOBODY if len(text) < 16_000 else WAKE_ALL
    assert [message.wakes for message in found] == [
        *(WAKE_ALL, WAKE_ALL, repeats, repeats, repeats, WAKE_ALL)
    ]


async def test_an_edit_that_repeats_the_text_but_addresses_somebody_wakes(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    author = await registered(agents, bus, "author")
    reader = await registered(agents, bus, "reader")
    await author.post(thread, "hello")
    await author.post(thread, "hello", edit_of=1, mentions=[reader.name])
    await author.post(thread, "hello", edit_of=1, attachments=[Attachment(raw=b"x")])
    assert [message.wakes for message in await reader.read(thread)] == [WAKE_ALL] * 3


async def test_only_what_wakes_counts(bus: BusStub, reader: Peer, thread: str) -> None:
    for wakes in (WAKE_NOBODY, WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY, WAKE_ALL):
        await Peer(bus).post(thread, wakes=wakes)
    for least, reason in ((2, MIN), (3, TIME)):
        async with reader.wait(thread, min_messages=least, max_wait=0) as frames:
            assert len(messages_in(await frames.rest())) == 5
            assert frames.received[-1].ending.reason == reason


async def test_with_count_all_everything_counts(
    bus: BusStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    async with reader.wait(thread, min_messages=3, count_all=True, max_wait=600) as frames:
        await frames.until("caught_up")
        await Peer(bus).post(thread, wakes=WAKE_NOBODY)
        await set_topic(threads, thread, "one")
        await set_topic(threads, thread, "two")
        await ends_with(frames, 1, 2, 3)


async def test_max_messages_counts_what_does_not_wake(
    bus: BusStub, reader: Peer, thread: str
) -> None:
    for wakes in (WAKE_NOBODY, WAKE_ADDRESSED, WAKE_ALL):
        await Peer(bus).post(thread, wakes=wakes)
    async with reader.wait(thread, min_messages=1, max_messages=2, max_wait=600) as frames:
        assert [message.seq for message in messages_in(await frames.rest())] == [1, 2]
        assert frames.received[-1].ending.reason == MAX


# ── Presence ────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_is_not_woken_keeps_waiting(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, reader: Peer, thread: str
) -> None:
    other = await registered(agents, bus, "other")
    async with polling(reader, thread) as frames, polling(other, thread) as others:
        await Peer(bus).post(thread, wakes=WAKE_ADDRESSED, mentions=[other.name])
        await set_topic(threads, thread, "one")
        await set_topic(threads, thread, "two")
        assert len(await frames.messages(3)) == 3
        assert await state(agents, reader.name) == "WAITING"
        await ends_with(others, 1)
        await until_state(agents, other.name, "WORKING")
        await Peer(bus).post(thread)
        await ends_with(frames, 1, 2, 3, 4)
        await until_state(agents, reader.name, "WORKING")


async def test_a_wait_without_min_messages_works_on_what_wakes_its_agent(
    bus: BusStub, agents: AgentStub, reader: Peer, thread: str
) -> None:
    async with reader.wait(thread) as frames:
        await Peer(bus).post(thread, wakes=WAKE_NOBODY)
        await frames.messages(1)
        assert await state(agents, reader.name) == "WAITING"
        await reader.post(thread)  # its own
        await frames.messages(1)
        assert await state(agents, reader.name) == "WAITING"
        await Peer(bus).post(thread, wakes=WAKE_ADDRESSED, reply_to=2)
        await frames.messages(1)
        await until_state(agents, reader.name, "WORKING")


# ── What is delivered ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(4))
async def test_long_polls_deliver_exactly_the_log(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, reader: Peer, thread: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - not a secret
    wanted = MessageFilter(senders=["anonymous"]) if seed % 2 else MessageFilter()
    await reader.post(thread)
    for _ in range(40):
        wakes = Wake.ValueType(chance.choice([WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY]))
        mentions = chance.choice([[], [], [reader.name]])
        by = chance.choice([Peer(bus), reader])
        await by.post(thread, wakes=wakes, mentions=mentions, reply_to=chance.choice([0, 0, 1]))
    log = await reader.read(thread, filter=wanted)
    assert len(log) > 10
    found, at = [], Cursor(thread=thread)
    while True:
        most = chance.choice([0, 1, 2, 7])
        options = {"min_messages": chance.choice([1, 3]), "max_messages": most}
        async with reader.wait(at, filter=wanted, max_wait=0, **options) as frames:
            new = messages_in(await frames.rest())
        ending = frames.received[-1].ending
        if not new:
            break
        found += new
        at = ending.threads[0].cursor
        assert (ending.reason == MAX) == (0 < most == len(new))
    assert found == log


@pytest.mark.slow
async def test_replay_from_the_store_wakes_as_live_messages_do(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with connected(server.address, name) as client:
        reader = await registered(client.agents, client.bus, "reader")
        await reader.post(name)
        for wakes in (WAKE_NOBODY, WAKE_ADDRESSED):
            await Peer(client.bus).post(name, "quiet", wakes=wakes)
        await Peer(client.bus).post(name, "quiet", wakes=WAKE_ADDRESSED, reply_to=1)
    assert server.stop() == 0
    server.start()
    async with connected(server.address) as client:
        reader = Peer(client.bus, reader.caller)
        at = Cursor(thread=name, after_seq=1)
        for least, reason in ((1, MIN), (2, TIME)):
            async with reader.wait(at, min_messages=least, max_wait=0) as frames:
                rest = await frames.rest()
                assert len(messages_in(rest)) == 3
                assert kinds(rest)[0] == "started"
                assert rest[-1].ending.reason == reason


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_entries_of_another_server_wake_those_they_address(tmp_path: Path) -> None:
    with pair(tmp_path / "bus.db") as (here, there):
        async with connected(here.address, "t") as client, connected(there.address) as far:
            reader, other = [
                await registered(client.agents, client.bus, name) for name in ("reader", "other")
            ]
            async with polling(reader, "t") as frames, polling(other, "t") as others:
                await Peer(far.bus).post("t", wakes=WAKE_NOBODY)
                await Peer(far.bus).post("t", wakes=WAKE_ADDRESSED, mentions=[reader.name])
                await ends_with(frames, 1, 2)
                assert len(await others.messages(2)) == 2
                assert await state(client.agents, other.name) == "WAITING"
                await Peer(far.bus).post("t")
                await ends_with(others, 1, 2, 3)
