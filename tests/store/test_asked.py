"""Requests: what opens, answers and ends them, how they are listed, and the notices about them."""

import dataclasses
import random
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from bus_server.errors import (
    AccessDenied,
    CursorInvalid,
    MessageNotFound,
    QuotaExceeded,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.store import (
    FIRST_REQUEST,
    AppendMany,
    AskedKey,
    Checkpoint,
    Command,
    DeleteThread,
    LeaveThread,
    Position,
    PresenceRow,
    RequestsWanted,
    StoredRequest,
    Withdraw,
    WriteNotice,
)
from bus_server.store.interface import Store
from tests.store.commits import (
    LARGE,
    commit,
    create,
    join,
    log,
    outcomes,
    post,
    read_seqs,
    refusal,
    register,
    set_state,
    sighting,
)
from tests.store.test_threads import purge
from threadbus.v1.agent_pb2 import PRESENCE_OFFLINE
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    WAKE_ADDRESSED,
    WAKE_NOBODY,
    ExpectReply,
    Notice,
)
from threadbus.v1.request_pb2 import (
    REQUEST_STATE_ANSWERED,
    REQUEST_STATE_CLOSED,
    REQUEST_STATE_OPEN,
    REQUEST_STATE_WITHDRAWN,
    RequestState,
)
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN

AGENTS = ("ann", "ben", "cyd")
#: All states that a request can have.
ALL = [state for state in RequestState.values() if state]
#: Reasons that follow from the agent's presence.
GONE = (
    Notice.REASON_AGENT_IDLE,
    Notice.REASON_AGENT_LAPSED,
    Notice.REASON_AGENT_OFFLINE,
)


@pytest.fixture
async def thread(store: Store) -> int:
    """A thread. Returns its id."""
    await commit(store, *map(register, AGENTS), create())
    return (await store.heads(["t"]))["t"].thread_id


def ask(*agents: str, thread: str = "t", within: Duration | None = None, **fields: Any) -> Any:
    """Returns ann's question to agents."""
    expected = ExpectReply(agents=agents, within=within)
    return post(thread, mentions=agents, expect_reply=expected, **fields)


async def requests(store: Store, **fields: Any) -> list[StoredRequest]:
    """Returns all requests, of those wanted."""
    return await store.requests(RequestsWanted(**({"states": ALL} | fields)), 1_000, FIRST_REQUEST)


async def states(store: Store, **fields: Any) -> dict[tuple[int, str], str]:
    """Returns the states of requests, by message and agent."""
    return {
        each.key[1:]: RequestState.Name(each.asked.state).removeprefix("REQUEST_STATE_")
        for each in await requests(store, **fields)
    }


async def notices(store: Store, name: str = "t") -> list[tuple[str, int, str]]:
    """Returns the notices in a thread: reason, request and agent."""
    return [
        (
            Notice.Reason.Name(entry.notice.reason).removeprefix("REASON_"),
            entry.notice.request_seq,
            entry.notice.agent,
        )
        for entry in await log(store, name)
        if entry.kind == MESSAGE_KIND_NOTICE
    ]


@pytest.mark.parametrize("together", [True, False])
async def test_a_question_opens_requests_and_replies_answer_them(
    store: Store, thread: int, together: bool
) -> None:
    commands: list[Command[Any]] = [
        ask("ben", "cyd"),
        ask("ben", content=LARGE),
        post(edit_of=1, content="new"),
        post(edit_of=2, content="new"),
        post(sender="ben", reply_to=3),  # the edit of 1
        post(sender="cyd", reply_to=2),  # which did not ask it
        post(sender="ben", edit_of=5, content="again", reply_to=4),  # the edit of 2
        post(sender="ben", reply_to=1),  # again
    ]
    await outcomes(store, commands, together=together)
    assert await states(store) == {
        (1, "ben"): "ANSWERED",
        (1, "cyd"): "OPEN",
        (2, "ben"): "ANSWERED",
    }
    found = {each.key[1:]: each.asked for each in await requests(store)}
    assert [found[key].reply_seq for key in sorted(found)] == [5, 0, 7]


async def test_a_reply_to_an_edit_of_the_same_commit_answers(store: Store, thread: int) -> None:
    await commit(store, ask("ben"), ask("ben"))
    await commit(store, post(edit_of=1, content="new"), post(sender="ben", reply_to=3))
    assert await states(store) == {(1, "ben"): "ANSWERED", (2, "ben"): "OPEN"}


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
async def test_an_agent_has_a_thousand_open_requests_in_a_thread_at_most(
    store: Store, thread: int, together: bool
) -> None:
    await commit(store, create("u"), AppendMany([ask("ben") for _ in range(999)]))
    commands = [ask("cyd", "ben"), ask("cyd", "ben"), post(sender="ben", reply_to=7)]
    commands += [ask("ben"), ask("ben"), ask("cyd"), ask("ben", thread="u")]
    done = await outcomes(store, commands, together=together)
    refused = [number for number, each in enumerate(done) if isinstance(each, QuotaExceeded)]
    assert refused == [1, 4]
    assert "open requests to an agent in a thread, which ben has," in str(done[1])
    assert [each.seq for each in done if each not in (done[1], done[4])] == [
        *(1_000, 1_001, 1_002, 1_003, 1)
    ]


@pytest.mark.parametrize("together", [True, False])
async def test_what_does_not_answer(store: Store, thread: int, together: bool) -> None:
    commands: list[Command[Any]] = [
        ask("ben"),
        post(sender="ben", reply_to=1, wakes=WAKE_NOBODY),
        post(sender="cyd", reply_to=1),
        post(sender="anonymous", reply_to=1),
        post(sender="ben", reply_to=2),
        post(sender="ben", edit_of=5, content="x"),
        post(sender="ben", reply_to=1, expected=99),  # refused
    ]
    await outcomes(store, commands, together=together)
    assert await states(store) == {(1, "ben"): "OPEN"}
    await commit(store, post(sender="ben", reply_to=1, wakes=WAKE_ADDRESSED))
    assert await states(store) == {(1, "ben"): "ANSWERED"}


@pytest.mark.parametrize("together", [True, False])
async def test_closing_withdrawing_and_leaving(store: Store, thread: int, together: bool) -> None:
    commands: list[Command[Any]] = [
        ask("ben", "cyd"),  # 1
        ask("ben", "cyd"),  # 2
        post(sender="ben", reply_to=1),  # 3
        Withdraw("t", 1, "ann", operator=False),  # 4
        LeaveThread("t", "ben"),  # 5
        LeaveThread("t", "ben"),
        set_state(),
        set_state(state=THREAD_STATE_OPEN),
        post(sender="ben", reply_to=2),
        ask("cyd"),
    ]
    await outcomes(store, commands, together=together)
    assert await states(store) == {
        (1, "ben"): "ANSWERED",
        (1, "cyd"): "WITHDRAWN",
        (2, "ben"): "CLOSED",
        (2, "cyd"): "CLOSED",
        (9, "cyd"): "OPEN",
    }
    assert await notices(store) == [("WITHDRAWN", 1, "cyd"), ("AGENT_LEFT", 2, "ben")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_notice_has_the_traceparent_of_the_message_that_asks(
    store: Store, thread: int, together: bool
) -> None:
    traces = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2, 3)]
    commands: list[Command[Any]] = [
        ask("ben", traceparent=traces[0]),
        ask("ben", content=LARGE, traceparent=traces[1]),
        ask("cyd", content="x" * 186, traceparent=traces[2]),  # its size looks like the field's key
        ask("cyd", content="x" * 186),
        Withdraw("t", 3, "ann", operator=False),  # 5
        Withdraw("t", 4, "ann", operator=False),  # 6
        LeaveThread("t", "ben"),  # 7 and 8
    ]
    await outcomes(store, commands, together=together)
    overdue = AskedKey(thread, 2, "ben")
    left = await store.commit([WriteNotice("t", overdue, GONE[1], sighting("ben", 1_000))])  # 9
    assert left.outcomes == [True]
    entries = await log(store)
    assert [entry.traceparent for entry in entries[:4]] == [*traces, ""]
    assert [(entry.notice.request_seq, entry.traceparent) for entry in entries[4:]] == [
        (3, traces[2]),
        (4, ""),
        (1, traces[0]),
        (2, traces[1]),
        (2, traces[1]),
    ]


async def test_withdrawals_that_are_refused(store: Store, thread: int) -> None:
    await commit(store, ask("ben"), post())
    found = [
        await refusal(store, Withdraw(name, seq, by, operator=False, epoch=epoch))
        for name, seq, by, epoch in (
            ("t", 1, "ben", ""),
            ("t", 2, "ann", ""),
            ("t", 3, "ann", ""),
            ("t", 1 << 40, "ann", ""),
            ("t", 1, "ann", "x"),
            ("u", 1, "ann", ""),
        )
    ]
    wanted = [AccessDenied, ValidationFailed, MessageNotFound, MessageNotFound, CursorInvalid]
    assert [type(error) for error in found] == [*wanted, ThreadNotFound]
    assert await states(store) == {(1, "ben"): "OPEN"}
    (withdrawn,) = await commit(store, Withdraw("t", 1, "operator", operator=True))
    assert [(each.agent, each.state) for each in withdrawn] == [("ben", REQUEST_STATE_WITHDRAWN)]


async def test_requests_are_found_by_what_is_wanted(store: Store) -> None:
    names = ["a-1", "a-2", "b%1", "b_1"]
    await commit(store, *map(register, AGENTS), *map(create, names))
    await commit(store, *(ask("ben", thread=name) for name in names))
    await commit(store, *(ask("ann", "cyd", thread=name, sender="ben") for name in names))
    await commit(store, post("a-1", "ben", reply_to=1), set_state("a-2"))
    keys = [
        (name, seq, agent) for name in names for seq, agent in ((1, "ben"), (2, "ann"), (2, "cyd"))
    ]
    state = {("a-1", 1, "ben"): REQUEST_STATE_ANSWERED}
    state |= {key: REQUEST_STATE_CLOSED for key in keys if key[0] == "a-2"}

    async def found(**fields: Any) -> set[tuple[str, int, str]]:
        each = await requests(store, **fields)
        assert [one.page_key for one in each] == sorted(
            (one.page_key for one in each), reverse=True
        )
        return {(one.thread, *one.key[1:]) for one in each}

    assert await found() == set(keys)
    assert await found(states=[]) == set()
    for wanted in ALL:
        matching = {key for key in keys if state.get(key, REQUEST_STATE_OPEN) == wanted}
        assert await found(states=[wanted]) == matching
        assert await found(states=[wanted, wanted], thread="a-2") == {
            key for key in matching if key[0] == "a-2"
        }
    for agent in (*AGENTS, "zoe", "b\0en"):
        assert await found(agent=agent) == {key for key in keys if key[2] == agent}
        assert await found(asker=agent) == {
            key for key in keys if {1: "ann", 2: "ben"}[key[1]] == agent
        }
    for prefixes in (["a-"], ["a-1", "b_"], ["b"], ["b%"], ["%"], [names[0]], ["a-11"], ["A-"]):
        assert await found(prefixes=prefixes) == {
            key for key in keys if key[0].startswith(tuple(prefixes))
        }
        assert await found(
            prefixes=prefixes, agent="ben", asker="ann", states=[REQUEST_STATE_OPEN]
        ) == {
            key
            for key in keys
            if key[0].startswith(tuple(prefixes)) and key[2] == "ben" and key not in state
        }
    assert await found(thread="none") == set()
    assert await found(thread="a\0-1") == set()


@pytest.mark.parametrize("seed", range(2))
async def test_pages_are_parts_of_the_whole(store: Store, thread: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - not a secret
    for _ in range(4):
        asked = [ask(*chance.sample(AGENTS[1:], chance.randrange(1, 3))) for _ in range(4)]
        await commit(store, *asked, post(sender="ben", reply_to=1))
    whole = await requests(store)
    for wanted in ({}, {"agent": "ben"}, {"asker": "ann"}, {"thread": "t"}, {"prefixes": ["t"]}):
        for some in (ALL, [REQUEST_STATE_OPEN], [REQUEST_STATE_OPEN, REQUEST_STATE_ANSWERED]):
            matching = [
                each
                for each in whole
                if each.asked.state in some
                and wanted.get("agent", each.key.agent) == each.key.agent
            ]
            for size in (1, 2, 3, 100):
                found, before = list[StoredRequest](), FIRST_REQUEST
                while page := await store.requests(
                    RequestsWanted(some, **wanted),
                    size,
                    before,
                ):
                    assert len(page) <= size
                    found += page
                    before = page[-1].page_key
                assert found == matching


async def test_a_request_has_the_read_position_of_the_agent_asked(
    store: Store, thread: int
) -> None:
    await commit(store, ask("ben"))
    (found,) = await requests(store)
    assert found.read_seq is not None
    assert found.read_seq < 1
    await commit(store, Checkpoint([], {("ben", "t"): Position(found.epoch, 1, 0, 1)}))
    assert (await requests(store))[0].read_seq == 1  # through a filter
    await commit(store, post(), Checkpoint([], {("ben", "t"): Position(found.epoch, 2, 2)}))
    assert (await requests(store))[0].read_seq == 2
    await commit(store, LeaveThread("t", "ben"))
    assert (await requests(store))[0].read_seq is None


async def test_it_is_known_whether_an_agent_was_gone_when_it_was_asked(
    store: Store, thread: int
) -> None:
    now = store.clock.now()
    here = sighting("ann", now)
    gone = sighting("ben", now, reported=PRESENCE_OFFLINE)
    lapsed = sighting("cyd", now, lease_end_time=now)
    await commit(store, Checkpoint([here, gone, lapsed], {}), register("dan"))
    await commit(store, ask("ann", "ben", "cyd", "dan", sender="eve"))
    found = {each.key.agent: each.asked for each in await requests(store)}
    assert {name: asked.was_gone for name, asked in found.items()} == {
        "ann": False,
        "ben": True,
        "cyd": True,
        "dan": True,
    }
    assert not any(asked.has_notice(reason) for asked in found.values() for reason in GONE)


# ── Notices ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def key(store: Store, thread: int) -> AskedKey:
    """The key of a request to ben, who was seen at time 1,000."""
    await commit(store, Checkpoint([sighting("ben", 1_000)], {}), ask("ben"))
    return AskedKey(thread, 1, "ben")


def notice(
    key: AskedKey,
    reason: Notice.Reason.ValueType = Notice.REASON_AGENT_IDLE,
    evidence: PresenceRow | None = None,
) -> WriteNotice:
    """Returns a notice, by default with evidence as new as the store's."""
    return WriteNotice("t", key, reason, evidence or sighting("ben", 1_000))


@pytest.mark.parametrize("together", [True, False])
async def test_a_notice_is_written_once_for_each_reason(
    store: Store, key: AskedKey, together: bool
) -> None:
    written = await outcomes(
        store, [notice(key, reason) for _ in range(2) for reason in GONE], together=together
    )
    assert written == [True] * 3 + [False] * 3
    reasons = ("AGENT_IDLE", "AGENT_LAPSED", "AGENT_OFFLINE")
    assert await notices(store) == [(reason, 1, "ben") for reason in reasons]
    entry = (await log(store))[-1]
    assert (entry.sender, list(entry.mentions), entry.wakes) == ("system", ["ann"], WAKE_ADDRESSED)
    assert await store.addressed("ann", key.thread_id, 0, 9, 9) == [2, 3, 4]
    assert set(await read_seqs(store)) == {"ann", "ben"}


async def test_of_two_stores_one_writes_a_notice(store: Store, other: Store, key: AskedKey) -> None:
    assert await commit(store, notice(key)) == [True]
    assert await commit(other, notice(key)) == [False]
    assert await notices(other) == [("AGENT_IDLE", 1, "ben")]


@pytest.mark.parametrize("reason", GONE)
@pytest.mark.parametrize("newer", ["last_seen_time", "state_time", "work_time"])
async def test_no_notice_is_written_if_the_store_knows_better(
    store: Store, key: AskedKey, reason: Notice.Reason.ValueType, newer: str
) -> None:
    known = dataclasses.replace(sighting("ben", 1_000), **{newer: 1_001})  # type: ignore[arg-type]
    await commit(store, Checkpoint([known], {}))
    assert await commit(store, notice(key, reason)) == [False]
    assert await commit(store, WriteNotice("t", key, reason)) == [False]
    assert await notices(store) == []
    assert await commit(store, notice(key, reason, known)) == [True]


async def test_an_agent_that_the_store_never_saw_is_noticed_by_what_a_server_saw(
    store: Store, thread: int
) -> None:
    await commit(store, ask("cyd"))
    key = AskedKey(thread, 1, "cyd")
    assert await commit(store, WriteNotice("t", key, Notice.REASON_AGENT_IDLE)) == [False]
    assert await commit(store, notice(key, evidence=sighting("cyd", 1))) == [True]


@pytest.mark.parametrize("how", ["answered", "withdrawn", "closed", "deleted", "recreated"])
@pytest.mark.parametrize("together", [True, False])
async def test_no_notice_is_written_about_a_request_that_is_not_open(
    store: Store, key: AskedKey, how: str, together: bool
) -> None:
    ends: dict[str, list[Command[Any]]] = {
        "answered": [post(sender="ben", reply_to=1)],
        "withdrawn": [Withdraw("t", 1, "ann", operator=False)],
        "closed": [set_state()],
        "deleted": [DeleteThread("t")],
        "recreated": [DeleteThread("t"), create(), ask("ben")],
    }
    reasons = [*GONE, Notice.REASON_AGENT_LEFT, Notice.REASON_OVERDUE]
    written = await outcomes(
        store, [*ends[how], *(notice(key, reason) for reason in reasons)], together=together
    )
    assert written[-5:] == [False] * 5


async def test_other_requests_are_not_noticed(store: Store, key: AskedKey) -> None:
    wrong = (key._replace(seq=2), key._replace(agent="cyd"), key._replace(thread_id=99))
    for each in (*wrong, key._replace(seq=1 << 40)):
        assert await commit(store, notice(each)) == [False]
    assert await notices(store) == []


async def test_left_and_overdue_are_noticed_if_they_hold(store: Store, key: AskedKey) -> None:
    within = Duration(nanos=1_000)
    await commit(store, ask("ben", within=within), ask("ben", within=Duration(seconds=3_600)))
    left = [notice(key._replace(seq=seq), Notice.REASON_AGENT_LEFT) for seq in (1, 2, 3)]
    overdue = [notice(key._replace(seq=seq), Notice.REASON_OVERDUE) for seq in (1, 2, 3)]
    assert await commit(store, *left, *overdue) == [False, False, False, False, True, False]
    await commit(store, LeaveThread("t", "ben"))
    assert await commit(store, *left, *overdue) == [False] * 6  # the leaving wrote them
    assert await notices(store) == [
        ("OVERDUE", 2, "ben"),
        *(("AGENT_LEFT", seq, "ben") for seq in (1, 2, 3)),
    ]


# ── Deletion ────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_thread_leaves_no_requests(store: Store, thread: int) -> None:
    await commit(store, AppendMany([ask("ben", "cyd") for _ in range(600)]), create("u"))
    await commit(store, ask("ben", thread="u"))
    assert len(await requests(store)) == 1_000
    await commit(store, DeleteThread("t"), create(), ask("ben"))
    assert {each.thread for each in await requests(store)} == {"t", "u"}
    assert len(await requests(store)) == 2
    await purge(store)
    assert len(await requests(store)) == 2
    assert len(await requests(store, states=[REQUEST_STATE_OPEN], agent="ben")) == 2


async def test_a_thread_deleted_in_the_batch_that_asked_leaves_no_requests(
    store: Store, thread: int
) -> None:
    await commit(
        store, ask("ben"), DeleteThread("t"), create(), post(sender="ben"), join(agent="cyd")
    )
    assert await requests(store) == []
