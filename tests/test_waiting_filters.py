"""WaitMessages: filters, in history and live."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, WaitMessagesRequest
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    MESSAGE_KIND_THREAD,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    PRIORITY_UNSPECIFIED,
    PRIORITY_URGENT,
    Cursor,
    MessageFilter,
    MessageKind,
    Priority,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

Say = Callable[[], Awaitable[object]]


async def delivered(
    threads: ThreadStub, peer: Peer, thread: str, wanted: MessageFilter, say: Say
) -> list[str]:
    """Returns what a wait with this filter delivers: the same live as from history."""
    async with peer.wait(thread, filter=wanted) as frames:
        await frames.until("caught_up")
        await say()
        # Ends the wait, so that no message can follow the last one.
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        live = messages_in(await frames.rest())
    assert live == await peer.read(thread, filter=wanted)
    return [message.content for message in live if message.kind == MESSAGE_KIND_CHAT]


@pytest.fixture
async def anna(agents: AgentStub, bus: BusStub) -> Peer:
    return await registered(agents, bus, "anna")


@pytest.fixture
async def bert(agents: AgentStub, bus: BusStub) -> Peer:
    return await registered(agents, bus, "bert")


async def test_a_filter_by_senders_lets_only_theirs_through(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    async def say() -> None:
        for peer in (anna, bert, Peer(bus), anna):
            await peer.post(thread, peer.name)

    wanted = MessageFilter(senders=[anna.name, "anonymous", "not-registered"])
    got = await delivered(threads, anna, thread, wanted, say)
    assert got == [anna.name, "anonymous", anna.name]


async def test_a_filter_by_an_absent_sender_lets_nothing_through(
    thread: str, threads: ThreadStub, anna: Peer
) -> None:
    wanted = MessageFilter(senders=["not-registered"])
    assert await delivered(threads, anna, thread, wanted, lambda: anna.post(thread)) == []


async def test_exclude_own_skips_the_callers_messages(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    async def say() -> None:
        for peer in (anna, bert, Peer(bus), anna):
            await peer.post(thread, peer.name)

    wanted = MessageFilter(exclude_own=True)
    assert await delivered(threads, anna, thread, wanted, say) == [bert.name, "anonymous"]


async def test_exclude_own_skips_nothing_for_anonymous(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    anyone = Peer(bus)

    async def say() -> None:
        for peer in (anna, anyone):
            await peer.post(thread, peer.name)

    wanted = MessageFilter(exclude_own=True)
    assert await delivered(threads, anyone, thread, wanted, say) == [anna.name, "anonymous"]


async def test_addressed_to_me_lets_only_those_addressed_to_the_caller_through(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    async def say() -> None:
        await bert.post(thread, "to nobody")
        await bert.post(thread, "mentions bert", mentions=[bert.name])
        await bert.post(thread, "mentions both", mentions=[bert.name, anna.name])
        await bert.post(thread, "handed to anna", handoff_to=anna.name)
        own = await anna.post(thread, "anna's own")
        other = await bert.post(thread, "bert's own", handoff_to=bert.name)
        await bert.post(thread, "answers anna", reply_to=own.seq)
        await bert.post(thread, "answers bert", reply_to=other.seq)
        await anna.post(thread, "anna answers herself", reply_to=own.seq)

    assert await delivered(threads, anna, thread, MessageFilter(addressed_to_me=True), say) == [
        "mentions both",
        "handed to anna",
        "answers anna",
        "anna answers herself",
    ]


async def test_a_reply_to_a_message_before_the_cursor_is_addressed_to_its_sender(
    thread: str, anna: Peer, bert: Peer
) -> None:
    own = await anna.post(thread, "asks")
    at_head = Cursor(thread=thread, after_seq=1, epoch=own.epoch)
    async with anna.wait(at_head, filter=MessageFilter(addressed_to_me=True)) as frames:
        await frames.until("caught_up")
        await bert.post(thread, "answers", reply_to=own.seq)
        assert [message.content for message in await frames.messages(1)] == ["answers"]


async def test_an_edit_is_wanted_if_the_message_that_it_edits_is(
    threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    asked = await anna.post(thread, "anna asks")
    fields: dict[str, dict[str, Any]] = {
        "nothing": {},
        "mention": {"mentions": [anna.name]},
        "handoff": {"handoff_to": anna.name},
        "reply": {"reply_to": asked.seq},
        "urgent": {"priority": PRIORITY_URGENT},
    }
    seqs = {name: (await bert.post(thread, name, **each)).seq for name, each in fields.items()}
    edits = {
        name: (await bert.post(thread, f"edited {name}", edit_of=seqs[name])).seq for name in seqs
    }
    for wanted, names in (
        (MessageFilter(addressed_to_me=True), ["mention", "handoff", "reply"]),
        (MessageFilter(min_priority=PRIORITY_HIGH), ["urgent"]),
        (MessageFilter(kinds=[MESSAGE_KIND_CHAT], senders=[bert.name]), []),
    ):
        of_edits = [edits[name] for name in names]
        for start in (0, seqs["urgent"]):  # with the messages, and without them
            found = await anna.read(Cursor(thread=thread, after_seq=start), filter=wanted)
            assert [message.seq for message in found if message.edit_of] == of_edits
        page = ListMessagesRequest(thread=thread, after_seq=seqs["urgent"], filter=wanted)
        listed = await anna.bus.ListMessages(page, metadata=anna.metadata)
        assert [message.seq for message in listed.messages] == of_edits


async def test_an_edit_that_mentions_the_caller_is_wanted_whatever_it_edits(
    threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    post = await bert.post(thread, "to nobody")

    async def say() -> None:
        await bert.post(thread, "to anna", edit_of=post.seq, mentions=[anna.name])
        await bert.post(thread, "to nobody", edit_of=post.seq)

    wanted = MessageFilter(addressed_to_me=True)
    async with anna.wait(thread, filter=wanted) as frames:
        await frames.until("caught_up")
        await say()
        assert [message.content for message in await frames.messages(1)] == ["to anna"]
        await set_state(threads, thread, THREAD_STATE_CLOSED)
        assert messages_in(await frames.rest()) == []


async def test_nothing_is_addressed_to_anonymous(bus: BusStub, thread: str) -> None:
    request = WaitMessagesRequest(
        threads=[Cursor(thread=thread)], filter=MessageFilter(addressed_to_me=True)
    )
    refusal = await refused(bus.WaitMessages(request))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["filter.addressed_to_me"])


@pytest.mark.parametrize("least", Priority.values())
async def test_a_filter_by_priority_lets_that_and_higher_through(
    bus: BusStub, threads: ThreadStub, thread: str, least: Priority.ValueType
) -> None:
    anyone = Peer(bus)
    priorities = [PRIORITY_URGENT, PRIORITY_LOW, PRIORITY_UNSPECIFIED, PRIORITY_HIGH]

    async def say() -> None:
        for priority in priorities:
            await anyone.post(thread, Priority.Name(priority or PRIORITY_NORMAL), priority=priority)

    expected = [priority or PRIORITY_NORMAL for priority in priorities]
    assert await delivered(threads, anyone, thread, MessageFilter(min_priority=least), say) == [
        Priority.Name(priority) for priority in expected if priority >= least
    ]


@pytest.mark.parametrize(
    ("kinds", "seqs"),
    [
        ([], [1, 2, 3, 4]),
        ([MESSAGE_KIND_CHAT], [1, 4]),
        ([MESSAGE_KIND_THREAD], [2, 3]),
        ([MESSAGE_KIND_CHAT, MESSAGE_KIND_THREAD], [1, 2, 3, 4]),
    ],
)
async def test_a_filter_by_kinds_lets_only_those_through(
    bus: BusStub,
    threads: ThreadStub,
    thread: str,
    kinds: list[MessageKind.ValueType],
    seqs: list[int],
) -> None:
    anyone, wanted = Peer(bus), MessageFilter(kinds=kinds)
    # A second thread keeps the wait open while the first one is closed.
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.open"))
    async with anyone.wait(thread, f"{thread}.open", filter=wanted) as frames:
        await frames.until("caught_up")
        await anyone.post(thread)
        for state in (THREAD_STATE_CLOSED, THREAD_STATE_OPEN):
            await set_state(threads, thread, state)
        await anyone.post(thread)
        assert [message.seq for message in await frames.messages(len(seqs))] == seqs
    assert [message.seq for message in await anyone.read(thread, filter=wanted)] == seqs


async def test_all_conditions_of_a_filter_must_hold(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer, bert: Peer
) -> None:
    async def say() -> None:
        for peer in (anna, bert, Peer(bus)):
            for priority in (PRIORITY_NORMAL, PRIORITY_HIGH):
                for mentions in ([], [anna.name]):
                    content = f"{peer.name} {priority} {len(mentions)}"
                    await peer.post(thread, content, priority=priority, mentions=mentions)

    wanted = MessageFilter(
        senders=[anna.name, bert.name],
        exclude_own=True,
        addressed_to_me=True,
        min_priority=PRIORITY_HIGH,
        kinds=[MESSAGE_KIND_CHAT],
    )
    assert await delivered(threads, anna, thread, wanted, say) == [f"{bert.name} {PRIORITY_HIGH} 1"]


async def test_a_history_without_a_match_is_caught_up_with_its_cursor_at_the_head(
    bus: BusStub, threads: ThreadStub, thread: str, anna: Peer
) -> None:
    await Peer(bus).post_all(thread, *"abc")
    async with anna.wait(thread, filter=MessageFilter(senders=[anna.name])) as frames:
        caught_up = (await frames.until("caught_up")).caught_up
    assert messages_in(frames.received) == []
    assert caught_up.cursor.after_seq == caught_up.head_seq == 3
