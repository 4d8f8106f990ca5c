"""ThreadHandle: participants, edits and settings, with a scripted server."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_client import (
    AgentKind,
    BusClient,
    ExpectedSeqRequired,
    InternalError,
    Message,
    MessageKind,
    Participant,
    ParticipantUpdate,
    Presence,
    SyncMode,
    Thread,
    ThreadNotFound,
)
from tests.members import take
from tests.script import (
    EPOCH,
    THREAD,
    Failure,
    asked_from,
    batch,
    caught_up,
    cursor,
    ending,
    scripted,
    started,
)
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.thread_service_pb2 import (
    GetThreadResponse,
    JoinThreadResponse,
    LeaveThreadRequest,
    LeaveThreadResponse,
    ListParticipantsRequest,
    ListParticipantsResponse,
    UpdateThreadRequest,
    UpdateThreadResponse,
)

REVIEWER = Participant(
    agent="reviewer",
    kind=AgentKind.AGENT_KIND_AGENT,
    presence=Presence.PRESENCE_WAITING,
    waiting=True,
    read_seq=3,
)
CODER = Participant(agent="coder")
SESSION_ENDED = WaitEnding.REASON_SESSION_ENDED
BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
MORE = "more"


def update(*participants: Participant, left: str = "") -> WaitMessagesResponse:
    """A frame with participants."""
    return WaitMessagesResponse(
        participants=ParticipantUpdate(
            thread=THREAD, participants=participants, left=[left] if left else []
        )
    )


def edit(seq: int, of: int) -> WaitMessagesResponse:
    """A frame with an edit."""
    frame = batch(seq)
    frame.messages.messages[0].kind = MessageKind.MESSAGE_KIND_EDIT
    frame.messages.messages[0].edit_of = of
    return frame


async def test_joining_returns_the_participants() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(
            "JoinThread", JoinThreadResponse(cursor=cursor(0), participants=[CODER, REVIEWER])
        )
        assert (await bus.join(THREAD)).participants == [CODER, REVIEWER]
        assert bus.thread(THREAD).participants == []


async def test_participants_are_listed_page_by_page() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer(
            "ListParticipants",
            ListParticipantsResponse(participants=[CODER], next_page_token=MORE),
        )
        script.answer("ListParticipants", ListParticipantsResponse(participants=[REVIEWER]))
        assert [p async for p in bus.thread(THREAD).list_participants()] == [CODER, REVIEWER]
        assert script.asked(ListParticipantsRequest) == [
            ListParticipantsRequest(thread=THREAD, page_token=token) for token in ("", MORE)
        ]


async def test_participants_are_watched_from_the_head_across_disconnects() -> None:
    closed = ending(WaitEnding.REASON_THREADS_CLOSED, upto=9)
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        thread = Thread(name=THREAD, epoch=EPOCH, head_seq=7)
        script.answer("GetThread", GetThreadResponse(thread=thread))
        script.answer(
            *("WaitMessages", started(), update(CODER, REVIEWER), caught_up(7)),
            *(update(left="coder"), BROKEN),
        )
        script.answer("WaitMessages", started(), update(REVIEWER), closed)
        updates = [told async for told in bus.thread(THREAD).watch_participants()]
        assert [[p.agent for p in told.participants] for told in updates] == [
            *(["coder", "reviewer"], [], ["reviewer"])
        ]
        assert [list(told.left) for told in updates] == [[], ["coder"], []]
        assert updates[0].participants[1] == REVIEWER
        for request in script.asked(WaitMessagesRequest):
            assert request.include_participants
            assert list(request.threads) == [cursor(7)]
            # No messages are requested.
            assert list(request.filter.senders) == ["none"]


async def test_those_that_left_during_a_disconnect_are_named() -> None:
    closed = ending(WaitEnding.REASON_THREADS_CLOSED, upto=7)
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("GetThread", GetThreadResponse(thread=Thread(name=THREAD, epoch=EPOCH)))
        script.answer("WaitMessages", started(), update(CODER, REVIEWER), BROKEN)
        script.answer("WaitMessages", started(), update(REVIEWER), update(CODER), closed)
        updates = [told async for told in bus.thread(THREAD).watch_participants()]
        assert [list(told.left) for told in updates] == [[], ["coder"], []]


async def test_a_missing_thread_cannot_be_watched() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("GetThread", Failure(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND"))
        with pytest.raises(ThreadNotFound):
            await anext(bus.thread(THREAD).watch_participants())


async def test_a_follower_may_watch_at_the_same_time() -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        handle = bus.thread(THREAD)
        script.answer("WaitMessages", started(), batch(1), asyncio.Event())
        async with contextlib.aclosing(handle.follow()) as messages:
            assert await take(messages, 1) == ["1"]
            script.answer("GetThread", GetThreadResponse(thread=Thread(name=THREAD)))
            script.answer("WaitMessages", started(), update(CODER), asyncio.Event())
            async with contextlib.aclosing(handle.watch_participants()) as updates:
                assert (await anext(updates)).participants == [CODER]
            assert handle.position.after_seq == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"topic": ""}, UpdateThreadRequest()),
        ({"stage": "review"}, UpdateThreadRequest(stage="review")),
        ({"labels": {"a": "b"}}, UpdateThreadRequest(labels={"a": "b"})),
        (
            {"topic": "t", "sync_mode": SyncMode.SYNC_MODE_STRICT},
            UpdateThreadRequest(topic="t", sync_mode=SyncMode.SYNC_MODE_STRICT),
        ),
    ],
    ids=str,
)
async def test_only_given_settings_are_changed(
    given: dict[str, Any], expected: UpdateThreadRequest
) -> None:
    changed = Thread(name=THREAD, stage="now")
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("UpdateThread", UpdateThreadResponse(thread=changed))
        handle = bus.thread(THREAD)
        assert await handle.update(**given) == handle.info == changed
        (request,) = script.asked(UpdateThreadRequest)
        assert set(request.update_mask.paths) == set(given)
        expected.thread = THREAD
        request.ClearField("update_mask")
        assert request == expected


async def test_read_positions_of_a_thread_that_was_left_are_not_reported(tmp_path: Path) -> None:
    async with scripted() as script:
        client = BusClient(
            script.address, agent="a", credentials=tmp_path / "c.json", heartbeats=False
        )
        async with client as bus:
            handle = await bus.join(THREAD)
            await handle.acknowledge(3)
            await handle.acknowledge(3)  # the server has the position
            assert len(script.asked(HeartbeatRequest)) == 1
            script.answer("LeaveThread", LeaveThreadResponse())
            await handle.leave()
            assert script.asked(LeaveThreadRequest) == [LeaveThreadRequest(thread=THREAD)]
            # A new handle reports it again.
            handle = await bus.join(THREAD)
            await handle.acknowledge(3)
            assert len(script.asked(HeartbeatRequest)) == 2
            script.answer("Heartbeat", Failure(grpc.StatusCode.INTERNAL, "INTERNAL"))
            with pytest.raises(InternalError):
                await handle.acknowledge(5)
            script.answer("LeaveThread", LeaveThreadResponse())
            await handle.leave()
        assert len(script.asked(HeartbeatRequest)) == 3  # the failed one is not repeated


@pytest.mark.parametrize("wanted", [True, False])
async def test_an_edit_names_a_seq_and_its_epoch(wanted: bool) -> None:
    answer = PostMessageResponse(seq=9, recipients=[REVIEWER])
    async with scripted() as script, BusClient(script.address) as bus:
        handle = await bus.join(THREAD)
        script.answer("PostMessage", answer)
        posted = await handle.post("better", edit_of=3, include_recipients=wanted)
        assert list(posted.recipients) == [REVIEWER]
        (request,) = script.asked(PostMessageRequest)
        assert (request.edit_of, request.epoch, request.include_recipients) == (3, EPOCH, wanted)


async def test_a_post_to_a_strict_thread_needs_an_expectation() -> None:
    refusal = Failure(grpc.StatusCode.FAILED_PRECONDITION, "EXPECTED_SEQ_REQUIRED")
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("PostMessage", refusal)
        with pytest.raises(ExpectedSeqRequired, match="as scripted") as raised:
            await bus.thread(THREAD).post("x")
        assert "expected_last_seq" in raised.value.hint


@pytest.mark.parametrize("by", ["follow", "wait"])
async def test_edits_are_delivered_like_other_messages(by: str) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        over = ending(WaitEnding.REASON_THREADS_CLOSED, upto=2)
        script.answer("WaitMessages", started(), batch(1), edit(2, of=1), over)
        messages = await gathered(bus, by)
        assert [(m.seq, m.edit_of) for m in messages] == [(1, 0), (2, 1)]


@pytest.mark.parametrize("by", ["follow", "wait"])
async def test_the_end_of_the_session_ends_a_follow_without_an_error(by: str) -> None:
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", started(), batch(1), ending(SESSION_ENDED, upto=1))
        assert [m.seq for m in await gathered(bus, by)] == [1]
        assert asked_from(script) == [0]


async def gathered(bus: BusClient, by: str) -> list[Message]:
    """Returns the messages of a follow() or wait() until it ends."""
    handle = bus.thread(THREAD)
    if by == "wait":
        return await handle.wait(timeout=60, min_messages=9)
    return [message async for message in handle.follow()]
