"""Requests: invalid fields, pages, what a token may not read, and batches."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.callers import Caller, create_token, operator, register, with_token
from tests.peers import Peer
from tests.post_stream import post_stream, reason, seqs
from tests.refusals import refused
from tests.requests import ask, asking, listed, states, withdraw
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListRequestsRequest,
    PostMessageRequest,
)
from threadbus.v1.message_pb2 import WAKE_NOBODY
from threadbus.v1.request_pb2 import (
    REQUEST_STATE_OPEN,
    REQUEST_STATE_UNSPECIFIED,
    REQUEST_STATE_WITHDRAWN,
    Request,
    RequestState,
)
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

pytestmark = pytest.mark.asking_server

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server; tokens are required."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", "required") as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


@pytest.fixture
async def asker(agents: AgentStub, bus: BusStub, boss: Caller, name: str) -> Peer:
    return Peer(bus, await register(agents, f"{name}-asker", boss))


@pytest.fixture
async def reviewer(agents: AgentStub, bus: BusStub, boss: Caller, name: str) -> Peer:
    return Peer(bus, await register(agents, f"{name}-reviewer", boss))


@pytest.fixture
async def thread(threads: ThreadStub, boss: Caller, name: str) -> str:
    await create(threads, boss, name)
    return name


async def create(threads: ThreadStub, boss: Caller, *names: str) -> None:
    for each in names:
        await threads.CreateThread(CreateThreadRequest(thread=each), metadata=boss.metadata)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        *(("asker", {"asker": wrong}) for wrong in (".x", "Upper", "a b", "ß", "x" * 64, "\0")),
        *(("agent", {"agent": wrong}) for wrong in (".x", "Upper", "a b", "ß", "x" * 64, "\0")),
        *(("thread", {"thread": wrong}) for wrong in (".x", "a b", "é", "x" * 129, "\0")),
        ("states[0]", {"states": [REQUEST_STATE_UNSPECIFIED]}),
        ("states[1]", {"states": [REQUEST_STATE_OPEN, 99]}),
        ("states[0]", {"states": [-1]}),
        ("states", {"states": [REQUEST_STATE_OPEN] * 101}),
        ("page_size", {"page_size": -1}),
        ("page_size", {"page_size": INT32_MIN}),
        *(
            ("page_token", {"page_token": wrong})
            for wrong in (
                *("x", "1", "1-2-3", "1-2-3-", "-1-2-3-a", "1-2-3-A", "1-2-3-a\n", "1-2-3-\0"),
                *(f"{INT64_MAX + 1}-1-1-a", f"1-1-{10**18}-a", "٣-1-1-a", "1-2-3-a" * 1_000),
            )
        ),
    ],
)
async def test_lists_with_invalid_fields_are_refused(
    asker: Peer, field: str, fields: dict[str, Any]
) -> None:
    refusal = await refused(listed(asker, **fields))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("thread", {"thread": "", "seq": 1}),
        ("thread", {"thread": "a b", "seq": 1}),
        ("seq", {"seq": 0}),
        ("seq", {"seq": -1}),
        ("seq", {"seq": INT64_MIN}),
        ("epoch", {"seq": 1, "epoch": "e" * 65}),
    ],
)
async def test_withdrawals_with_invalid_fields_are_refused(
    asker: Peer, reviewer: Peer, thread: str, field: str, fields: dict[str, Any]
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    refusal = await refused(withdraw(asker, **({"thread": thread} | fields)))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert await states(asker, thread) == {(seq, reviewer.name): "OPEN"}


@pytest.mark.parametrize("seq", [2, 2**32 + 1, 2**53, INT64_MAX])
async def test_a_question_that_is_not_there_cannot_be_withdrawn(
    asker: Peer, reviewer: Peer, thread: str, seq: int
) -> None:
    await ask(asker, thread, reviewer.name)
    assert (await refused(withdraw(asker, thread, seq))).reason == "MESSAGE_NOT_FOUND"
    assert (await refused(withdraw(asker, f"{thread}-2", seq))).reason == "THREAD_NOT_FOUND"


@pytest.mark.parametrize("size", [1, 2, 3, INT32_MAX])
async def test_pages_are_parts_of_the_whole(
    asker: Peer, reviewer: Peer, thread: str, size: int
) -> None:
    for number in range(5):
        seq = await ask(asker, thread, reviewer.name)
        if number % 2:
            await withdraw(asker, thread, seq)
    for wanted in ([], [REQUEST_STATE_OPEN], [REQUEST_STATE_OPEN, REQUEST_STATE_WITHDRAWN]):
        whole = await listed(asker, thread=thread, states=wanted)
        request = ListRequestsRequest(thread=thread, states=wanted, page_size=size)
        found = list[Request]()
        while True:
            page = await asker.bus.ListRequests(request, metadata=asker.metadata)
            found += page.requests
            request.page_token = page.next_page_token
            if not request.page_token:
                break
            assert len(page.requests) == size
        assert found == whole
        assert [each.seq for each in found] == sorted((each.seq for each in found), reverse=True)
        assert {each.state for each in found} <= set(wanted or RequestState.values())


async def test_requests_of_an_agent_or_a_thread_that_is_not_there(asker: Peer, name: str) -> None:
    assert await listed(asker, agent="nobody", asker="anonymous") == []
    assert (await refused(listed(asker, thread=f"{name}-2"))).reason == "THREAD_NOT_FOUND"


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────


async def test_requests_of_other_threads_do_not_exist(
    channel: grpc.aio.Channel,
    threads: ThreadStub,
    boss: Caller,
    asker: Peer,
    reviewer: Peer,
    name: str,
) -> None:
    own, other = f"{name}-own", f"{name}-other"
    await create(threads, boss, own, other)
    seqs_of = {each: await ask(asker, each, reviewer.name) for each in (own, other)}
    prefixes = [own, f"{name}-none"]
    limited, missing = [
        Peer(asker.bus, await with_token(channel, boss, asker.name, thread_prefixes=each))
        for each in (prefixes, prefixes[1:])
    ]
    for fields in ({}, {"asker": asker.name}, {"agent": reviewer.name}, {"thread": own}):
        assert [each.thread for each in await listed(limited, **fields)] == [own]
    assert await listed(missing) == []
    absent = await refused(listed(limited, thread=f"{name}-absent"))
    hidden = await refused(listed(limited, thread=other))
    assert (hidden.code, hidden.reason) == (absent.code, absent.reason)
    assert hidden.message == absent.message.replace(f"{name}-absent", other)
    refusal = await refused(withdraw(limited, other, seqs_of[other]))
    assert refusal.reason == "THREAD_NOT_FOUND"
    assert await states(asker, other) == {(seqs_of[other], reviewer.name): "OPEN"}
    await withdraw(limited, own, seqs_of[own])
    # A page token of another caller tells nothing either.
    both = await asker.bus.ListRequests(ListRequestsRequest(page_size=1), metadata=asker.metadata)
    request = ListRequestsRequest(page_token=both.next_page_token)
    page = await asker.bus.ListRequests(request, metadata=limited.metadata)
    assert {each.thread for each in page.requests} <= {own}


async def test_open_requests_are_counted_in_own_threads_only(
    channel: grpc.aio.Channel,
    threads: ThreadStub,
    boss: Caller,
    asker: Peer,
    reviewer: Peer,
    name: str,
) -> None:
    own, other = f"{name}-own", f"{name}-other"
    await create(threads, boss, own, other)
    for each in (own, own, other):
        await ask(asker, each, reviewer.name)
    limited = await with_token(channel, boss, reviewer.name, thread_prefixes=[own])
    for caller, wanted in ((reviewer.metadata, {own: 2, other: 1}), (limited.metadata, {own: 2})):
        answer = await asker.bus.Heartbeat(HeartbeatRequest(), metadata=caller)
        assert {each.thread: each.open_request_count for each in answer.unread} == wanted


@pytest.mark.parametrize(("scopes", "may"), [(["read"], "list"), (["post"], "withdraw")])
async def test_what_a_token_permits(
    channel: grpc.aio.Channel,
    boss: Caller,
    asker: Peer,
    reviewer: Peer,
    thread: str,
    scopes: list[str],
    may: str,
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    created = await create_token(channel, boss, asker.name, scopes=scopes)
    limited = Peer(asker.bus, Caller(asker.name, created.secret))
    if may == "list":
        assert len(await listed(limited, thread=thread)) == 1
        assert (await refused(withdraw(limited, thread, seq))).reason == "ACCESS_DENIED"
        assert (await refused(ask(limited, thread, reviewer.name))).reason == "ACCESS_DENIED"
    else:
        assert (await refused(listed(limited, thread=thread))).reason == "ACCESS_DENIED"
        assert len(await withdraw(limited, thread, seq)) == 1


async def test_an_operator_withdraws_and_the_asker_is_told(
    boss: Caller, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    async with asker.wait(thread, min_messages=1) as frames:
        await frames.until("caught_up")
        await withdraw(Peer(asker.bus, boss), thread, seq)
        await frames.rest()
    assert await states(asker, thread) == {(seq, reviewer.name): "WITHDRAWN"}


# ── Batches ─────────────────────────────────────────────────────────────────────────────────────


async def test_in_a_batch_only_the_questions_that_make_no_sense_are_refused(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    name = reviewer.name

    def post(**fields: Any) -> PostMessageRequest:
        return PostMessageRequest(thread=thread, content="?", **fields)

    batch = [
        post(expect_reply=asking(name)),
        post(expect_reply=asking()),
        post(expect_reply=asking(asker.name)),
        post(expect_reply=asking("nobody")),
        post(expect_reply=asking(name, within=0)),
        post(expect_reply=asking(name), wakes=WAKE_NOBODY),
        post(expect_reply=asking(name), edit_of=1),
        post(expect_reply=asking(name, within=60)),
    ]
    async with post_stream(asker.bus, metadata=asker.metadata) as stream:
        results = await stream.post(*batch)
    assert seqs(results) == [1, 0, 0, 0, 0, 0, 0, 2]
    refusals = [reason(result) for result in results]
    invalid = "VALIDATION_FAILED"
    assert refusals == ["", invalid, invalid, "AGENT_NOT_FOUND", invalid, invalid, invalid, ""]
    assert await states(asker, thread) == {(1, name): "OPEN", (2, name): "OPEN"}


async def test_a_batch_that_is_sent_again_asks_once(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    batch = [
        PostMessageRequest(
            thread=thread, content="?", request_id=str(n), expect_reply=asking(reviewer.name)
        )
        for n in range(3)
    ]
    for _ in range(2):
        async with post_stream(asker.bus, metadata=asker.metadata) as stream:
            assert seqs(await stream.post(*batch)) == [1, 2, 3]
    other = PostMessageRequest(thread=thread, content="?", request_id="0")
    async with post_stream(asker.bus, metadata=asker.metadata) as stream:
        (result,) = await stream.post(other)
    assert reason(result) == "REQUEST_ID_REUSED"
    assert len(await listed(asker, thread=thread)) == 3
