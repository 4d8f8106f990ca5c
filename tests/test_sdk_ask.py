"""ThreadHandle.ask: who answers, what else ends it, and what it leaves to be read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bus_client import (
    AgentNotFound,
    BusClient,
    InvalidArgument,
    RequestState,
    ThreadHandle,
    ThreadNotFound,
    ThreadState,
    Wake,
)
from tests.asking import agent, asking, until_waiting
from tests.members import contents, member
from tests.serving import ServerProcess

pytestmark = pytest.mark.asking_server

CLOSED, OPEN = ThreadState.THREAD_STATE_CLOSED, ThreadState.THREAD_STATE_OPEN


@pytest.fixture
async def asker(server: ServerProcess, thread: str, tmp_path: Path) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, thread, tmp_path, role="asker") as handle:
        yield handle


@pytest.fixture
async def reviewer(
    server: ServerProcess, thread: str, tmp_path: Path
) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, thread, tmp_path, role="reviewer") as handle:
        yield handle


@pytest.fixture
async def other(server: ServerProcess, thread: str, tmp_path: Path) -> AsyncIterator[ThreadHandle]:
    async with member(server.address, thread, tmp_path, role="other") as handle:
        yield handle


async def test_it_returns_the_reply(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer") as question:
        (message,) = await reviewer.wait(timeout=60)
        assert list(message.expect_reply.agents) == [agent(asker, "reviewer")]
        await reviewer.post("yes", reply_to=message.seq)
        reply = await question.task
    assert (reply.content, reply.sender) == ("yes", agent(asker, "reviewer"))
    assert [each async for each in asker.list_requests()] == []


async def test_nothing_else_is_a_reply(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    async with asking(asker, "reviewer") as question:
        seq = await question.posted()
        await other.post("no", reply_to=seq)
        await asker.post("no", reply_to=seq)
        await reviewer.post("no", mentions=[agent(asker, "asker")])
        await reviewer.post("no", reply_to=seq, wakes=Wake.WAKE_NOBODY)
        await reviewer.post("yes", reply_to=seq)
        assert await question.reply() == "yes"


async def test_a_reply_to_an_edit_of_the_question_answers(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    async with asking(asker, "reviewer") as question:
        edit = await asker.post("??", edit_of=await question.posted())
        await reviewer.post("yes", reply_to=edit.seq)
        assert await question.reply() == "yes"


async def test_an_edit_can_be_the_reply(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer") as question:
        seq = await question.posted()
        hm = await reviewer.post("hm")
        await reviewer.post("yes", edit_of=hm.seq, reply_to=seq)
        assert await question.reply() == "yes"


async def test_options_of_a_post_are_passed_on(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    options: dict[str, Any] = {
        "mentions": [agent(asker, "other")],
        "labels": {"a": "b"},
        "within": 600,
    }
    async with asking(asker, "reviewer", **options) as question:
        message = await asker.message(await question.posted())
    assert list(message.mentions) == [agent(asker, "other"), agent(asker, "reviewer")]
    assert message.labels == {"a": "b"}
    assert message.expect_reply.within.ToSeconds() == 600


@pytest.mark.parametrize("of", ["", [], 1, [1]])
async def test_somebody_must_be_asked(asker: ThreadHandle, of: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await asker.ask("?", of=of)
    assert [field for field, _ in refused.value.field_violations] == ["of"]


async def test_what_cannot_be_posted_is_not_asked(asker: ThreadHandle) -> None:
    with pytest.raises(AgentNotFound):
        await asker.ask("?", of=agent(asker, "nobody"))
    with pytest.raises(InvalidArgument):
        await asker.ask("?", of=agent(asker, "asker"))
    assert await asker.messages() == []


async def test_of_several_the_first_reply_is_returned(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    async with asking(asker, "reviewer", "other") as question:
        await other.post("yes", reply_to=await question.posted())
        assert await question.reply() == "yes"
    (request,) = [each async for each in asker.list_requests()]
    assert request.agent == agent(asker, "reviewer")


async def test_of_several_one_that_leaves_does_not_end_it(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    async with asking(asker, "reviewer", "other") as question:
        seq = await question.posted()
        await other.leave()
        await reviewer.post("yes", reply_to=seq)
        assert await question.reply() == "yes"


async def test_of_several_one_that_was_given_up_may_reply_after_all(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    async with asking(asker, "reviewer", "other") as question:
        seq = await question.posted()
        await other.leave()
        await other.post("yes", reply_to=seq)
        assert await question.reply() == "yes"


async def test_of_several_each_must_be_given_up(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    async with asking(asker, "reviewer", "other") as question:
        seq = await question.posted()
        await other.leave()
        await reviewer.leave()
        error = await question.unanswered()
    assert (error.reason, error.agent, error.seq) == (
        "AGENT_LEFT",
        agent(asker, "reviewer"),
        seq,
    )
    assert agent(asker, "other") in error.message


async def test_it_is_overdue(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer", within=0.05) as question:
        error = await question.unanswered()
    assert (error.reason, error.agent) == ("OVERDUE", agent(asker, "reviewer"))
    await reviewer.post("yes", reply_to=error.seq)  # still answers
    assert [each async for each in asker.list_requests()] == []


async def test_the_agent_ends_its_session(
    server: ServerProcess, asker: ThreadHandle, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    async with (
        BusClient(server.address, agent=agent(asker, "gone"), credentials=file) as bus,
        asking(asker, "gone") as question,
    ):
        seq = await question.posted()
        await bus.end_session()
        error = await question.unanswered()
    assert (error.reason, error.agent, error.seq) == ("AGENT_OFFLINE", agent(asker, "gone"), seq)


@pytest.mark.parametrize("state", [CLOSED, ThreadState.THREAD_STATE_ARCHIVED])
@pytest.mark.parametrize("reopened", [False, True])
async def test_the_thread_is_closed(
    server: ServerProcess,
    asker: ThreadHandle,
    reviewer: ThreadHandle,
    state: ThreadState.ValueType,
    reopened: bool,
) -> None:
    async with BusClient(server.address) as creator, asking(asker, "reviewer") as question:
        thread = creator.thread(asker.name)
        await thread.update(topic="other things that change do not end it")
        seq = await question.posted()
        await thread.set_state(state)
        if reopened:
            await thread.set_state(OPEN)
            await reviewer.post("too late", reply_to=seq)
        error = await question.unanswered()
    assert (error.reason, error.agent, error.seq) == ("CLOSED", agent(asker, "reviewer"), seq)
    assert "Open the thread again" in error.hint


async def test_the_question_is_withdrawn(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer") as question:
        seq = await question.posted()
        await asker.withdraw(seq)
        await reviewer.post("too late", reply_to=seq)
        error = await question.unanswered()
    assert (error.reason, error.agent, error.seq) == ("WITHDRAWN", agent(asker, "reviewer"), seq)
    assert "later reply" not in error.hint


async def test_the_session_of_the_agent_that_asks_is_ended(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    async with (
        BusClient(server.address, agent=agent(asker, "asker"), credentials=file) as same,
        asking(asker, "reviewer") as question,
    ):
        seq = await question.posted()
        await until_waiting(asker)
        await same.end_session()
        error = await question.unanswered()
    assert (error.reason, error.seq) == ("SESSION_ENDED", seq)
    assert [each.seq async for each in asker.list_requests()] == [seq]


async def test_the_thread_is_deleted(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    async with BusClient(server.address) as creator, asking(asker, "reviewer") as question:
        await question.posted()
        await creator.thread(asker.name).delete()
        with pytest.raises(ThreadNotFound):
            await question.task


async def test_a_cancelled_question_stays_open(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    async with asking(asker, "reviewer") as question:
        seq = await question.posted()
        question.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question.task
    (request,) = [each async for each in asker.list_requests()]
    assert request.state == RequestState.REQUEST_STATE_OPEN
    await reviewer.post("yes", reply_to=seq)
    assert contents(await asker.wait(timeout=60)) == ["yes"]


async def test_a_repeated_question_finds_the_reply_that_came_before(
    asker: ThreadHandle, reviewer: ThreadHandle
) -> None:
    async with asking(asker, "reviewer", request_id="once", within=0.05) as question:
        seq = (await question.unanswered()).seq
    await reviewer.post("yes", reply_to=seq)
    async with asking(asker, "reviewer", request_id="once", within=0.05) as question:
        assert await question.reply() == "yes"  # not the notice before it
    assert len([each async for each in asker.list_requests(states=())]) == 1
