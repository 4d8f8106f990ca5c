"""ThreadHandle.ask in threads that lose their oldest messages."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bus_client import BusClient, Message, MessageNotFound, RequestState, Retention, Unanswered
from tests.asking import agent, asking, until_waiting
from tests.members import member
from tests.script import (
    EPOCH,
    THREAD,
    Failure,
    Script,
    Step,
    batch,
    caught_up,
    cursor,
    scripted,
    started,
)
from tests.serving import ServerProcess
from tests.test_sdk_lies_compacted import compacted
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetMessageResponse,
    ListRequestsRequest,
    ListRequestsResponse,
    PostMessageResponse,
)
from threadbus.v1.request_pb2 import Request

pytestmark = pytest.mark.asking_server

State = RequestState
GONE = Failure(grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 1])
async def test_a_question_that_is_not_kept_is_closed(
    server: ServerProcess, name: str, tmp_path: Path, others: int
) -> None:
    roles = ["reviewer", "tester"][: others + 1]
    async with BusClient(server.address) as creator, asyncio.timeout(BOUND):
        await creator.create_thread(name, retention=Retention(max_messages=2 + others))
        thread = creator.thread(name)
        for role in roles:
            async with member(server.address, name, tmp_path, role=role):
                pass
        async with (
            member(server.address, name, tmp_path, role="asker") as asker,
            asking(asker, *roles) as question,
        ):
            seq = await question.posted()
            await until_waiting(asker)
            for _ in range(3 + others):
                await thread.post("something else")
            error = await question.unanswered()
            assert (error.reason, error.seq) == ("CLOSED", seq)
            assert error.agent in {agent(asker, role) for role in roles}
            assert "removed" in str(error)
            assert "No reply can come" in error.hint


def request(state: State.ValueType, *, of: str = "someone", reply_seq: int = 0) -> Request:
    return Request(
        thread=THREAD, epoch=EPOCH, seq=5, asker="asker", agent=of, state=state, reply_seq=reply_seq
    )


def reply(seq: int, sender: str = "someone") -> Message:
    message = batch(seq).messages.messages[0]
    message.reply_to, message.sender = 5, sender
    return message


@asynccontextmanager
async def asked(
    requests: Sequence[Request], *steps: Step, of: Sequence[str] = ("someone",)
) -> AsyncIterator[tuple[Script, "asyncio.Task[Message]"]]:
    """A question at seq 5, of whose wait the entries up to 20 were removed before it saw them."""
    async with (
        scripted() as script,
        BusClient(script.address, agent="asker") as bus,
        asyncio.timeout(BOUND),
    ):
        script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=5, epoch=EPOCH))
        skip = compacted(cursor(5), cursor(20))
        script.answer("WaitMessages", started(), skip, *steps, asyncio.Event())
        script.answer("ListRequests", Failure(grpc.StatusCode.UNAVAILABLE, "STORE_BUSY"))
        script.answer("ListRequests", ListRequestsResponse(requests=requests))
        task = asyncio.create_task(bus.thread(THREAD).ask("?", of=of))
        yield script, task
        assert all(not each.states for each in script.asked(ListRequestsRequest))


async def test_a_reply_that_is_kept_is_returned() -> None:
    answered = request(State.REQUEST_STATE_ANSWERED, reply_seq=21)
    async with asked([answered]) as (script, task):
        script.answer("GetMessage", GetMessageResponse(message=reply(21)))
        assert await task == reply(21)


async def test_of_several_replies_the_first_that_is_kept_is_returned() -> None:
    some = [
        request(State.REQUEST_STATE_ANSWERED, of="b", reply_seq=22),
        request(State.REQUEST_STATE_ANSWERED, of="a", reply_seq=7),
    ]
    async with asked(some, of=("a", "b")) as (script, task):
        script.answer("GetMessage", GONE)
        script.answer("GetMessage", GetMessageResponse(message=reply(22, "b")))
        assert (await task).seq == 22
        assert [each.seq for each in script.asked(GetMessageRequest)] == [7, 22]


async def test_a_reply_that_is_gone_is_an_error() -> None:
    answered = request(State.REQUEST_STATE_ANSWERED, reply_seq=7)
    async with asked([answered]) as (script, task):
        script.answer("GetMessage", GONE)
        with pytest.raises(MessageNotFound, match="The reply to message 5"):
            await task


async def test_so_is_a_request_of_which_nothing_is_known_any_more() -> None:
    async with asked([]) as (_, task):
        with pytest.raises(MessageNotFound, match="Message 5 of thread 'scripted' is not kept"):
            await task


@pytest.mark.parametrize("state", [State.REQUEST_STATE_CLOSED, State.REQUEST_STATE_WITHDRAWN])
async def test_a_request_that_ended_among_what_was_removed(state: State.ValueType) -> None:
    async with asked([request(state)], caught_up(20)) as (_, task):
        with pytest.raises(Unanswered) as error:
            await task
        assert error.value.reason == State.Name(state).removeprefix("REQUEST_STATE_")


async def test_an_open_request_is_waited_for() -> None:
    answer = batch(21)
    answer.messages.messages[0].CopyFrom(reply(21))
    async with asked([request(State.REQUEST_STATE_OPEN)], answer) as (_, task):
        assert (await task).seq == 21
