"""Requests as callers list, answer and withdraw them."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.peers import Peer
from tests.presence import beat
from tests.server_pairs import caller_of
from tests.wait_frames import BOUND, messages_in
from threadbus.v1.bus_service_pb2 import (
    ListRequestsRequest,
    WithdrawRequestRequest,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    Cursor,
    ExpectReply,
    Message,
    MessageFilter,
    Notice,
)
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


async def noticed(by: Peer, thread: str, count: int) -> list[tuple[str, int, str]]:
    """Returns the notices in a thread once it has so many: reason, request and agent."""
    only = MessageFilter(kinds=[MESSAGE_KIND_NOTICE])
    async with by.wait(
        thread, filter=only, min_messages=count, count_all=True, max_wait=600
    ) as frames:
        return notices_in(messages_in(await frames.rest()))


async def read_up_to(agent: Peer, thread: str, seq: int, **fields: Any) -> None:
    """Report that an agent has read a thread up to a seq, and will be there for long.

    `fields`: of the heartbeat.
    """
    cursors = [Cursor(thread=thread, after_seq=seq)]
    await beat(agent.bus, caller_of(agent), lease=600, read_cursors=cursors, **fields)


async def alive(agent: Peer, **fields: Any) -> Peer:
    """Send a heartbeat of an agent, whose lease does not end during a test. Returns the agent."""
    await beat(agent.bus, caller_of(agent), **({"lease": 600} | fields))
    return agent
