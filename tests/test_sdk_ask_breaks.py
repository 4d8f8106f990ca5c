"""ThreadHandle.ask when agents, connections and servers fail."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bus_client import BusClient, Message, MessageNotFound, ThreadState, Unanswered
from tests.asking import agent, asking, until_waiting
from tests.conftest import StartServer
from tests.members import member, take
from tests.relay import relay_to
from tests.script import EPOCH, THREAD, Step, batch, caught_up, cursor, lost, scripted, started
from tests.serving import ServerProcess
from tests.test_sdk_follow_restarts import restart
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    PostMessageResponse,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_NOTICE, MessageKind, Notice

pytestmark = pytest.mark.asking_server

HASTY = ("--agent-timeout", "1", "--heartbeat-interval", "0.2", "--checkpoint-interval", "0.05")


@pytest.mark.slow
async def test_an_agent_that_reads_the_question_and_does_nothing(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server(*HASTY)
    async with (
        member(server.address, name, tmp_path, role="asker") as asker,
        member(server.address, name, tmp_path, role="reviewer") as reviewer,
        asking(asker, "reviewer") as question,
        aclosing(reviewer.follow()) as messages,
    ):
        assert await take(messages, 1) == ["?"]
        coming = asyncio.create_task(take(messages, 1))
        error = await question.unanswered()
        coming.cancel()
        await asyncio.wait([coming])
    assert (error.reason, error.agent) == ("AGENT_IDLE", agent(asker, "reviewer"))


@pytest.mark.slow
async def test_an_agent_that_is_silent(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server(*HASTY)
    async with (
        member(server.address, name, tmp_path, role="asker") as asker,
        BusClient(
            server.address,
            agent=f"{name}-silent",
            credentials=tmp_path / "silent.json",
            heartbeats=False,
        ) as silent,
        asking(asker, "silent") as question,
    ):
        await question.posted()
        await silent.heartbeat()
        error = await question.unanswered()
    assert (error.reason, error.agent) == ("AGENT_LAPSED", silent.agent)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_outlives_the_server(
    start_server: StartServer, name: str, tmp_path: Path, number: signal.Signals
) -> None:
    server = start_server()
    async with (
        member(server.address, name, tmp_path, role="asker") as asker,
        member(server.address, name, tmp_path, role="reviewer") as reviewer,
        asking(asker, "reviewer") as question,
    ):
        seq = await question.posted()
        await restart(server, number)
        await reviewer.post("hm")
        edit = await asker.post("??", edit_of=seq)
        await restart(server, number)
        await reviewer.post("yes", reply_to=edit.seq)
        assert await question.reply() == "yes"


async def test_it_outlives_its_connection(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with (
        relay_to(server.address) as relay,
        member(relay.address, thread, tmp_path, role="asker") as asker,
        member(server.address, thread, tmp_path, role="reviewer") as reviewer,
        asking(asker, "reviewer") as question,
    ):
        seq = await question.posted()
        await until_waiting(asker)
        relay.refusing = True
        relay.cut()
        await reviewer.leave()  # a notice that the reply overtakes
        await reviewer.post("yes", reply_to=seq)
        relay.refusing = False
        assert await question.reply() == "yes"


async def test_it_finds_out_that_the_thread_was_closed_and_opened_while_it_was_away(
    server: ServerProcess, thread: str, tmp_path: Path
) -> None:
    async with (
        relay_to(server.address) as relay,
        BusClient(server.address) as creator,
        member(relay.address, thread, tmp_path, role="asker") as asker,
        member(server.address, thread, tmp_path, role="reviewer") as reviewer,
        asking(asker, "reviewer") as question,
    ):
        seq = await question.posted()
        await until_waiting(asker)
        relay.refusing = True
        relay.cut()
        await creator.thread(thread).set_state(ThreadState.THREAD_STATE_CLOSED)
        await creator.thread(thread).set_state(ThreadState.THREAD_STATE_OPEN)
        await reviewer.post("too late", reply_to=seq)
        relay.refusing = False
        assert (await question.unanswered()).reason == "CLOSED"


@asynccontextmanager
async def asked(*steps: Step) -> AsyncIterator["asyncio.Task[Message]"]:
    """A question at seq 5 of the scripted thread, and the frames of the wait for its reply."""
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=5, epoch=EPOCH))
        script.answer("WaitMessages", *steps)
        asking = asyncio.create_task(bus.thread(THREAD).ask("?", of="someone"))
        yield asking
        assert script.asked(WaitMessagesRequest)[0].threads == [cursor(5)]


def reply(seq: int) -> WaitMessagesResponse:
    """Returns a frame with a reply to the question."""
    frame = batch(seq)
    frame.messages.messages[0].reply_to = 5
    return frame


def notice(seq: int, reason: int) -> WaitMessagesResponse:
    """Returns a frame with a notice about the question."""
    frame = batch(seq)
    (message,) = frame.messages.messages
    message.kind, message.sender = MESSAGE_KIND_NOTICE, "system"
    message.mentions.append("anonymous")
    message.notice.reason = Notice.Reason.ValueType(reason)
    message.notice.request_seq, message.notice.agent = 5, "someone"
    return frame


async def test_a_question_that_is_lost_is_not_found() -> None:
    position = cursor(4, epoch="epoch-2")
    async with asked(started(), lost(cursor(5), position), asyncio.Event()) as asking:
        with pytest.raises(MessageNotFound):
            await asking


async def test_a_question_that_is_kept_is_answered_in_another_epoch() -> None:
    position = cursor(5, epoch="epoch-2")
    anew = reply(6)
    anew.messages.cursor.epoch = "epoch-2"
    async with asked(started(), lost(cursor(5), position), anew) as asking:
        assert (await asking).content == "6"


async def test_notices_with_reasons_that_are_not_known_end_nothing() -> None:
    async with asked(started(), caught_up(5), notice(6, 99), reply(7)) as asking:
        assert (await asking).content == "7"


async def test_an_entry_of_a_kind_that_is_not_known_is_no_reply() -> None:
    newer = reply(6)
    newer.messages.messages[0].kind = MessageKind.ValueType(99)
    async with asked(started(), caught_up(5), newer, reply(7)) as asking:
        assert (await asking).content == "7"


async def test_a_notice_counts_once_what_was_posted_before_is_read() -> None:
    async with asked(started(), notice(6, 1), caught_up(6), asyncio.Event()) as asking:
        with pytest.raises(Unanswered) as raised:
            await asking
    assert raised.value.reason == "AGENT_IDLE"
