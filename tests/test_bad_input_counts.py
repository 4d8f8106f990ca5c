"""Lists in requests: a million entries are refused by their number, none is checked."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.refusals import refused
from tests.rpcs import nothing_stored, send
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.agent_pb2 import PRESENCE_IDLE
from threadbus.v1.agent_service_pb2 import ListAgentsRequest
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Attachment, Cursor, MessageFilter
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN
from threadbus.v1.thread_service_pb2 import ListThreadsRequest, UpdateThreadRequest

pytestmark = pytest.mark.small_server

FEW, MANY, MILLION = 100, 100_000, 1_000_000


def kinds(count: int) -> MessageFilter:
    """Returns a filter that names a kind `count` times."""
    return MessageFilter(kinds=[MESSAGE_KIND_CHAT] * count)


def states(count: int) -> ListThreadsRequest:
    """Returns a request that names a state `count` times."""
    return ListThreadsRequest(states=[THREAD_STATE_OPEN] * count)


def update(count: int) -> UpdateThreadRequest:
    """Returns a request whose mask names a field `count` times."""
    return UpdateThreadRequest(thread="t", update_mask=FieldMask(paths=["topic"] * count))


FAR_TOO_MANY: list[tuple[Message, str]] = [
    (ListMessagesRequest(thread="t", filter=kinds(MILLION)), "filter.kinds"),
    (ListMessagesRequest(thread="t", filter=kinds(FEW + 1)), "filter.kinds"),
    (WaitMessagesRequest(threads=[Cursor(thread="t")], filter=kinds(MILLION)), "filter.kinds"),
    (ListMessagesRequest(thread="t", filter=MessageFilter(senders=[""] * MANY)), "filter.senders"),
    (states(MILLION), "states"),
    (states(FEW + 1), "states"),
    (ListAgentsRequest(presences=[PRESENCE_IDLE] * MILLION), "presences"),
    (ListAgentsRequest(presences=[PRESENCE_IDLE] * (FEW + 1)), "presences"),
    (update(MANY), "update_mask.paths"),
    (update(FEW + 1), "update_mask.paths"),
    (PostMessageRequest(thread="t", attachments=[Attachment()] * MANY), "attachments"),
    (PostMessageRequest(thread="t", content="x", mentions=[""] * MANY), "mentions"),
    (WaitMessagesRequest(threads=[Cursor()] * MANY), "threads"),
    (HeartbeatRequest(read_cursors=[Cursor()] * MANY), "read_cursors"),
]


@pytest.mark.parametrize(
    ("request_", "field"),
    FAR_TOO_MANY,
    ids=[
        f"{n}-{type(request).__name__}-{field}" for n, (request, field) in enumerate(FAR_TOO_MANY)
    ],
)
async def test_a_list_that_is_far_too_long_is_refused_for_its_length(
    channel: grpc.aio.Channel, request_: Message, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "VALIDATION_FAILED",
    )
    assert refusal.fields == [field]
    assert "at most" in refusal.message


async def test_a_list_of_a_hundred_is_accepted(
    bus: BusStub, threads: ThreadStub, agents: AgentStub, thread: str
) -> None:
    await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
    page = await bus.ListMessages(ListMessagesRequest(thread=thread, filter=kinds(FEW)))
    assert [message.seq for message in page.messages] == [1]
    listed = await threads.ListThreads(states(FEW))
    assert thread in [found.name for found in listed.threads]
    await agents.ListAgents(ListAgentsRequest(presences=[PRESENCE_IDLE] * FEW))
    request = update(FEW)
    request.thread, request.topic = thread, "set once"
    assert (await threads.UpdateThread(request)).thread.topic == "set once"
