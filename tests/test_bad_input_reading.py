"""Invalid fields in WaitMessages, Heartbeat, ListMessages and GetMessage."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tests.refusals import refused
from tests.rpcs import nothing_stored, send
from tests.serving import BusStub, ThreadStub
from threadbus.v1.agent_pb2 import PRESENCE_LAPSED, PRESENCE_OFFLINE, Presence
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    HeartbeatRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, MessageFilter, MessageKind, Priority
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

STANDING = "standing"
HUGE = [2**53, 2**63 - 1]
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@pytest.fixture(autouse=True)
async def existing(threads: ThreadStub) -> None:
    """An existing thread."""
    await threads.JoinThread(JoinThreadRequest(thread=STANDING, create=True))


def cursor(**fields: Any) -> Cursor:
    return Cursor(**{"thread": STANDING, **fields})


def wait(**fields: Any) -> WaitMessagesRequest:
    return WaitMessagesRequest(**{"threads": [cursor()], "max_wait": Duration(), **fields})


def page(**fields: Any) -> ListMessagesRequest:
    return ListMessagesRequest(**{"thread": STANDING, **fields})


WRONG_FILTERS = [
    (MessageFilter(senders=["x"] * 101), "filter.senders"),
    (MessageFilter(senders=["fine", "No"]), "filter.senders[1]"),
    (MessageFilter(senders=[""]), "filter.senders[0]"),
    (MessageFilter(addressed_to_me=True), "filter.addressed_to_me"),
    (MessageFilter(min_priority=Priority.ValueType(5)), "filter.min_priority"),
    (MessageFilter(min_priority=Priority.ValueType(-1)), "filter.min_priority"),
    (MessageFilter(kinds=[MessageKind.ValueType(99)]), "filter.kinds[0]"),
    (MessageFilter(kinds=[MessageKind.ValueType(1), MessageKind.ValueType(5)]), "filter.kinds[1]"),
    (MessageFilter(kinds=[MessageKind.ValueType(0)]), "filter.kinds[0]"),
]

WRONG_DURATIONS = [
    Duration(seconds=-1),
    Duration(nanos=-1),
    Duration(seconds=1, nanos=-1),
    Duration(seconds=-1, nanos=1),
    Duration(seconds=315_576_000_001),
    Duration(seconds=2**63 - 1),
    Duration(seconds=-(2**63)),
    Duration(nanos=1_000_000_000),
    Duration(nanos=INT32_MAX),
    Duration(nanos=INT32_MIN),
]

WRONG_NAMES = ["", ".x", "a b", "a/b", "a\n", "é", "x" * 129]

WRONG: list[tuple[Message, str]] = [
    (WaitMessagesRequest(), "threads"),
    (wait(threads=[Cursor(thread=f"t{n}") for n in range(1_001)]), "threads"),
    (wait(threads=[cursor(), Cursor(thread="other"), cursor(after_seq=1)]), "threads"),
    *((wait(threads=[cursor(), Cursor(thread=bad)]), "threads[1].thread") for bad in WRONG_NAMES),
    (wait(threads=[cursor(after_seq=-1)]), "threads[0].after_seq"),
    (wait(threads=[cursor(after_seq=-(2**63))]), "threads[0].after_seq"),
    (wait(threads=[cursor(hidden_seq=-1)]), "threads[0].hidden_seq"),
    (wait(threads=[cursor(after_seq=3, hidden_seq=4)]), "threads[0].hidden_seq"),
    (wait(threads=[cursor(epoch="e" * 33)]), "threads[0].epoch"),
    (wait(max_messages=-1), "max_messages"),
    (wait(max_messages=INT32_MIN), "max_messages"),
    (wait(min_messages=-1), "min_messages"),
    *((wait(max_wait=bad), "max_wait") for bad in WRONG_DURATIONS),
    *((wait(keepalive_interval=bad), "keepalive_interval") for bad in WRONG_DURATIONS),
    *((wait(filter=bad), field) for bad, field in WRONG_FILTERS),
    (
        HeartbeatRequest(read_cursors=[Cursor(thread=f"t{n}") for n in range(1_001)]),
        "read_cursors",
    ),
    *(
        (HeartbeatRequest(read_cursors=[cursor(), Cursor(thread=bad)]), "read_cursors[1].thread")
        for bad in WRONG_NAMES
    ),
    (HeartbeatRequest(read_cursors=[cursor(after_seq=-1)]), "read_cursors[0].after_seq"),
    (HeartbeatRequest(read_cursors=[cursor(hidden_seq=1)]), "read_cursors[0].hidden_seq"),
    (HeartbeatRequest(read_cursors=[cursor(epoch="é" * 17)]), "read_cursors[0].epoch"),
    *(
        (HeartbeatRequest(state=Presence.ValueType(bad)), "state")
        for bad in (PRESENCE_LAPSED, PRESENCE_OFFLINE, 7, 99, -1)
    ),
    (HeartbeatRequest(status_text="x" * 257), "status_text"),
    (HeartbeatRequest(status_text="é" * 129), "status_text"),
    *((HeartbeatRequest(lease=bad), "lease") for bad in WRONG_DURATIONS),
    *((page(thread=bad), "thread") for bad in WRONG_NAMES),
    (page(after_seq=-1), "after_seq"),
    (page(before_seq=-1), "before_seq"),
    (page(limit=-1), "limit"),
    (page(limit=INT32_MIN), "limit"),
    (page(epoch="e" * 33), "epoch"),
    *((page(filter=bad), field) for bad, field in WRONG_FILTERS),
    *((GetMessageRequest(thread=bad, seq=1), "thread") for bad in WRONG_NAMES),
    *((GetMessageRequest(thread=STANDING, seq=bad), "seq") for bad in (0, -1, -(2**63))),
]


@pytest.mark.parametrize(
    ("request_", "field"),
    WRONG,
    ids=[f"{request.DESCRIPTOR.name}-{field}" for request, field in WRONG],
)
async def test_a_request_with_an_invalid_field_is_refused_with_the_fields_path(
    channel: grpc.aio.Channel, request_: Message, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert refusal.details == ["ErrorInfo", "BadRequest"]


@pytest.mark.parametrize("seq", [1, *HUGE])
async def test_positions_past_the_head_are_an_error_in_a_unary_call(
    bus: BusStub, thread: str, seq: int
) -> None:
    refusal = await refused(bus.ListMessages(page(thread=thread, after_seq=seq)))
    assert (refusal.reason, refusal.metadata["head_seq"]) == ("CURSOR_INVALID", "0")
    refusal = await refused(bus.GetMessage(GetMessageRequest(thread=thread, seq=seq)))
    assert refusal.reason == "MESSAGE_NOT_FOUND"


@pytest.mark.parametrize("seq", [1, *HUGE])
async def test_positions_past_the_head_are_resynced_in_a_wait(
    bus: BusStub, thread: str, seq: int
) -> None:
    asked = Cursor(thread=thread, after_seq=seq)
    frames = await frames_of(bus, wait(threads=[asked]))
    (resync,) = (frame.resync for frame in frames if frame.HasField("resync"))
    assert (resync.reason, resync.requested) == (WaitResync.REASON_CURSOR_AHEAD, asked)
    assert frames[-1].ending.reason == WaitEnding.REASON_MAX_WAIT


async def frames_of(bus: BusStub, request: WaitMessagesRequest) -> list[WaitMessagesResponse]:
    return [frame async for frame in bus.WaitMessages(request)]


async def test_huge_numbers_are_accepted_where_they_are_upper_bounds(
    bus: BusStub, thread: str
) -> None:
    await bus.PostMessage(PostMessageRequest(thread=thread, content="x"))
    answer = await bus.ListMessages(page(thread=thread, before_seq=2**63 - 1, limit=INT32_MAX))
    assert [message.seq for message in answer.messages] == [1]
    assert (answer.has_more, answer.next_after_seq) == (False, 1)
    frames = await frames_of(
        bus,
        wait(
            threads=[Cursor(thread=thread)],
            max_messages=INT32_MAX,
            min_messages=1,
            max_wait=Duration(seconds=315_576_000_000, nanos=999_999_999),
            keepalive_interval=Duration(seconds=315_576_000_000),
        ),
    )
    assert frames[0].started.keepalive_interval == Duration(seconds=300)
    assert frames[-1].ending.reason == WaitEnding.REASON_MIN_MESSAGES


async def test_a_short_keepalive_interval_is_raised_to_a_second(bus: BusStub, thread: str) -> None:
    frames = await frames_of(
        bus, wait(threads=[Cursor(thread=thread)], keepalive_interval=Duration(nanos=1))
    )
    assert frames[0].started.keepalive_interval == Duration(seconds=1)


async def test_a_thousand_unknown_threads_still_give_a_readable_error(bus: BusStub) -> None:
    names = [f"{n:0128}" for n in range(1_000)]
    refusal = await refused(bus.WaitMessages(wait(threads=[Cursor(thread=n) for n in names])))
    assert refusal.reason == "THREAD_NOT_FOUND"
    assert refusal.trailer_bytes < 8_000
    assert {("thread", name) for name in names} >= set(refusal.resources) != set()


async def test_of_many_threads_the_unknown_ones_are_named(bus: BusStub, thread: str) -> None:
    cursors = [Cursor(thread=name) for name in (thread, "gone-1", STANDING, "gone-2")]
    refusal = await refused(bus.WaitMessages(wait(threads=cursors)))
    assert refusal.resources == [("thread", "gone-1"), ("thread", "gone-2")]


async def test_an_empty_heartbeat_of_anonymous_is_accepted(bus: BusStub) -> None:
    await bus.Heartbeat(HeartbeatRequest())
    await bus.Heartbeat(
        HeartbeatRequest(
            read_cursors=[
                cursor(after_seq=2**63 - 1),
                Cursor(thread="unknown", after_seq=2**53, epoch="another"),
            ]
        )
    )
