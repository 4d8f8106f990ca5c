"""Requests: who is asked, what answers a question, and what ends it."""

from typing import Any

import pytest

from tests.peers import Peer, registered, set_state
from tests.refusals import refused
from tests.requests import ask, asking, listed, notices_in, states, withdraw
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest
from threadbus.v1.message_pb2 import WAKE_ADDRESSED, WAKE_NOBODY
from threadbus.v1.request_pb2 import REQUEST_STATE_ANSWERED, REQUEST_STATE_OPEN
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import LeaveThreadRequest

pytestmark = pytest.mark.asking_server


@pytest.fixture
async def asker(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "asker")


@pytest.fixture
async def reviewer(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "reviewer")


@pytest.fixture
async def other(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "other")


async def test_a_question_opens_a_request_for_each_agent_that_it_asks(
    asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, other.name, within=60)
    found = await listed(asker, thread=thread)
    assert {(each.seq, each.asker, each.agent) for each in found} == {
        (seq, asker.name, reviewer.name),
        (seq, asker.name, other.name),
    }
    (message,) = await asker.read(thread)
    for each in found:
        assert (each.state, each.reply_seq) == (REQUEST_STATE_OPEN, 0)
        assert each.create_time == message.create_time
        assert each.due_time.ToMicroseconds() == each.create_time.ToMicroseconds() + 60_000_000
    assert list(message.mentions) == list(message.expect_reply.agents)
    assert list(message.mentions) == [reviewer.name, other.name]
    assert message.expect_reply.within.ToSeconds() == 60


async def test_without_names_it_asks_those_that_it_mentions_and_hands_off_to(
    asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, mentions=[reviewer.name], handoff_to=other.name)
    assert await states(asker, thread) == {
        (seq, reviewer.name): "OPEN",
        (seq, other.name): "OPEN",
    }
    assert not (await listed(asker, thread=thread))[0].HasField("due_time")


@pytest.mark.parametrize("how", ["message", "edit", "of an edit"])
async def test_a_reply_to_the_message_or_to_an_edit_answers(
    asker: Peer, reviewer: Peer, other: Peer, thread: str, how: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, other.name)
    replied = seq
    if how == "of an edit":
        replied = (await asker.post(thread, "??", edit_of=seq)).seq
    reply_seq = 0
    if how == "edit":  # an edit of a message that answered nothing
        earlier = await reviewer.post(thread, "hm")
        reply = await reviewer.post(thread, "yes", edit_of=earlier.seq, reply_to=replied)
    else:
        reply = await reviewer.post(thread, "yes", reply_to=replied)
    reply_seq = reply.seq
    found = {each.agent: each for each in await listed(asker, thread=thread)}
    assert found[reviewer.name].state == REQUEST_STATE_ANSWERED
    assert found[reviewer.name].reply_seq == reply_seq
    assert found[other.name].state == REQUEST_STATE_OPEN
    await reviewer.post(thread, "no", reply_to=seq)  # changes nothing
    found = {each.agent: each for each in await listed(asker, thread=thread)}
    assert found[reviewer.name].reply_seq == reply_seq


async def test_a_second_reply_is_not_the_answer(asker: Peer, reviewer: Peer, thread: str) -> None:
    first, second = [await ask(asker, thread, reviewer.name) for _ in range(2)]
    answer = await reviewer.post(thread, "yes", reply_to=first)
    await reviewer.post(thread, "no", reply_to=first)
    found = {each.seq: each for each in await listed(asker, thread=thread)}
    assert found[first].reply_seq == answer.seq
    assert found[second].state == REQUEST_STATE_OPEN


async def test_what_answers_nothing(asker: Peer, reviewer: Peer, other: Peer, thread: str) -> None:
    seq = await ask(asker, thread, reviewer.name)
    quiet = await reviewer.post(thread, "later", reply_to=seq, wakes=WAKE_NOBODY)
    await reviewer.post(thread, "LATER", edit_of=quiet.seq, reply_to=seq)
    await other.post(thread, "me?", reply_to=seq)
    await asker.post(thread, "hello?", reply_to=seq)
    await Peer(asker.bus).post(thread, "me", reply_to=seq)
    await reviewer.post(thread, "what?", reply_to=quiet.seq)
    await reviewer.post(thread, f"@{asker.name} yes", mentions=[asker.name])
    assert await states(asker, thread) == {(seq, reviewer.name): "OPEN"}
    await reviewer.post(thread, "yes", reply_to=seq, wakes=WAKE_ADDRESSED)
    assert await states(asker, thread) == {(seq, reviewer.name): "ANSWERED"}


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_closing_a_thread_closes_its_open_requests(
    threads: ThreadStub,
    asker: Peer,
    reviewer: Peer,
    thread: str,
    state: ThreadState.ValueType,
) -> None:
    first = await ask(asker, thread, reviewer.name)
    await reviewer.post(thread, "yes", reply_to=first)
    second = await ask(asker, thread, reviewer.name)
    await set_state(threads, thread, state)
    await set_state(threads, thread, THREAD_STATE_OPEN)
    await reviewer.post(thread, "yes", reply_to=second)  # too late
    assert await states(asker, thread) == {
        (first, reviewer.name): "ANSWERED",
        (second, reviewer.name): "CLOSED",
    }


async def test_the_asker_withdraws_a_question(
    asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, other.name)
    await reviewer.post(thread, "yes", reply_to=seq)
    for _ in range(2):
        requests = await withdraw(asker, thread, seq)
        found = await listed(asker, thread=thread)
        assert sorted(requests, key=str) == sorted(found, key=str)
        assert await states(asker, thread) == {
            (seq, reviewer.name): "ANSWERED",
            (seq, other.name): "WITHDRAWN",
        }
    assert notices_in(await asker.read(thread)) == [("WITHDRAWN", seq, other.name)]
    await other.post(thread, "yes", reply_to=seq)
    assert (await states(asker, thread))[seq, other.name] == "WITHDRAWN"


async def test_only_the_asker_withdraws_its_question(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    for by in (reviewer, Peer(asker.bus)):
        assert (await refused(withdraw(by, thread, seq))).reason == "ACCESS_DENIED"
    plain = await asker.post(thread)
    refusal = await refused(withdraw(asker, thread, plain.seq))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["seq"])
    assert (await refused(withdraw(asker, thread, 99))).reason == "MESSAGE_NOT_FOUND"
    assert (await refused(withdraw(asker, thread, seq, epoch="x"))).reason == "CURSOR_INVALID"
    assert await states(asker, thread) == {(seq, reviewer.name): "OPEN"}


async def test_an_agent_that_leaves_is_noticed(
    threads: ThreadStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    leave = LeaveThreadRequest(thread=thread)
    for _ in range(2):
        await threads.LeaveThread(leave, metadata=reviewer.metadata)
        assert notices_in(await asker.read(thread)) == [("AGENT_LEFT", seq, reviewer.name)]
    await reviewer.post(thread, "yes", reply_to=seq)
    assert await states(asker, thread) == {(seq, reviewer.name): "ANSWERED"}


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("expect_reply.agents", {"expect_reply": asking()}),
        ("expect_reply.agents", {"expect_reply": asking(*(f"a{n}" for n in range(33)))}),
        ("expect_reply.agents[0]", {"expect_reply": asking("No Name")}),
        ("expect_reply.within", {"expect_reply": asking("x", within=0)}),
        ("expect_reply.within", {"expect_reply": asking("x", within=-1)}),
        ("expect_reply.within", {"expect_reply": asking("x", within=365 * 86_400 + 1)}),
        ("expect_reply", {"expect_reply": asking("x"), "edit_of": 1}),
        ("wakes", {"expect_reply": asking("x"), "wakes": WAKE_NOBODY}),
    ],
)
async def test_questions_that_make_no_sense_are_refused(
    asker: Peer, thread: str, field: str, fields: dict[str, Any]
) -> None:
    refusal = await refused(asker.post(thread, **fields))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])


async def test_nobody_asks_itself_or_agents_that_do_not_exist(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    refusal = await refused(ask(asker, thread, reviewer.name, asker.name))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["expect_reply.agents"])
    assert (await refused(ask(asker, thread, "nobody-there"))).reason == "AGENT_NOT_FOUND"
    refusal = await refused(ask(Peer(asker.bus), thread, reviewer.name))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["expect_reply"])
    many = [f"a{n}" for n in range(32)]
    refusal = await refused(ask(asker, thread, reviewer.name, mentions=many))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["expect_reply.agents"])
    assert await listed(asker, thread=thread) == []


async def test_a_question_is_overdue_once(asker: Peer, reviewer: Peer, thread: str) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.05)
    async with asker.wait(thread, min_messages=2, max_wait=600) as frames:
        await frames.rest()
    assert notices_in(await asker.read(thread)) == [("OVERDUE", seq, reviewer.name)]
    reply = await reviewer.post(thread, "yes", reply_to=seq)
    (found,) = await listed(asker, thread=thread)
    assert (found.state, found.reply_seq) == (REQUEST_STATE_ANSWERED, reply.seq)


async def test_questions_of_a_batch_are_overdue_at_once(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    expected = asking(reviewer.name, within=1e-6)
    posts = [
        PostMessageRequest(thread=thread, content="?", expect_reply=expected) for _ in range(3)
    ]
    request = PostMessagesRequest(posts=posts)
    call = asker.bus.PostMessages(iter([request]), metadata=asker.metadata)
    assert [len(response.results) async for response in call] == [3]
    async with asker.wait(thread, min_messages=6, max_wait=600) as frames:
        await frames.rest()
    found = notices_in(await asker.read(thread))
    assert sorted(found) == [("OVERDUE", seq, reviewer.name) for seq in (1, 2, 3)]
