"""WaitMessages: max_wait and the call's deadline limit the wait, and end it with OK."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.peers import Peer
from tests.serving import BusStub, ThreadStub
from tests.wait_frames import cursors_after, kinds, messages_in
from threadbus.v1.bus_service_pb2 import WaitEnding
from threadbus.v1.message_pb2 import PRIORITY_URGENT, Cursor, MessageFilter
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

MAX_WAIT, DEADLINE = WaitEnding.REASON_MAX_WAIT, WaitEnding.REASON_DEADLINE

#: A call's deadline in seconds, and how long before it a wait ends: a tenth, which is also the
#: least margin (0.2 to 1 s).
TIMEOUT, MARGIN = 2.0, 0.2


@contextlib.asynccontextmanager
async def under_posts(peer: Peer, thread: str) -> AsyncIterator[list[tuple[float, int]]]:
    """Post to a thread as fast as possible; yields when each post was acknowledged, and its seq."""
    answered: list[tuple[float, int]] = []
    over = False

    async def post() -> None:
        while not over:
            seq = (await peer.post(thread)).seq
            answered.append((now(), seq))

    async with asyncio.TaskGroup() as posters:
        for _ in range(4):
            posters.create_task(post())
        try:
            yield answered
        finally:
            over = True


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("max_wait", [0, 0.0001, 0.05])
async def test_max_wait_ends_an_idle_wait_with_ok(
    bus: BusStub, thread: str, max_wait: float
) -> None:
    opened = now()
    async with Peer(bus).wait(thread, max_wait=max_wait) as frames:
        ending = await frames.ending()
    assert now() >= opened + max_wait
    assert ending.reason == MAX_WAIT
    assert kinds(frames.received) == ["started", "caught_up", "ending"]


@pytest.mark.slow
async def test_max_wait_ends_a_wait_after_all_that_was_committed_until_then(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    await anyone.post(thread)
    async with under_posts(anyone, thread) as answered:
        opened = now()
        async with anyone.wait(thread, max_wait=0.5) as frames:
            ending = await frames.ending()
    assert ending.reason == MAX_WAIT
    seqs = [message.seq for message in messages_in(frames.received)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= max(seq for moment, seq in answered if moment < opened + 0.5)
    assert ending.threads[0].cursor.after_seq == len(seqs)


@pytest.mark.slow
async def test_max_wait_limits_the_waiting_and_not_the_delivery(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for _ in range(30):
        await anyone.post(thread, "x" * 1_000_000)
    async with anyone.wait(thread, max_wait=0.05) as frames:
        await frames.messages(1)
        async with anyone.wait(Cursor(thread=thread, after_seq=30), max_wait=0.1) as later:
            await later.rest()  # by now the first wait is past its max_wait, and it goes on
        assert (await frames.ending()).reason == MAX_WAIT
    assert [message.seq for message in messages_in(frames.received)] == list(range(1, 31))


@pytest.mark.slow
async def test_a_thread_that_grows_as_fast_as_it_is_read_does_not_exceed_max_wait(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    for _ in range(30):
        await anyone.post(thread, "x" * 1_000_000)
    async with anyone.wait(thread, max_wait=0.05) as frames:
        while not (frame := await frames.next()).HasField("ending"):
            assert len(frames.received) < 100
            await anyone.post(thread, "x" * 1_000_000)
    assert frame.ending.reason == MAX_WAIT
    [position] = frame.ending.threads
    seqs = [message.seq for message in messages_in(frames.received)]
    assert seqs == list(range(1, position.cursor.after_seq + 1))
    assert 30 <= len(seqs) < position.head_seq


@pytest.mark.slow
async def test_a_wait_ends_with_ok_before_the_calls_deadline(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    opened = now()
    async with anyone.wait(thread, timeout=TIMEOUT) as frames:
        await frames.until("caught_up")
        await anyone.post_all(thread, *"abc")
        ending = await frames.ending()
        assert opened + TIMEOUT - MARGIN <= now() < opened + TIMEOUT
    assert ending.reason == DEADLINE
    assert [message.seq for message in messages_in(frames.received)] == [1, 2, 3]
    assert ending.threads[0].cursor.after_seq == 3


@pytest.mark.slow
async def test_a_wait_ends_before_the_deadline_even_if_max_wait_is_later(
    bus: BusStub, thread: str
) -> None:
    async with Peer(bus).wait(thread, timeout=TIMEOUT, max_wait=600, min_messages=1) as frames:
        assert (await frames.ending()).reason == DEADLINE


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted", [MessageFilter(), MessageFilter(min_priority=PRIORITY_URGENT)], ids=["all", "none"]
)
async def test_a_hot_thread_does_not_exceed_the_deadline(
    bus: BusStub, thread: str, wanted: MessageFilter
) -> None:
    anyone = Peer(bus)
    async with under_posts(anyone, thread) as answered:
        opened = now()
        async with anyone.wait(thread, timeout=TIMEOUT, filter=wanted) as frames:
            ending = await frames.ending()
    assert ending.reason == DEADLINE
    reached = ending.threads[0].cursor.after_seq
    assert reached >= max(seq for moment, seq in answered if moment < opened + TIMEOUT - MARGIN)
    seqs = [message.seq for message in messages_in(frames.received)]
    assert seqs == ([] if wanted.min_priority else list(range(1, reached + 1)))


@pytest.mark.slow
async def test_the_deadline_ends_a_wait_in_mid_history(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    anyone = Peer(bus)
    await threads.CreateThread(CreateThreadRequest(thread=f"{thread}.silent"))
    for _ in range(60):
        await anyone.post(thread, "x" * 1_000_000)
    async with anyone.wait(thread, timeout=TIMEOUT) as frames:
        await frames.messages(1)
        # Do not read until a wait that opened later has reached its deadline's margin.
        async with anyone.wait(f"{thread}.silent", timeout=TIMEOUT) as later:
            assert (await later.ending()).reason == DEADLINE
        ending = await frames.ending()
    assert ending.reason == DEADLINE
    seqs = [message.seq for message in messages_in(frames.received)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) < 60
    assert kinds(frames.received).count("caught_up") == 0
    rest = await anyone.read(*cursors_after(frames.received))
    assert [message.seq for message in rest] == list(range(len(seqs) + 1, 61))
