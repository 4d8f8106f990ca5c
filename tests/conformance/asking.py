"""Scripted servers for clients that wait for a reply."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.script import EPOCH, THREAD, Script, batch, caught_up, scripted, started
from threadbus.v1.bus_service_pb2 import (
    ListRequestsRequest,
    ListRequestsResponse,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_NOTICE, MESSAGE_KIND_THREAD, MessageKind, Notice
from threadbus.v1.request_pb2 import Request, RequestState

ASKER, REVIEWER = "asker", "reviewer"


def _entry(seq: int, *, sender: str, kind: int, reply_to: int = 0) -> WaitMessagesResponse:
    frame = batch(seq)
    (message,) = frame.messages.messages
    message.sender, message.kind = sender, MessageKind.ValueType(kind)
    message.reply_to = reply_to
    return frame


def _notice(seq: int, reason: int, *, about: int = 1, to: str = ASKER) -> WaitMessagesResponse:
    frame = _entry(seq, sender="system", kind=MESSAGE_KIND_NOTICE)
    (message,) = frame.messages.messages
    message.mentions.append(to)
    reasons = Notice.Reason.ValueType
    message.notice.CopyFrom(Notice(reason=reasons(reason), request_seq=about, agent=REVIEWER))
    return frame


def _posted(script: Script) -> None:
    script.answer("PostMessage", PostMessageResponse(thread=THREAD, seq=1, epoch=EPOCH))


@contextlib.asynccontextmanager
async def newer_notices() -> AsyncIterator[str]:
    """Sends notices that do not concern the question, and a kind of message that is not known."""
    async with scripted() as script:
        _posted(script)
        reply = _entry(6, sender=REVIEWER, kind=1, reply_to=1)
        script.answer(
            "WaitMessages",
            started(),
            _notice(2, 77),
            _notice(3, Notice.REASON_OVERDUE, about=9),
            _notice(4, Notice.REASON_OVERDUE, to="other"),
            _entry(5, sender=REVIEWER, kind=77, reply_to=1),
            reply,
            caught_up(6),
            asyncio.Event(),
        )
        yield script.address
    (post,) = script.asked(PostMessageRequest)
    assert list(post.expect_reply.agents) == [REVIEWER]
    assert post.request_id


@contextlib.asynccontextmanager
async def newer_state() -> AsyncIterator[str]:
    """Changes the thread, and tells that the request is in a state that is not known."""
    async with scripted() as script:
        _posted(script)
        changed = _entry(2, sender="someone", kind=MESSAGE_KIND_THREAD)
        script.answer("WaitMessages", started(), changed, caught_up(2), asyncio.Event())
        tomorrow = Request(
            thread=THREAD,
            epoch=EPOCH,
            seq=1,
            asker=ASKER,
            agent=REVIEWER,
            state=RequestState.ValueType(77),
        )
        for _ in range(3):
            script.answer("ListRequests", ListRequestsResponse(requests=[tomorrow]))
        yield script.address
    assert script.asked(ListRequestsRequest), "it did not look at its requests"
