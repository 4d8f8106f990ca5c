"""Removing the oldest entries of threads: requests, what is unread, and whom entries address."""

import random
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.store import (
    LISTED_REQUESTS,
    Append,
    AppendMany,
    Checkpoint,
    Compacted,
    DeleteThread,
    ForgetAddressed,
    LeaveThread,
    Position,
    WriteNotice,
)
from bus_server.store.compact import MAX_NOTICES
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    commit,
    compact,
    create,
    join,
    log,
    post,
    register,
    remove_before,
    sighting,
)
from tests.store.test_addressed import unread
from tests.store.test_asked import ask, notices, requests, states
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Notice,
)

AGENTS = ("ann", "ben", "cyd")
SHORTEST = 1  # microsecond


@pytest.fixture
async def thread(store: Store) -> int:
    """A thread that three agents have joined. Returns its id."""
    await commit(store, *map(register, AGENTS), create(), *(join(agent=name) for name in AGENTS))
    return (await store.heads(["t"]))["t"].thread_id


async def steps(store: Store, keep: int) -> list[Compacted]:
    """Remove all but the newest entries, step by step. Returns what each step removed."""
    done: list[Compacted] = []
    while not done or done[-1].more:
        done += await commit(store, compact(0, keep))
    return done


# ── Requests ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", ["short", LARGE], ids=["short", "large"])
async def test_the_open_requests_of_a_removed_message_are_closed_with_a_notice_each(
    store: Store, thread: int, content: str
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await commit(store, ask("ben", "cyd", content=content, traceparent=trace), ask("ben"))
    await commit(store, post(sender="cyd", reply_to=1), post())
    (done,) = await commit(store, compact(0, 3))
    # One entry was over the limit; by the two notices, two others are.
    assert (done.first_seq, done.entries, done.more) == (4, 3, False)
    assert await states(store) == {
        (1, "ben"): "CLOSED",
        (1, "cyd"): "ANSWERED",
        (2, "ben"): "CLOSED",
    }
    assert await notices(store) == [("OVERDUE", 1, "ben"), ("OVERDUE", 2, "ben")]
    *_, first, second = await log(store)
    assert (first.sender, list(first.mentions), first.wakes) == ("system", ["ann"], WAKE_ADDRESSED)
    assert (first.traceparent, second.traceparent) == (trace, "")
    assert await store.addressed("ann", thread, 3, 100, 10) == [5, 6]
    # A late reply is accepted, and answers nothing.
    await commit(store, post(sender="ben", reply_to=1))
    assert (await states(store))[1, "ben"] == "CLOSED"


async def test_a_request_that_had_its_overdue_notice_gets_no_other(
    store: Store, thread: int
) -> None:
    await commit(store, ask("ben", within=Duration(nanos=1_000)), post())
    (found,) = await requests(store)
    notice = WriteNotice("t", found.key, Notice.REASON_OVERDUE)
    assert await commit(store, notice) == [True]
    assert [entry.kind for entry in await log(store)][2:] == [MESSAGE_KIND_NOTICE]
    done = await steps(store, 1)
    assert sum(each.entries for each in done) == 2
    assert await states(store) == {(1, "ben"): "CLOSED"}
    assert len(await notices(store)) == 1


async def test_requests_that_the_commit_itself_answers_get_no_notice(
    store: Store, thread: int
) -> None:
    await commit(store, ask("ben"), ask("ben"))
    await commit(store, post(sender="ben", reply_to=1), compact(0, 1))
    assert await notices(store) == [("OVERDUE", 2, "ben")]
    assert await states(store) == {(1, "ben"): "ANSWERED", (2, "ben"): "CLOSED"}


@pytest.mark.slow
async def test_a_step_appends_a_limited_number_of_notices(store: Store, thread: int) -> None:
    asked = MAX_NOTICES // 2 - 2
    agents = [f"agent-{number}" for number in range(asked)]
    await commit(store, *map(register, agents))
    await commit(store, *(ask(*agents) for _ in range(4)), post())
    (done,) = await commit(store, compact(0, 1))
    assert (done.entries, done.more) == (3, True)
    (done,) = await commit(store, compact(0, 3 * asked))
    assert (done.first_seq, done.more) == (6 + asked, False)
    assert len(await notices(store)) == 3 * asked
    assert set((await states(store)).values()) == {"CLOSED"}
    await steps(store, 1)
    (left,) = await log(store)
    assert left.seq == 5 + 4 * asked
    assert (left.notice.request_seq, left.notice.agent) == (4, sorted(agents)[-1])


@pytest.mark.slow
async def test_requests_of_removed_messages_are_listed_until_many_more_are_removed(
    store: Store, thread: int
) -> None:
    await commit(store, ask("ben"), ask("ben"), AppendMany([post() for _ in range(1_100)]))
    await commit(store, *(post(sender="ben", reply_to=seq) for seq in (1, 2)))
    for first, listed in ((LISTED_REQUESTS + 1, 2), (LISTED_REQUESTS + 2, 1)):
        await remove_before(store, first)
        assert len(await requests(store)) == listed
        assert len(await requests(store, thread="t")) == listed
    assert await states(store) == {(2, "ben"): "ANSWERED"}
    await remove_before(store, LISTED_REQUESTS + 3)
    assert await requests(store) == []


async def test_closed_requests_leave_room_for_others(store: Store, thread: int) -> None:
    await commit(store, AppendMany([ask("ben") for _ in range(50)]))
    assert await unread(store, "ben") == {"t": (0, 50)}
    await commit(store, compact(SHORTEST))
    assert set((await states(store)).values()) == {"CLOSED"}
    assert len(await notices(store)) == 50
    assert await unread(store, "ben") == {}
    (found, _), *_ = await store.unread("ann", 10)
    assert (found.addressed_count, found.open_request_count) == (50, 0)


# ── What is unread ──────────────────────────────────────────────────────────────────────────────


async def test_what_was_removed_is_not_unread(store: Store, thread: int) -> None:
    await commit(store, *(post(sender="ben", mentions=["ann"]) for _ in range(5)))
    assert await unread(store, "ann") == {"t": (0, 5)}
    await remove_before(store, 4)
    assert await unread(store, "ann") == {"t": (0, 2)}
    assert await unread(store, "ann", {"t": 4}) == {"t": (4, 1)}
    assert await unread(store, "cyd") == {"t": (0, 0)}
    await commit(store, compact(SHORTEST))
    assert await unread(store, "ann") == await unread(store, "cyd") == {}
    await commit(store, post(sender="ben"))
    assert await unread(store, "ann") == {"t": (0, 0)}


async def test_an_agent_that_was_only_mentioned_has_the_kept_entries_unread(
    store: Store, thread: int
) -> None:
    await commit(store, register("dan"), *(post(mentions=["dan"]) for _ in range(3)))
    await remove_before(store, 3)
    assert [each[1] for each in (await unread(store, "dan")).values()] == [1]
    await commit(store, compact(SHORTEST))
    assert await unread(store, "dan") == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_removing_entries_changes_nothing_of_what_is_unread_after_them(
    store: Store, thread: int, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - not a secret
    waking: list[set[str]] = []
    addressing: list[set[str]] = []

    def entry() -> Append:
        wakes = chance.choice([WAKE_ALL, WAKE_ADDRESSED, WAKE_NOBODY, WAKE_NOBODY, WAKE_NOBODY])
        mentions = chance.choices(AGENTS, k=chance.randrange(2))
        everybody = {WAKE_ALL: {*AGENTS}, WAKE_ADDRESSED: {*mentions}}.get(wakes, set())
        waking.append(everybody)
        addressing.append(everybody & {*mentions})
        return post(sender="dan", wakes=wakes, mentions=mentions)

    for _ in range(8):
        await commit(store, *(entry() for _ in range(chance.randrange(1, 6))))
        head = (await store.heads(["t"]))["t"]
        first = chance.randint(head.first_seq, head.seq + 1)
        if first > head.seq:
            await commit(store, compact(SHORTEST))
        else:
            await remove_before(store, first)
        following = ""
        while following := (await commit(store, ForgetAddressed("t", following)))[0]:
            pass
        for name in AGENTS:
            for read in range(len(waking) + 1):
                gone = max(read, first - 1)
                wanted = {}
                if any(name in each for each in waking[gone:]):
                    wanted = {"t": (read, sum(name in each for each in addressing[gone:]))}
                assert await unread(store, name, {"t": read}) == wanted


# ── Whom entries address ────────────────────────────────────────────────────────────────────────


async def forget(store: Store) -> int:
    """Forget whom removed entries address. Returns how many commands it took."""
    count, following = 0, ""
    while count == 0 or following:
        (following,) = await commit(store, ForgetAddressed("t", following))
        count += 1
        assert count < 100
    return count


async def kept(store: Store, thread: int, agent: str) -> list[int] | None:
    """Returns the seqs of the kept entries that address an agent."""
    first = (await store.heads(["t"]))["t"].first_seq
    return await store.addressed(agent, thread, first - 1, 1 << 32, 10_000)


@pytest.mark.slow
async def test_whom_removed_entries_address_is_forgotten_in_steps(
    store: Store, thread: int
) -> None:
    agents = [f"agent-{number:03}" for number in range(450)]
    await commit(store, *map(register, agents))
    many = [post(sender="cyd", mentions=["ann"], wakes=WAKE_ADDRESSED) for _ in range(700)]
    await commit(store, AppendMany(many), post(mentions=agents), post(mentions=["ben", *agents]))
    await remove_before(store, 702)
    assert await forget(store) > 3
    assert await forget(store) > 1, "the agents that kept entries address are looked at again"
    assert await kept(store, thread, "ann") == []
    for agent in ("ben", *agents):
        assert await kept(store, thread, agent) == [702]
    assert await unread(store, "ben") == {"t": (0, 1)}


async def test_agents_that_left_or_were_never_there_are_forgotten_too(
    store: Store, thread: int
) -> None:
    await commit(store, *(post(sender="cyd", mentions=["ann", "ben"]) for _ in range(3)))
    await commit(store, LeaveThread("t", "ben"), compact(0, 1))
    first = (await store.heads(["t"]))["t"].first_seq
    await forget(store)
    assert await kept(store, thread, "ann") == ([3] if first <= 3 else [])
    assert await kept(store, thread, "ben") == await kept(store, thread, "ann")


async def test_forgetting_changes_nothing_of_a_thread_from_which_nothing_was_removed(
    store: Store, thread: int
) -> None:
    await commit(store, *(post(mentions=["ben"]) for _ in range(3)))
    assert await commit(store, ForgetAddressed("t")) == [""]
    assert await kept(store, thread, "ben") == [1, 2, 3]


async def test_forgetting_sees_what_was_removed_and_deleted_in_its_commit(
    store: Store, thread: int
) -> None:
    await commit(store, *(post(mentions=["ben"]) for _ in range(4)))
    done = await commit(store, compact(0, 2), ForgetAddressed("t"))
    assert done[1] == ""
    assert await kept(store, thread, "ben") == [3, 4]
    done = await commit(store, ForgetAddressed("t"), DeleteThread("t"), ForgetAddressed("t"))
    assert (done[0], done[2]) == ("", "")
    done = await commit(store, create(), post(mentions=["ben"]), ForgetAddressed("t"))
    thread_id = (await store.heads(["t"]))["t"].thread_id
    assert await kept(store, thread_id, "ben") == [1]


async def test_positions_saved_later_are_of_the_same_seqs(store: Store, thread: int) -> None:
    await commit(store, *(post(sender="cyd") for _ in range(5)))
    await remove_before(store, 4)
    epoch = (await store.heads(["t"]))["t"].epoch
    reads: dict[Any, Position] = {("ann", "t"): Position(epoch, 2, 2)}
    await commit(store, Checkpoint([sighting("ann", 1)], reads))
    assert await unread(store, "ann") == {"t": (2, 0)}
    await commit(store, Checkpoint([], {("ann", "t"): Position(epoch, 5, 5)}))
    assert await unread(store, "ann") == {}
