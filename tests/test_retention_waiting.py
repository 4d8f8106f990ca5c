"""Waits whose next entries are not kept any more: each gets a resync, and goes on at the oldest."""

from typing import Any

import pytest

from tests.participation import join, report_read
from tests.peers import Peer, registered
from tests.retention import NOTHING, create, post, read, retain, set_retention, shorten, until_first
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import Frames, kinds, messages_in, waiting
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    WaitEnding,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, MessageFilter
from threadbus.v1.thread_pb2 import Retention, ThreadPosition

pytestmark = pytest.mark.slow


@pytest.fixture
async def agent(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "agent")


async def rest(wait: Frames) -> tuple[list[str], list[int]]:
    """Returns the kinds of the frames of a wait to its end, and the seqs of the messages."""
    frames = await wait.rest()
    return kinds(frames), [message.seq for message in messages_in(frames)]


def begins(position: ThreadPosition) -> tuple[int, int, int]:
    """Returns where a wait is, and the seqs of the thread's oldest and newest entry."""
    return position.cursor.after_seq, position.first_seq, position.head_seq


# ── Behind when it begins ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("epoch", [True, False])
async def test_a_wait_that_begins_behind_is_told_once(
    bus: BusStub, threads: ThreadStub, name: str, after: int, epoch: bool
) -> None:
    found = await shorten(bus, threads, name, first=5, head=7)
    cursor = Cursor(thread=name, after_seq=after, epoch=found.epoch if epoch else "")
    async with waiting(bus, cursor, max_wait=0) as wait:
        assert await rest(wait) == (
            ["started", "resync", "messages", "caught_up", "ending"],
            [5, 6, 7],
        )
        started, resync, _, caught_up, ending = wait.received
        (position,) = started.started.threads
        assert (position.cursor, position.first_seq, position.head_seq) == (cursor, 5, 7)
        oldest = Cursor(thread=name, after_seq=4, epoch=found.epoch)
        assert resync.resync == WaitResync(
            reason=WaitResync.REASON_COMPACTED,
            requested=cursor,
            position=ThreadPosition(cursor=oldest, first_seq=5, head_seq=7, state=found.state),
        )
        assert begins(caught_up.caught_up) == begins(ending.ending.threads[0]) == (7, 5, 7)


@pytest.mark.parametrize("after", [4, 5, 7])
async def test_a_wait_that_misses_nothing_is_not_told(
    bus: BusStub, threads: ThreadStub, name: str, after: int
) -> None:
    await shorten(bus, threads, name, first=5, head=7)
    async with waiting(bus, Cursor(thread=name, after_seq=after), max_wait=0) as wait:
        told, seqs = await rest(wait)
        assert "resync" not in told
        assert seqs == list(range(after + 1, 8))
        assert begins(wait.received[0].started.threads[0]) == (after, 5, 7)


async def test_a_thread_of_which_nothing_is_kept_is_continued_at_its_head(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name, NOTHING)
    await post(bus, name, 3)
    found = await until_first(threads, name, 4)
    for after, resync in ((0, ["resync"]), (2, ["resync"]), (3, [])):
        async with waiting(bus, Cursor(thread=name, after_seq=after), max_wait=0) as wait:
            assert await rest(wait) == (["started", *resync, "caught_up", "ending"], [])
            assert begins(wait.received[-1].ending.threads[0]) == (3, 4, 3)
    await set_retention(threads, name, None)
    async with waiting(bus, Cursor(thread=name, after_seq=3, epoch=found.epoch)) as wait:
        assert [message.seq for message in await wait.messages(1)] == [4]


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        ({"after_seq": 8, "hidden_seq": 2}, "REASON_CURSOR_AHEAD"),
        ({"after_seq": 1, "epoch": "another"}, "REASON_EPOCH_CHANGED"),
        ({"after_seq": 6, "epoch": "another", "hidden_seq": 2}, "REASON_EPOCH_CHANGED"),
    ],
)
async def test_a_cursor_that_is_not_valid_is_told_as_before_and_continued_at_the_oldest(
    bus: BusStub, threads: ThreadStub, name: str, cursor: dict[str, Any], reason: str
) -> None:
    await shorten(bus, threads, name, first=5, head=7)
    async with waiting(bus, Cursor(thread=name, **cursor), max_wait=0) as wait:
        resync = (await wait.until("resync")).resync
        assert WaitResync.Reason.Name(resync.reason) == reason
        assert begins(resync.position) == (4, 5, 7)
        assert resync.position.cursor.hidden_seq == 0
        assert await rest(wait) == (["messages", "caught_up", "ending"], [5, 6, 7])


async def test_of_several_threads_those_behind_are_told(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(3)]
    for thread in names[:2]:
        await shorten(bus, threads, thread, first=3, head=4)
    await create(threads, names[2])
    await post(bus, names[2], 2)
    cursors = [
        Cursor(thread=names[0], after_seq=1),
        Cursor(thread=names[1], after_seq=2),
        Cursor(thread=names[2]),
    ]
    async with waiting(bus, *cursors, max_wait=0) as wait:
        frames = await wait.rest()
    resyncs = [frame.resync for frame in frames if frame.HasField("resync")]
    assert [resync.requested for resync in resyncs] == cursors[:1]
    assert [(m.thread, m.seq) for m in messages_in(frames)] == [
        *((names[0], seq) for seq in (3, 4)),
        *((names[1], seq) for seq in (3, 4)),
        *((names[2], seq) for seq in (1, 2)),
    ]
    assert [begins(each) for each in frames[-1].ending.threads] == [(4, 3, 4), (4, 3, 4), (2, 1, 2)]


@pytest.mark.parametrize("how", ["exclude_own", "addressed_to_me", "kinds"])
async def test_a_filter_hides_entries_and_not_that_others_are_gone(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str, how: str
) -> None:
    await create(threads, name, Retention(max_messages=4))
    for n in range(8):
        await agent.post(name)
        await Peer(bus).post(name, mentions=[agent.name] if n % 2 else [])
    await until_first(threads, name, 13)
    fields: dict[str, Any] = {"kinds": [1]} if how == "kinds" else {how: True}
    wanted = {"exclude_own": [14, 16], "addressed_to_me": [16], "kinds": [13, 14, 15, 16]}[how]
    # hidden_seq is of an entry that is gone, too.
    cursor = Cursor(thread=name, after_seq=5, hidden_seq=2)
    async with agent.wait(cursor, filter=MessageFilter(**fields), max_wait=0) as wait:
        resync = (await wait.until("resync")).resync
        assert resync.requested == cursor
        _, seqs = await rest(wait)
        assert seqs == wanted
        assert wait.received[-1].ending.threads[0].cursor.after_seq == 16


@pytest.mark.parametrize("observe", [False, True])
async def test_a_wait_on_all_threads_is_told_of_those_that_the_agent_has_begun_to_read(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str, observe: bool
) -> None:
    begun, ended, mentioned, requested = (f"{name}-{n}" for n in range(4))
    for thread in (begun, ended, requested):
        await create(threads, thread)
        await join(threads, thread, agent)
    await create(threads, mentioned)
    for thread in (begun, ended, mentioned, requested):
        await Peer(bus).post(thread, mentions=[agent.name])
        await post(bus, thread, 3)
        await retain(threads, thread, max_messages=2)  # its entry is the fifth
        await until_first(threads, thread, 4)
    await report_read(bus, agent, ended, 3)
    async with agent.wait(
        Cursor(thread=requested, after_seq=2), all_my_threads=True, observe=observe, max_wait=0
    ) as wait:
        frames = await wait.rest()
    resyncs = [frame.resync for frame in frames if frame.HasField("resync")]
    assert {each.requested.thread: each.requested.after_seq for each in resyncs} == {
        begun: 0,
        requested: 2,
    }
    assert {begins(each.position) for each in resyncs} == {(3, 4, 5)}
    assert sorted((m.thread, m.seq) for m in messages_in(frames)) == [
        (thread, seq) for thread in sorted((begun, ended, mentioned, requested)) for seq in (4, 5)
    ]


async def test_an_inbox_continues_with_what_is_addressed_and_kept(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    await create(threads, name)
    await join(threads, name, agent)
    for n in range(10):
        await Peer(bus).post(name, mentions=[agent.name] if n % 2 else [])
    await retain(threads, name, max_messages=6)
    await until_first(threads, name, 6)
    wanted = MessageFilter(addressed_to_me=True)
    async with agent.wait(all_my_threads=True, filter=wanted, max_wait=0) as wait:
        resync = (await wait.until("resync")).resync
        assert (resync.requested.after_seq, begins(resync.position)) == (0, (5, 6, 11))
        _, seqs = await rest(wait)
        assert seqs == [6, 8, 10]


async def test_the_agents_next_wait_continues_after_what_it_was_told(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    await shorten(bus, threads, name, first=5, head=7)
    async with agent.wait(name, max_messages=1) as wait:
        ending = await wait.ending()
    async with agent.wait(ending.threads[0].cursor, max_wait=0) as wait:
        assert await rest(wait) == (["started", "messages", "caught_up", "ending"], [6, 7])


# ── Behind while it is open ─────────────────────────────────────────────────────────────────────


async def test_a_wait_that_has_caught_up_is_not_told(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    await create(threads, name)
    await post(bus, name, 5)
    async with agent.wait(name, keepalive=1) as wait:
        await wait.until("caught_up")
        await set_retention(threads, name, NOTHING)
        found = await until_first(threads, name, 7)
        assert found.head_seq == 6
        await set_retention(threads, name, None)
        await post(bus, name, 1)
        seqs = [message.seq for message in await wait.messages(3)]
        assert seqs == [6, 7, 8]
        assert "resync" not in kinds(wait.received)


async def test_a_long_poll_that_ends_has_the_positions_of_now(
    bus: BusStub, threads: ThreadStub, name: str
) -> None:
    await create(threads, name)
    await post(bus, name, 5)
    async with waiting(bus, name, min_messages=7) as wait:
        await wait.until("caught_up")
        await retain(threads, name, max_messages=2)
        await until_first(threads, name, 5)
        await post(bus, name, 2)
        ending = await wait.ending()
        assert ending.reason == WaitEnding.REASON_MIN_MESSAGES
        position = ending.threads[0]
        assert (position.cursor.after_seq, position.head_seq) == (8, 8)
        assert 5 <= position.first_seq <= 7


async def test_a_keepalive_has_the_oldest_entry_of_now(
    bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    """A keepalive has the threads whose cursors have moved: past what is hidden."""
    await create(threads, name)
    only = MessageFilter(senders=[agent.name])
    async with waiting(bus, name, filter=only, keepalive=1) as wait:
        await wait.until("caught_up")
        await post(bus, name, 5)
        await retain(threads, name, max_messages=2)
        await until_first(threads, name, 5)
        await post(bus, name, 1)
        while True:
            frame = await wait.until("keepalive")
            if frame.keepalive.threads and frame.keepalive.threads[0].cursor.after_seq == 7:
                break
        assert 5 <= frame.keepalive.threads[0].first_seq <= 6


@pytest.mark.parametrize("wanted", [MessageFilter(), MessageFilter(addressed_to_me=True)])
@pytest.mark.parametrize("all_threads", [False, True])
async def test_a_wait_that_falls_behind_as_nobody_reads_it_is_told_before_it_continues(
    bus: BusStub,
    threads: ThreadStub,
    agent: Peer,
    name: str,
    wanted: MessageFilter,
    all_threads: bool,
) -> None:
    await create(threads, name)
    await join(threads, name, agent)
    large = PostMessageRequest(thread=name, content="x" * 1_000_000, mentions=[agent.name])
    for _ in range(20):
        await bus.PostMessage(large)
    cursors = [] if all_threads else [Cursor(thread=name)]
    async with agent.wait(*cursors, all_my_threads=all_threads, filter=wanted) as wait:
        await wait.next()  # the next ones fill the connection
        await retain(threads, name, max_messages=2)
        await until_first(threads, name, 20)
        last = 0
        while last < 20:
            messages = (await wait.next()).messages.messages
            last = messages[-1].seq if messages else last
        frames = wait.received
    resyncs = [frame.resync for frame in frames if frame.HasField("resync")]
    seqs = [message.seq for message in messages_in(frames)]
    if all_threads and not wanted.addressed_to_me and not resyncs:
        assert seqs[:20] == list(range(1, 21))  # from the server's memory
        return
    (resync,) = resyncs
    found = await read(threads, name)
    behind = resync.requested.after_seq
    assert 1 <= behind < 19
    assert seqs[: behind + 1] == [*range(1, behind + 1), 20]
    oldest = Cursor(thread=name, after_seq=19, epoch=found.epoch)
    assert resync == WaitResync(
        reason=WaitResync.REASON_COMPACTED,
        requested=Cursor(thread=name, after_seq=behind, epoch=found.epoch),
        position=ThreadPosition(cursor=oldest, first_seq=20, head_seq=21, state=found.state),
    )
