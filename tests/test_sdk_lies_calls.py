"""Unary calls with responses that break the contract, from a scripted server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as AnyMessage
from google.rpc.status_pb2 import Status

from bus_client import BusClient, BusError, OutcomeUnknown, ProtocolError, SeqConflict
from tests.polling import until
from tests.script import EPOCH, THREAD, Failure, batch, cursor, last_batch, scripted
from tests.wait_frames import BOUND
from threadbus.v1.admin_service_pb2 import ListWaitsResponse, Wait
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.agent_service_pb2 import (
    ListAgentsResponse,
    RegisterAgentResponse,
    RotateTokenResponse,
)
from threadbus.v1.bus_service_pb2 import (
    GetMessageResponse,
    GetServerInfoResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageResponse,
    PostMessagesResponse,
    PostResult,
    ServerLimits,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_pb2 import Thread
from threadbus.v1.thread_service_pb2 import (
    GetThreadResponse,
    JoinThreadResponse,
    ListParticipantsResponse,
    ListThreadsResponse,
)

SENT = batch(1, 2, 3).messages.messages
ELSEWHERE = Message(thread="elsewhere", seq=2)

LISTS: dict[str, tuple[Callable[[BusClient], Any], type[Any], dict[str, Any]]] = {
    "ListAgents": (BusClient.list_agents, ListAgentsResponse, {"agents": [Agent(name="a")]}),
    "ListThreads": (BusClient.list_threads, ListThreadsResponse, {"threads": [Thread(name="a")]}),
    "ListWaits": (BusClient.list_waits, ListWaitsResponse, {"waits": [Wait(agent="a")]}),
    "ListParticipants": (
        lambda bus: bus.thread(THREAD).list_participants(),
        ListParticipantsResponse,
        {"participants": [Participant(agent="a")]},
    ),
}


def page(*seqs: int, **fields: Any) -> ListMessagesResponse:
    """Returns a page of messages of a thread with three."""
    told = {"head_seq": 3, "first_seq": 1, "epoch": EPOCH, **fields}
    return ListMessagesResponse(messages=[Message(thread=THREAD, seq=s) for s in seqs], **told)


#: Pages that do not lead on: what was requested, the response, and whether a filter allows it.
PAGES: dict[str, tuple[dict[str, Any], ListMessagesResponse]] = {
    "the same again": ({}, page(1, 2, has_more=True, next_after_seq=0)),
    "behind its messages": ({}, page(1, 2, has_more=True, next_after_seq=1)),
    "negative": ({}, page(has_more=True, next_after_seq=-1)),
    "past the end": ({"before_seq": 3}, page(1, has_more=True, next_after_seq=3)),
    "newest, from the end again": ({"newest": True}, page(2, 3, has_more=True)),
    "newest, not further": ({"newest": True}, page(2, 3, has_more=True, next_before_seq=3)),
    "newest, negative": ({"newest": True}, page(2, 3, has_more=True, next_before_seq=-1)),
    "disorder": ({}, page(2, 1, 3)),
    "repeats": ({}, page(1, 1, 2)),
    "no seq": ({}, page(0, 1)),
    "before what was asked for": ({"after_seq": 2}, page(2, 3)),
    "after what was asked for": ({"before_seq": 3}, page(1, 2, 3)),
    "too many": ({"limit": 2}, page(1, 2, 3)),
    "of another thread": ({}, ListMessagesResponse(messages=[ELSEWHERE])),
}
GAPS: dict[str, tuple[dict[str, Any], ListMessagesResponse]] = {
    "at the start": ({}, page(2, 3)),
    "in the middle": ({}, page(1, 3)),
    "at the end": ({}, page(1, 2)),
    "all": ({}, page()),
    "newest": ({"newest": True, "limit": 2}, page(1, 2)),
    "before the next page": ({}, page(1, has_more=True, next_after_seq=2)),
    "an empty page": ({}, page(has_more=True, next_after_seq=1)),
}


@pytest.mark.parametrize("rpc", LISTS)
@pytest.mark.parametrize("how", ["same token", "same page", "empty"])
async def test_a_list_that_makes_no_progress_is_an_error(rpc: str, how: str) -> None:
    call, response, entries = LISTS[rpc]
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        for number in range(5):
            token = "again" if how == "same token" else f"page {number}"
            found = {} if how == "empty" else entries
            script.answer(rpc, response(**found, next_page_token=token))
        with pytest.raises(ProtocolError):
            async for _ in call(bus):
                pass


@pytest.mark.parametrize("what", PAGES)
async def test_a_page_that_does_not_match_the_request_is_an_error(what: str) -> None:
    asked, answer = PAGES[what]
    for wanted in (None, MessageFilter(senders=["someone"])):
        async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
            for _ in range(3):
                script.answer("ListMessages", answer)
            with pytest.raises(ProtocolError):
                await bus.thread(THREAD).messages(filter=wanted, **asked)
            assert len(script.asked(ListMessagesRequest)) == 1


@pytest.mark.parametrize("what", GAPS)
async def test_a_gap_in_a_page_without_a_filter_is_an_error(what: str) -> None:
    asked, answer = GAPS[what]
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("ListMessages", answer)
        with pytest.raises(ProtocolError, match="left out"):
            await bus.thread(THREAD).messages(**asked)


async def test_pages_of_two_epochs_are_an_error() -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("ListMessages", page(1, 2, has_more=True, next_after_seq=2))
        script.answer("ListMessages", page(3, epoch="epoch-2"))
        with pytest.raises(ProtocolError, match="histories"):
            await bus.thread(THREAD).messages()


PLACES: dict[str, tuple[str, AnyMessage, Callable[[BusClient], Awaitable[Any]]]] = {
    name: ("JoinThread", answer, lambda bus: bus.join(THREAD))
    for name, answer in {
        "no place": JoinThreadResponse(),
        "a negative place": JoinThreadResponse(cursor=cursor(-1)),
        "a huge place": JoinThreadResponse(cursor=cursor(2**60)),
        "another thread's place": JoinThreadResponse(cursor=Cursor(thread="elsewhere")),
        "another thread": JoinThreadResponse(thread=Thread(name="elsewhere"), cursor=cursor(0)),
        "context in disorder": JoinThreadResponse(cursor=cursor(3), context=reversed(SENT)),
        "context past the place": JoinThreadResponse(cursor=cursor(2), context=SENT),
        "context of another thread": JoinThreadResponse(cursor=cursor(3), context=[ELSEWHERE]),
    }.items()
} | {
    name: ("GetThread", GetThreadResponse(thread=thread), lambda bus: bus.get_thread(THREAD))
    for name, thread in {
        "a thread of another name": Thread(name="elsewhere"),
        "a negative head": Thread(name=THREAD, head_seq=-1),
        "a huge head": Thread(name=THREAD, head_seq=2**62),
        "a first seq past the head": Thread(name=THREAD, head_seq=3, first_seq=5),
    }.items()
}


@pytest.mark.parametrize("what", PLACES)
async def test_an_invalid_cursor_is_an_error(what: str) -> None:
    rpc, answer, call = PLACES[what]
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer(rpc, answer)
        with pytest.raises(ProtocolError):
            await call(bus)


async def test_a_message_that_was_not_requested_is_an_error() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetMessage", GetMessageResponse(message=SENT[1]))
        with pytest.raises(ProtocolError):
            await bus.thread(THREAD).message(1)


@pytest.mark.parametrize(
    "answer",
    [
        PostMessageResponse(),
        PostMessageResponse(seq=-1),
        PostMessageResponse(thread="elsewhere", seq=1),
        b"\xff\xff",
    ],
    ids=["no-seq", "negative", "elsewhere", "bytes"],
)
async def test_a_post_with_an_invalid_response_has_an_unknown_outcome(
    answer: AnyMessage | bytes,
) -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", answer)
        with pytest.raises(OutcomeUnknown) as unknown:
            await bus.thread(THREAD).post("x", request_id="mine")
        assert unknown.value.request_id == "mine"


def _posted(seq: int) -> PostResult:
    return PostResult(response=PostMessageResponse(seq=seq))


@pytest.mark.parametrize(
    "answer",
    [
        PostMessagesResponse(),
        PostMessagesResponse(results=[_posted(1)] * 3),
        PostMessagesResponse(results=[_posted(1), PostResult()]),
        PostMessagesResponse(results=[_posted(1), PostResult(status=Status(code=0))]),
        PostMessagesResponse(results=[_posted(1), _posted(0)]),
        b"\xff\xff",
    ],
    ids=["none", "too-many", "neither", "ok", "no-seq", "bytes"],
)
async def test_post_many_with_invalid_results_has_an_unknown_outcome(
    answer: AnyMessage | bytes,
) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("PostMessages", answer, asyncio.Event())
        with pytest.raises(OutcomeUnknown):
            async for _ in bus.thread(THREAD).post_many(["a", "b"]):
                pass


@pytest.mark.parametrize("token", ["", "bad\ntoken", "x" * 31, "x" * 129, "ü" * 32, "a b" * 11])
async def test_an_invalid_token_does_not_replace_the_stored_one(token: str, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    async with scripted() as script, asyncio.timeout(BOUND):
        client = BusClient(script.address, agent="worker", credentials=file, heartbeats=False)
        async with client as bus:
            kept = file.read_text("utf-8")
            script.answer("RotateToken", RotateTokenResponse(token=token))
            with pytest.raises(ProtocolError):
                await bus.rotate_token()
            assert file.read_text("utf-8") == kept
            await bus.end_session()
            (sent,) = json.loads(kept)[script.address].values()
            assert script.tokens(type(script.requests[-1][1])) == [sent]


async def test_an_agent_registered_under_another_name_is_an_error(tmp_path: Path) -> None:
    async with scripted() as script, asyncio.timeout(BOUND):
        client = BusClient(script.address, agent="worker", credentials=tmp_path / "c.json")
        script.answer("RegisterAgent", RegisterAgentResponse(agent=Agent(name="someone")))
        with pytest.raises(ProtocolError):
            await client.connect()


async def test_bytes_that_are_no_response_are_an_error() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetThread", b"\xff\xff")
        with pytest.raises(ProtocolError):
            await bus.get_thread(THREAD)


class Garbled(Failure):
    """A failure with details that cannot be parsed."""

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", b"\xff\xff"),)


async def test_details_that_cannot_be_parsed_are_left_out() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetThread", Garbled(grpc.StatusCode.PERMISSION_DENIED))
        with pytest.raises(BusError) as failed:
            await bus.get_thread(THREAD)
        assert (failed.value.code, failed.value.reason) == ("PERMISSION_DENIED", "")


async def test_invalid_numbers_are_zero_and_delays_are_bounded() -> None:
    failure = Failure(
        grpc.StatusCode.ABORTED,
        "SEQ_CONFLICT",
        {"expected": "many", "last_seq": "9" * 5_000},
        retry_delay=1e9,
    )
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", failure)
        with pytest.raises(SeqConflict) as conflict:
            await bus.thread(THREAD).post("x")
        assert (conflict.value.expected, conflict.value.last_seq) == (0, 0)
        assert conflict.value.retry_delay == 60.0


@pytest.mark.slow
@pytest.mark.parametrize("interval", [2**62, -(2**62), 0])
async def test_invalid_intervals_do_not_end_the_heartbeats(interval: int, tmp_path: Path) -> None:
    odd = Duration(seconds=interval)
    file = tmp_path / "credentials.json"
    async with scripted() as script, asyncio.timeout(BOUND):
        for _ in range(2):
            script.answer("Heartbeat", HeartbeatResponse(heartbeat_interval=odd, agent_timeout=odd))
        async with BusClient(script.address, agent="worker", credentials=file) as bus:
            await until(lambda: len(script.asked(HeartbeatRequest)) == 1)
            script.answer("WaitMessages", *last_batch(1))
            async for _ in bus.thread(THREAD).follow():
                pass
            await until(lambda: len(script.asked(HeartbeatRequest)) == 2)  # automatically
            await bus.heartbeat(status_text="still there")


@pytest.mark.parametrize("streams", [0, -1, 2**31 - 1])
async def test_an_invalid_stream_limit_is_ignored(streams: int) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        limits = ServerLimits(max_streams=streams)
        script.answer("GetServerInfo", GetServerInfoResponse(limits=limits))
        script.answer("WaitMessages", *last_batch(1))
        assert [message.seq async for message in bus.thread(THREAD).follow()] == [1]
