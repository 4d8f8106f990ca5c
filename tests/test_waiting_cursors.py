"""WaitMessages: a client that resumes from the cursors of any frame gets exactly the rest."""

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers import Peer, registered, set_state
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import by_thread, cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    Cursor,
    Message,
    MessageFilter,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

THREADS = 3
LARGE = 400 * 1024

#: One event: the thread, the sender, the priority, whether it mentions the first peer, the size.
happenings = st.tuples(
    st.integers(0, THREADS - 1),
    st.integers(0, 1),
    st.sampled_from([PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH]),
    st.booleans(),
    st.sampled_from([1, 1, 1, LARGE]),
)
conversations = st.lists(happenings, max_size=14)
filters = st.fixed_dictionaries(
    {},
    optional={
        "min_priority": st.sampled_from([PRIORITY_NORMAL, PRIORITY_HIGH]),
        "exclude_own": st.just(True),
        "addressed_to_me": st.just(True),
        "kinds": st.just([MESSAGE_KIND_CHAT]),
    },
)


def wanted_by(peer: Peer, fields: dict[str, Any], message: Message) -> bool:
    """Apply a filter as message.proto documents it; there are no replies here."""
    return (
        message.priority >= fields.get("min_priority", 0)
        and not (fields.get("exclude_own") and message.sender == peer.name)
        and not (fields.get("addressed_to_me") and peer.name not in message.mentions)
        and message.kind in fields.get("kinds", [message.kind])
    )


class Conversation:
    """Some threads with events in them."""

    def __init__(self, threads: ThreadStub, peers: list[Peer]) -> None:
        self.names = [f"t{uuid.uuid4().hex[:12]}" for _ in range(THREADS)]
        self._threads = threads
        self._peers = peers

    async def begin(self) -> None:
        for name in self.names:
            await self._threads.CreateThread(CreateThreadRequest(thread=name))

    async def apply(self, happening: tuple[int, int, int, bool, int]) -> None:
        thread, sender, priority, mention, size = happening
        mentions = [self._peers[0].name] if mention else []
        await self._peers[sender].post(
            self.names[thread], "x" * size, priority=priority, mentions=mentions
        )

    async def end(self) -> None:
        """Close every thread, one of them twice: the waits end at the second close."""
        await set_state(self._threads, self.names[0], THREAD_STATE_CLOSED)
        await set_state(self._threads, self.names[0], THREAD_STATE_OPEN)
        for name in self.names:
            await set_state(self._threads, name, THREAD_STATE_CLOSED)

    async def whole(self, peer: Peer) -> list[Message]:
        return await peer.read(*self.names)


def check_stream(frames: list[WaitMessagesResponse]) -> None:
    """Check that cursors only grow, and never past what is still to be sent."""
    reached: dict[str, int] = {}
    for at in range(1, len(frames) + 1):
        now = {cursor.thread: cursor.after_seq for cursor in cursors_after(frames[:at])}
        assert all(now[thread] >= seq for thread, seq in reached.items())
        sent = messages_in([frames[at - 1]])
        assert all(reached[message.thread] < message.seq for message in sent)
        assert all(message.seq <= now[message.thread] for message in sent)
        reached = now
    assert kinds(frames).count("started") == kinds(frames[:1]).count("started") == 1
    assert kinds(frames).count("caught_up") == THREADS


@pytest.mark.slow
@given(history=conversations, live=conversations, fields=filters)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_a_wait_from_the_cursors_of_any_frame_returns_exactly_the_rest(
    bus: BusStub,
    agents: AgentStub,
    threads: ThreadStub,
    history: list[tuple[int, int, int, bool, int]],
    live: list[tuple[int, int, int, bool, int]],
    fields: dict[str, Any],
) -> None:
    anna, bert = [await registered(agents, bus, name) for name in ("anna", "bert")]
    conversation, wanted = Conversation(threads, [anna, bert]), MessageFilter(**fields)
    await conversation.begin()
    for happening in history:
        await conversation.apply(happening)
    async with anna.wait(*conversation.names, filter=wanted) as frames:
        await frames.next()
        for happening in live:
            await conversation.apply(happening)
        await conversation.end()
        await frames.rest()
    check_stream(frames.received)
    seen = by_thread(messages_in(frames.received))
    whole = [m for m in await conversation.whole(bert) if wanted_by(anna, fields, m)]
    assert seen == by_thread(whole)
    for at in range(1, len(frames.received) + 1):
        before, after = frames.received[:at], frames.received[at:]
        async with anna.wait(*cursors_after(before), filter=wanted) as resumed:
            assert "resync" not in kinds(await resumed.rest())
        assert by_thread(messages_in(resumed.received)) == by_thread(messages_in(after))


@pytest.mark.slow
@given(history=conversations, fields=filters, step=st.integers(1, 4))
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_consecutive_waits_with_max_messages_return_every_message_once(
    bus: BusStub,
    agents: AgentStub,
    threads: ThreadStub,
    history: list[tuple[int, int, int, bool, int]],
    fields: dict[str, Any],
    step: int,
) -> None:
    anna, bert = [await registered(agents, bus, name) for name in ("anna", "bert")]
    conversation, wanted = Conversation(threads, [anna, bert]), MessageFilter(**fields)
    await conversation.begin()
    for happening in history:
        await conversation.apply(happening)
    seen: list[Message] = []
    cursors: list[Cursor | str] = [*conversation.names]
    for _ in range(len(history) + 1):
        async with anna.wait(*cursors, filter=wanted, max_messages=step, max_wait=0) as frames:
            found = messages_in(await frames.rest())
        assert len(found) <= step
        seen += found
        cursors = [*cursors_after(frames.received)]
    whole = [m for m in await conversation.whole(bert) if wanted_by(anna, fields, m)]
    assert by_thread(seen) == by_thread(whole)
