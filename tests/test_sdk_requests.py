"""Requests in the SDK: posts that ask for replies, the list of requests, and notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from bus_client import (
    AccessDenied,
    BusClient,
    InvalidArgument,
    MessageKind,
    MessageNotFound,
    Notice,
    Post,
    Request,
    RequestState,
    ThreadHandle,
    ThreadNotFound,
)
from bus_client.sync import BusClient as BlockingClient
from tests.members import contents, member, take
from tests.script import batch, ending, scripted, started
from tests.serving import ServerProcess
from tests.test_sdk_wait_breaks import MAX, MIN, asked, waiting_on
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse
from threadbus.v1.message_pb2 import MESSAGE_KIND_NOTICE

pytestmark = pytest.mark.asking_server


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


def agent(handle: ThreadHandle, role: str) -> str:
    """Returns the name of a member of the handle's thread."""
    return f"{handle.name}-{role}"


def known(requests: list[Request]) -> list[tuple[int, str, str]]:
    """Returns the seq, agent asked and state of requests."""
    return [
        (each.seq, each.agent, RequestState.Name(each.state).removeprefix("REQUEST_STATE_"))
        for each in requests
    ]


async def test_a_post_asks_agents(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    await asker.post("1", ask=[agent(asker, "reviewer")], within=60)
    await asker.post("2", mentions=[agent(asker, "reviewer")], ask=True, within=float("inf"))
    async with aclosing(asker.post_many([Post("3", ask=[agent(asker, "reviewer")])])) as results:
        assert [result.seq async for result in results] == [3]  # type: ignore[union-attr]
    await asker.post("4", ask=False)
    messages = await reviewer.messages()
    asked = [list(message.expect_reply.agents) for message in messages]
    assert asked == [[agent(asker, "reviewer")]] * 3 + [[]]
    assert [m.expect_reply.within.ToSeconds() for m in messages] == [60, 0, 0, 0]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("within", {"within": 60}),
        ("expect_reply.agents", {"ask": []}),
        ("expect_reply.agents", {"ask": "reviewer"}),
        ("expect_reply.agents", {"ask": True}),
        ("expect_reply.within", {"ask": ["reviewer"], "within": -1}),
        ("expect_reply.within", {"ask": ["reviewer"], "within": 366 * 86_400}),
    ],
)
async def test_questions_that_make_no_sense_are_refused(
    asker: ThreadHandle, field: str, fields: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await asker.post("?", **fields)  # type: ignore[arg-type]
    assert refused.value.field_violations[0][0] == field
    assert await asker.messages() == []


async def test_requests_are_listed_newest_first(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    names = [agent(asker, role) for role in ("asker", "reviewer", "other")]
    await asker.post("1", ask=[names[1], names[2]])
    await asker.post("2", ask=[names[1]])
    await reviewer.post("yes", reply_to=1)
    everything = tuple(RequestState.values()[1:])
    async with BusClient(server.address) as bus:
        found = [each async for each in bus.list_requests(thread=asker.name)]
        assert known(found) == [(2, names[1], "OPEN"), (1, names[2], "OPEN")]
        found = [each async for each in bus.list_requests(agent=names[1], states=everything)]
        assert known(found) == [(2, names[1], "OPEN"), (1, names[1], "ANSWERED")]
        assert found[1].reply_seq == 3
        assert [each async for each in bus.list_requests(asker=names[1])] == []
        assert len([each async for each in bus.list_requests(asker=names[0], states=())]) == 3
        with pytest.raises(ThreadNotFound):
            _ = [each async for each in bus.list_requests(thread=f"{asker.name}-none")]
    assert known([each async for each in asker.list_requests(agent=names[2])]) == [
        (1, names[2], "OPEN"),
    ]


async def test_the_asker_withdraws_a_question(asker: ThreadHandle, reviewer: ThreadHandle) -> None:
    await asker.post("?", ask=[agent(asker, "reviewer")])
    with pytest.raises(AccessDenied):
        await reviewer.withdraw(1)
    with pytest.raises(MessageNotFound):
        await asker.withdraw(9)
    assert known(await asker.withdraw(1)) == [(1, agent(asker, "reviewer"), "WITHDRAWN")]
    assert [each async for each in asker.list_requests()] == []


async def test_only_the_asker_is_given_a_notice(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    name = agent(asker, "reviewer")
    await asker.post("?", ask=[name])
    await reviewer.leave()
    await reviewer.post("after")

    async with aclosing(asker.follow()) as messages, asyncio.timeout(BOUND):
        told = await anext(messages)
    assert told.kind == MessageKind.MESSAGE_KIND_NOTICE
    notice = Notice(reason=Notice.REASON_AGENT_LEFT, request_seq=1, agent=name)
    assert told.notice == notice
    assert (await asker.wait(timeout=60))[0].notice == notice

    async with aclosing(other.follow()) as messages:
        assert await take(messages, 2) == ["?", "after"]
    for found in await other.messages(), [await other.message(2)]:
        assert notice in [message.notice for message in found]


@pytest.mark.parametrize("limits", [{"count_all": True}, {"max_messages": 1}, {"max_bytes": 1}])
async def test_a_notice_for_another_does_not_end_a_wait(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle, limits: dict[str, bool]
) -> None:
    await asker.post("?", ask=[agent(asker, "reviewer")])
    assert contents(await other.wait(timeout=60)) == ["?"]
    waiting = asyncio.create_task(other.wait(timeout=60, **limits))  # type: ignore[arg-type]
    await reviewer.leave()
    await reviewer.post("after")
    assert contents(await waiting) == ["after"]


async def test_a_notice_for_another_counts_as_read(
    asker: ThreadHandle, reviewer: ThreadHandle, other: ThreadHandle
) -> None:
    await asker.post("?", ask=[agent(asker, "reviewer")])
    await reviewer.leave()
    assert contents(await other.wait(timeout=60)) == ["?"]
    assert await other.wait(timeout=0, count_all=True) == []
    await other.acknowledge()
    assert other.position.after_seq == 2


async def test_waits_on_several_threads_skip_notices_for_others(
    server: ServerProcess, asker: ThreadHandle, reviewer: ThreadHandle, tmp_path: Path
) -> None:
    credentials, name = tmp_path / "third.json", f"{asker.name}-third"
    async with BusClient(server.address, agent=name, credentials=credentials) as bus:
        await bus.join(asker.name)
        await asker.post("?", ask=[agent(asker, "reviewer")])
        await reviewer.leave()
        await asker.post("after")
        for messages in (
            bus.follow([asker.name], acknowledge=False),
            bus.inbox(addressed=False, acknowledge=False),
        ):
            async with aclosing(messages):
                assert await take(messages, 2) == ["?", "after"]


def notice_frame(seq: int, reason: int, mentions: str) -> WaitMessagesResponse:
    """Returns a frame with a notice."""
    frame = batch(seq)
    (message,) = frame.messages.messages
    message.kind = MESSAGE_KIND_NOTICE
    message.mentions.append(mentions)
    message.notice.reason = Notice.Reason.ValueType(reason)
    return frame


async def test_notices_with_reasons_that_are_not_known_are_skipped() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer(
            "WaitMessages", started(), notice_frame(1, 99, "anonymous"), ending(MIN, upto=1)
        )
        script.answer(
            "WaitMessages", started(), notice_frame(2, 5, "anonymous"), ending(MIN, upto=2)
        )
        (message,) = await handle.wait(timeout=60)
        assert message.notice.reason == Notice.REASON_OVERDUE
        script.answer("WaitMessages", started(), notice_frame(3, 99, "anonymous"), batch(4))
        async with aclosing(handle.follow()) as messages:
            assert await take(messages, 1) == ["4"]


async def test_a_wait_goes_on_after_what_is_hidden_from_it() -> None:
    async with scripted() as script, waiting_on(script) as handle:
        script.answer(
            "WaitMessages", started(), batch(1), notice_frame(2, 5, "x"), ending(MAX, upto=2)
        )
        script.answer("WaitMessages", started(), batch(3), ending(MIN, upto=3))
        assert contents(await handle.wait(timeout=60, min_messages=2, max_messages=2)) == ["1", "3"]
        assert asked(script) == [(0, 2, 2), (2, 1, 1)]


async def test_heartbeats_tell_the_number_of_open_requests(
    server: ServerProcess, asker: ThreadHandle, name: str, tmp_path: Path
) -> None:
    async with BusClient(server.address, agent=name, credentials=tmp_path / "x.json") as bus:
        for _ in range(2):
            await asker.post("?", ask=[name])
        await bus.thread(asker.name).post("yes", reply_to=1)
        (unread,) = (await bus.heartbeat()).unread
        assert unread.open_request_count == 1


def test_the_blocking_client_has_the_same(server: ServerProcess, name: str, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    with (
        BlockingClient(server.address, agent=f"{name}-a", credentials=credentials) as asking,
        BlockingClient(server.address, agent=f"{name}-b", credentials=credentials) as asked,
    ):
        thread = asking.join(name)
        seq = thread.post("?", ask=[asked.agent], within=60).seq
        assert known(list(asked.list_requests(agent=asked.agent))) == [(seq, asked.agent, "OPEN")]
        assert known(list(thread.list_requests())) == [(seq, asked.agent, "OPEN")]
        assert known(thread.withdraw(seq)) == [(seq, asked.agent, "WITHDRAWN")]
