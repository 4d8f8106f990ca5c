"""Unread counts, positions and presence where entries were removed below and above them."""

import pytest

from tests.participation import join, participants, position, report_read
from tests.peers import Peer, registered
from tests.presence import beat, state, until_state
from tests.requests import alive, ask
from tests.retention import NOTHING, create, post, retain, set_retention, until_first
from tests.server_pairs import caller_of
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import (
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Cursor,
    MessageFilter,
    Wake,
)
from threadbus.v1.thread_pb2 import Retention
from threadbus.v1.thread_service_pb2 import JOIN_START_FIRST

pytestmark = [pytest.mark.slow, pytest.mark.asking_server]

#: Who is woken by what `fill` posts, in turn: everybody, those addressed (the reader by every
#: other one), and nobody.
TURNS = [
    (WAKE_ALL, False),
    (WAKE_ADDRESSED, True),
    (WAKE_NOBODY, False),
    (WAKE_ADDRESSED, False),
    (WAKE_ALL, True),
    (WAKE_NOBODY, True),
]


@pytest.fixture
async def reader(bus: BusStub, agents: AgentStub) -> Peer:
    return await alive(await registered(agents, bus, "reader"))


async def unread(peer: Peer) -> list[ThreadUnread]:
    return list((await beat(peer.bus, caller_of(peer), lease=600)).unread)


async def fill(
    bus: BusStub, thread: str, reader: Peer, count: int
) -> list[tuple[Wake.ValueType, bool]]:
    """Post `count` messages. Returns whom each wakes, and whether it addresses the reader."""
    turns = (TURNS * count)[:count]
    for wakes, addressed in turns:
        await Peer(bus).post(thread, wakes=wakes, mentions=[reader.name] if addressed else [])
    return turns


def counts(turns: list[tuple[Wake.ValueType, bool]]) -> tuple[int, int]:
    """Returns how many of these entries wake the reader, and how many of those address it."""
    waking = [
        addressed for wakes, addressed in turns if wakes == WAKE_ALL or (wakes == 2 and addressed)
    ]
    return len(waking), sum(waking)


@pytest.mark.parametrize("read", [0, 7, 11, 24])
@pytest.mark.parametrize("first", [2, 8, 25])
async def test_what_is_unread_is_counted_of_what_is_kept(
    bus: BusStub, threads: ThreadStub, reader: Peer, name: str, read: int, first: int
) -> None:
    await create(threads, name)
    await join(threads, name, reader, start=JOIN_START_FIRST)
    turns = await fill(bus, name, reader, 24)
    await report_read(bus, reader, name, read)
    waking, addressed = counts(turns[read:])
    found = await unread(reader)
    assert bool(found) == bool(waking)
    for each in found:
        assert (each.read_seq, each.addressed_count) == (read, addressed)
    if first == 25:
        await set_retention(threads, name, NOTHING)
        await until_first(threads, name, 26)
    else:
        await retain(threads, name, max_messages=26 - first)  # with its own entry
        await until_first(threads, name, first)
    waking, addressed = counts(turns[max(read, first - 1) :])
    found = await unread(reader)
    assert bool(found) == bool(waking)
    for each in found:
        assert (each.thread, each.head_seq, each.read_seq) == (name, 25, read)
        assert each.addressed_count == addressed
    # What comes later counts as ever.
    await set_retention(threads, name, None)
    more = await fill(bus, name, reader, 6)
    (each,) = await unread(reader)
    assert each.addressed_count == addressed + counts(more)[1]
    await report_read(bus, reader, name, each.head_seq)
    assert await unread(reader) == []


async def test_quiet_entries_alone_are_not_unread_after_others_have_gone(
    bus: BusStub, threads: ThreadStub, reader: Peer, name: str
) -> None:
    await create(threads, name, Retention(max_messages=3))
    await join(threads, name, reader, start=JOIN_START_FIRST)
    await post(bus, name, 5)
    for wakes in (WAKE_NOBODY, WAKE_ADDRESSED, WAKE_NOBODY):
        await Peer(bus).post(name, wakes=wakes)
    await until_first(threads, name, 6)
    assert await unread(reader) == []
    await Peer(bus).post(name)
    await until_first(threads, name, 7)
    (each,) = await unread(reader)
    assert (each.head_seq, each.read_seq, each.addressed_count) == (9, 0, 0)


async def test_an_open_request_is_unread_until_its_message_goes(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, reader: Peer, name: str
) -> None:
    asker = await alive(await registered(agents, bus, "asker"))
    await create(threads, name)
    await ask(asker, name, reader.name)
    (each,) = await unread(reader)
    assert (each.addressed_count, each.open_request_count) == (1, 1)
    await retain(threads, name, max_messages=1)
    await until_first(threads, name, 3)  # the notice is left
    assert await unread(reader) == []  # it is addressed to the asker


async def test_positions_stay_where_they_were(
    bus: BusStub, threads: ThreadStub, reader: Peer, name: str
) -> None:
    await create(threads, name)
    await join(threads, name, reader, start=JOIN_START_FIRST)
    await post(bus, name, 10)
    async with reader.wait(name, max_messages=4) as wait:
        await wait.rest()
    await report_read(bus, reader, name, 2)
    await retain(threads, name, max_messages=5)
    await until_first(threads, name, 7)
    assert await position(threads, name, reader) == (4, 2)
    # A position among what is gone can still be reported, as it comes late.
    await report_read(bus, reader, name, 4)
    assert await position(threads, name, reader) == (4, 4)
    assert (await participants(threads, name))[reader.name].passed_over == 0


async def test_what_a_filter_passed_over_is_known_although_it_is_gone(
    bus: BusStub, threads: ThreadStub, reader: Peer, name: str
) -> None:
    await create(threads, name)
    await join(threads, name, reader, start=JOIN_START_FIRST)
    await post(bus, name, 10)
    only = MessageFilter(addressed_to_me=True)
    async with reader.wait(name, filter=only, max_wait=0) as wait:
        ending = await wait.ending()
    await retain(threads, name, max_messages=5)
    await until_first(threads, name, 7)
    async with reader.wait(ending.threads[0].cursor, filter=only, max_wait=0) as wait:
        frames = await wait.rest()
        assert not any(frame.HasField("resync") for frame in frames)
        assert frames[-1].ending.threads[0].cursor.after_seq == 11


async def test_work_that_is_gone_is_done_with_the_next_wait(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, reader: Peer, name: str
) -> None:
    await create(threads, name)
    await post(bus, name, 3)
    async with reader.wait(name) as wait:
        await wait.messages(3)
        await until_state(agents, reader.name, "WORKING")
        await set_retention(threads, name, NOTHING)
        await until_first(threads, name, 5)
        assert await state(agents, reader.name) == "WORKING"
    async with reader.wait(Cursor(thread=name, after_seq=3)) as wait:
        await wait.until("caught_up")
        await until_state(agents, reader.name, "WAITING")
