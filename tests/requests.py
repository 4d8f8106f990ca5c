"""Requests as callers list, answer and withdraw them."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.peers import Peer
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import (
    ListRequestsRequest,
    WithdrawRequestRequest,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_NOTICE, ExpectReply, Message, Notice
from threadbus.v1.request_pb2 import Request, RequestState


def asking(*agents: str, within: float | None = None) -> ExpectReply:
    """Returns an expect_reply. `within`: in seconds."""
    expected = ExpectReply(agents=agents)
    if within is not None:
        expected.within.CopyFrom(Duration(seconds=int(within), nanos=round(within % 1 * 1e9)))
    return expected


async def ask(
    asker: Peer, thread: str, *agents: str, within: float | None = None, **fields: Any
) -> int:
    """Post a message that asks agents. Returns its seq."""
    posted = await asker.post(thread, "?", expect_reply=asking(*agents, within=within), **fields)
    return posted.seq


async def listed(by: Peer, **fields: Any) -> list[Request]:
    """Returns the first page of requests."""
    request = ListRequestsRequest(**fields)
    answer = await by.bus.ListRequests(request, timeout=BOUND, metadata=by.metadata)
    return list(answer.requests)


async def states(by: Peer, thread: str) -> dict[tuple[int, str], str]:
    """Returns the states of a thread's requests, by message and agent asked, such as `OPEN`."""
    return {
        (each.seq, each.agent): RequestState.Name(each.state).removeprefix("REQUEST_STATE_")
        for each in await listed(by, thread=thread)
    }


async def withdraw(by: Peer, thread: str, seq: int, **fields: Any) -> list[Request]:
    """Withdraw the requests of a message. Returns them."""
    request = WithdrawRequestRequest(thread=thread, seq=seq, **fields)
    answer = await by.bus.WithdrawRequest(request, timeout=BOUND, metadata=by.metadata)
    return list(answer.requests)


def notices_in(messages: list[Message]) -> list[tuple[str, int, str]]:
    """Returns the notices among messages: reason, such as `OVERDUE`, request and agent."""
    return [
        (
            Notice.Reason.Name(message.notice.reason).removeprefix("REASON_"),
            message.notice.request_seq,
            message.notice.agent,
        )
        for message in messages
        if message.kind == MESSAGE_KIND_NOTICE
    ]
