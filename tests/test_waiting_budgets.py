"""WaitMessages with max_bytes: it ends in time, and the next wait goes on where it ended."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers import Peer, registered
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.bus_service_pb2 import ListMessagesRequest, WaitEnding
from threadbus.v1.message_pb2 import Attachment, Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

MAX_BYTES = WaitEnding.REASON_MAX_BYTES


async def part(
    bus: BusStub, *threads: Cursor | str, **fields: Any
) -> tuple[list[Message], WaitEnding]:
    """Returns what a wait delivers that does not wait, and how it ends."""
    async with Peer(bus).wait(*threads, max_wait=0, **fields) as frames:
        received = await frames.rest()
    return messages_in(received), received[-1].ending


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


async def test_a_wait_ends_before_it_would_deliver_more_than_max_bytes(
    bus: BusStub, thread: str
) -> None:
    await Peer(bus).post_all(thread, *["x" * 100] * 4)
    whole, _ = await part(bus, thread)
    size = whole[0].ByteSize()
    both = size + whole[1].ByteSize()  # their times may take more or fewer bytes
    for most, count in [(1, 1), (size, 1), (both - 1, 1), (both, 2)]:
        found, ending = await part(bus, thread, max_bytes=most)
        assert found == whole[:count]
        assert ending.reason == MAX_BYTES
        assert ending.threads[0].cursor.after_seq == count
    for most in (0, sum(message.ByteSize() for message in whole) + 1, 2**31):
        found, ending = await part(bus, thread, max_bytes=most)
        assert (found, ending.reason) == (whole, WaitEnding.REASON_MAX_WAIT)


async def test_a_live_wait_ends_when_a_message_comes_that_is_too_much(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    async with anyone.wait(thread, max_bytes=300) as frames:
        await frames.until("caught_up")
        await anyone.post(thread, "x" * 100)
        await frames.messages(1)
        await anyone.post(thread, "x" * 300)
        ending = await frames.ending()
    assert (ending.reason, ending.threads[0].cursor.after_seq) == (MAX_BYTES, 1)
    found, ending = await part(bus, ending.threads[0].cursor, max_bytes=300)
    assert (seqs(found), ending.reason) == ([2], MAX_BYTES)


async def test_threads_share_max_bytes_and_the_cursors_of_all_are_right(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(3)]
    for each in names:
        await threads.CreateThread(CreateThreadRequest(thread=each))
        await Peer(bus).post_all(each, *["x" * 100] * 3)
    cursors = [Cursor(thread=each) for each in names]
    found: list[tuple[str, int]] = []
    while True:
        messages, ending = await part(bus, *cursors, max_bytes=600)
        assert sum(message.ByteSize() for message in messages) <= 600
        found += [(message.thread, message.seq) for message in messages]
        cursors = [position.cursor for position in ending.threads]
        if ending.reason != MAX_BYTES:
            break
    assert found == [(each, seq) for each in names for seq in (1, 2, 3)]


async def test_the_cursor_stays_before_what_is_too_much_whatever_is_filtered_out(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    ann, ben = [await registered(agents, bus, name) for name in ("ann", "ben")]
    for peer in (ben, ann, ben, ben, ann, ben):
        await peer.post(thread)
    wanted = MessageFilter(senders=[ann.name])
    found, ending = await part(bus, thread, filter=wanted, max_bytes=1)
    assert (seqs(found), ending.threads[0].cursor.after_seq) == ([2], 2)
    found, ending = await part(bus, ending.threads[0].cursor, filter=wanted, max_bytes=1)
    assert (seqs(found), ending.reason) == ([5], MAX_BYTES)
    found, ending = await part(bus, ending.threads[0].cursor, filter=wanted, max_bytes=1)
    assert (found, ending.reason) == ([], WaitEnding.REASON_MAX_WAIT)


async def test_max_bytes_counts_messages_as_they_are_sent(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for _ in range(4):
        await anyone.post(thread, "x" * 1_000, attachments=[Attachment(raw=bytes(100_000))])
    fields: dict[str, Any] = {"omit_attachment_data": True, "max_content_bytes": 100}
    found, ending = await part(bus, thread, max_bytes=1_000, **fields)
    assert (seqs(found), ending.reason) == ([1, 2, 3, 4], WaitEnding.REASON_MAX_WAIT)


async def test_waits_with_different_limits_each_get_what_they_asked_for(
    bus: BusStub, thread: str
) -> None:
    anyone = Peer(bus)
    limits = [0, 1, 2, 3, 5, 8, 13, 0, 1, 8]
    waits = [anyone.wait(thread, max_content_bytes=limit, min_messages=2) for limit in limits]
    opened = [await wait.__aenter__() for wait in waits]
    try:
        for frames in opened:
            await frames.until("caught_up")
        await anyone.post_all(thread, "abcdefghijklmnop", "short")
        received = await asyncio.gather(*(frames.rest() for frames in opened))
    finally:
        for wait in waits:
            await wait.__aexit__(None, None, None)
    for limit, answer in zip(limits, received, strict=True):
        texts = [message.content for message in messages_in(answer)]
        assert texts == [text[: limit or None] for text in ("abcdefghijklmnop", "short")]


@pytest.mark.slow
async def test_parts_of_any_size_make_up_the_whole_log(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    """Waits and pages, each with a limit of its own, continue one another."""
    sizes = [0, 3, 100, 1_000, 90_000, 1, 1, 5_000, 300_000, 2, 40, 7, 700_000, 12, 1]
    await threads.CreateThread(CreateThreadRequest(thread=name))
    for size in sizes:
        await Peer(bus).post(name, "x" * (size + 1), attachments=[Attachment(raw=bytes(size // 2))])

    async def read(steps: list[tuple[str, int, int, dict[str, Any]]]) -> None:
        cursor, found = Cursor(thread=name), list[int]()
        while cursor.after_seq < len(sizes):
            for how, most, count, fields in steps:
                if how == "wait":
                    fields = {**fields, "max_messages": count}
                    messages, ending = await part(bus, cursor, max_bytes=most, **fields)
                    cursor = ending.threads[0].cursor
                else:
                    messages, cursor = await page(cursor, limit=count, max_bytes=most, **fields)
                assert len(messages) <= count
                assert len(messages) == 1 or sum(m.ByteSize() for m in messages) <= most
                found += seqs(messages)
                if cursor.after_seq == len(sizes):
                    break
        assert found == list(range(1, len(sizes) + 1))

    async def page(cursor: Cursor, **fields: Any) -> tuple[list[Message], Cursor]:
        request = ListMessagesRequest(thread=name, after_seq=cursor.after_seq, **fields)
        found = await bus.ListMessages(request)
        return list(found.messages), Cursor(thread=name, after_seq=found.next_after_seq)

    loop = asyncio.get_running_loop()
    shortened = st.fixed_dictionaries(
        {},
        optional={
            "omit_attachment_data": st.booleans(),
            "max_content_bytes": st.integers(0, 2_000),
        },
    )
    step = st.tuples(
        st.sampled_from(["wait", "page"]),
        st.one_of(st.integers(1, 2_000), st.integers(1, 1_500_000)),
        st.integers(1, 8),
        shortened,
    )

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(step, min_size=1, max_size=5))
    def check(steps: list[tuple[str, int, int, dict[str, Any]]]) -> None:
        asyncio.run_coroutine_threadsafe(read(steps), loop).result()

    await asyncio.to_thread(check)
