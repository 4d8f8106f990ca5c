"""Fields of PostMessage that are missing, malformed, too large, negative or huge."""

from typing import Any

import grpc
import pytest

from tests.callers import register
from tests.refusals import refused
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.agent_pb2 import AGENT_KIND_ANONYMOUS
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    PRIORITY_URGENT,
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    WAKE_PEOPLE,
    Attachment,
    Message,
    Priority,
    Wake,
)
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

STANDING = "standing"
HUGE = [2**53, 2**63 - 1]


@pytest.fixture(autouse=True)
async def existing(threads: ThreadStub) -> None:
    """An existing thread."""
    await threads.JoinThread(JoinThreadRequest(thread=STANDING, create=True))


def post(**fields: Any) -> PostMessageRequest:
    """Returns a valid post with these fields changed."""
    return PostMessageRequest(**{"thread": STANDING, "content": "x", **fields})


NO_THREAD_NAMES = ["", ".x", "-x", "_x", "a b", "a/b", "a\n", "a\0", "é", "x" * 129]
NO_AGENT_NAMES = ["", ".x", "-x", "Upper", "a b", "a/b", "a\n", "ß", "x" * 64]
NO_LABELS: list[dict[str, str]] = [
    {str(n): "" for n in range(33)},
    {"": "no key"},
    {"k" * 64: "long key"},
    {"é" * 32: "a key of 64 bytes"},
]

WRONG = [
    *((post(thread=name), "thread") for name in NO_THREAD_NAMES),
    (post(content=""), "content"),
    *((post(request_id=bad), "request_id") for bad in ("x" * 129, "é", "a\n", "\x7f", "\0")),
    *((post(expected_last_seq=bad), "expected_last_seq") for bad in (-1, -(2**63))),
    *((post(reply_to=bad), "reply_to") for bad in (-1, -(2**63))),
    *((post(edit_of=bad), "edit_of") for bad in (-1, -(2**63))),
    (post(edit_of=1, content=""), "content"),
    (post(edit_of=1, content="", attachments=[Attachment(raw=b"x")]), "content"),
    *((post(based_on_seq=bad), "based_on_seq") for bad in (-1, -(2**63), *HUGE)),
    (post(mentions=[f"a{n}" for n in range(33)]), "mentions"),
    (post(mentions=["same"] * 33), "mentions"),
    *((post(mentions=["fine", name]), "mentions[1]") for name in NO_AGENT_NAMES),
    *((post(handoff_to=name), "handoff_to") for name in NO_AGENT_NAMES[1:]),
    *((post(priority=Priority.ValueType(bad)), "priority") for bad in (5, 99, -1, 2**31 - 1)),
    *((post(wakes=Wake.ValueType(bad)), "wakes") for bad in (WAKE_PEOPLE, 5, 99, -1, 2**31 - 1)),
    *((post(edit_of=1, wakes=wakes), "wakes") for wakes in (WAKE_ALL, WAKE_NOBODY)),
    *((post(labels=bad), "labels") for bad in NO_LABELS),
    (post(labels={"k": "v" * 257}), 'labels["k"]'),
    (post(labels={"clé": "é" * 129}), 'labels["clé"]'),
    (post(epoch="e" * 33), "epoch"),
    (post(attachments=[Attachment(raw=b"x")] * 17), "attachments"),
    (post(content="", attachments=[Attachment(filename="a.txt")]), "attachments[0].content"),
    *(
        (post(attachments=[Attachment(raw=b""), Attachment(filename=bad, raw=b"")]),
         "attachments[1].filename")
        for bad in ("x" * 256, "é" * 128, "a/b", "..\\b", "a\0", ".", "..")
    ),
    *(
        (post(attachments=[Attachment(media_type=bad, raw=b"")]), "attachments[0].media_type")
        for bad in ("text", "/", "text/", "/plain", "text/pläin", "text/plain\n", "t" * 300 + "/x")
    ),
    *(
        (post(attachments=[Attachment(url=bad)]), "attachments[0].url")
        for bad in ("", "a.txt", "/a/b", "//host/a", "http://[", "http:", "https://h/" + "x" * 2048)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "field"), WRONG, ids=[field for _, field in WRONG])
async def test_a_post_with_an_invalid_field_is_refused_with_the_fields_path(
    channel: grpc.aio.Channel, bus: BusStub, request_: PostMessageRequest, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(request_))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert refusal.details == ["ErrorInfo", "BadRequest"]


@pytest.mark.parametrize("seq", [1, *HUGE])
async def test_a_reply_to_an_unknown_message_is_refused(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, seq: int
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread=thread, reply_to=seq)))
    assert refusal.reason == "MESSAGE_NOT_FOUND"


@pytest.mark.parametrize("expected", [1, *HUGE])
async def test_a_future_expectation_is_a_conflict(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, expected: int
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread=thread, expected_last_seq=expected)))
    assert refusal.metadata == {"expected": str(expected), "last_seq": "0"}


async def test_a_based_on_seq_past_the_head_is_refused(
    channel: grpc.aio.Channel, bus: BusStub, thread: str
) -> None:
    await bus.PostMessage(post(thread=thread, based_on_seq=0))
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread=thread, based_on_seq=2)))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["based_on_seq"])
    assert (await bus.PostMessage(post(thread=thread, based_on_seq=1))).seq == 2


async def test_a_refused_post_makes_no_participant_of_those_it_names(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    await register(agents, name)
    async with nothing_stored(channel):
        refusal = await refused(
            bus.PostMessage(post(thread=thread, mentions=[name, "nobody-1"], handoff_to="nobody-2"))
        )
    assert refusal.reason == "AGENT_NOT_FOUND"
    assert refusal.resources == [("agent", "nobody-1"), ("agent", "nobody-2")]


async def test_the_trailers_stay_small_when_every_name_is_long_and_unknown(
    bus: BusStub, thread: str
) -> None:
    names = [f"{n:063}" for n in range(33)]
    refusal = await refused(
        bus.PostMessage(post(thread=thread, mentions=names[:32], handoff_to=names[32]))
    )
    assert (refusal.reason, refusal.trailer_bytes < 8_000) == ("AGENT_NOT_FOUND", True)
    assert {("agent", name) for name in names} >= set(refusal.resources) != set()


async def test_a_post_at_every_limit_is_accepted_and_stored_as_sent(
    bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    named = [f"{name}-{n}".ljust(63, "x") for n in range(32)]
    for agent in named:
        await register(agents, agent)
    await bus.PostMessage(post(thread=thread))
    request = PostMessageRequest(
        thread=thread,
        content="a\0b\r\n\u202e😀",
        request_id="~ " * 64,
        expected_last_seq=1,
        reply_to=1,
        mentions=named,
        handoff_to=named[0],
        priority=PRIORITY_URGENT,
        wakes=WAKE_ADDRESSED,
        labels={f"{n:02}" + "é" * 30 + "k": "é" * 128 for n in range(32)},
        attachments=[
            Attachment(filename="é" * 127 + "x", media_type="text/x-diff", raw=b"\0\xff"),
            Attachment(url="https://example.org/" + "x" * 2_028),
            *[Attachment(raw=b"")] * 14,
        ],
        based_on_seq=1,
    )
    answer = await bus.PostMessage(request)
    stored = await bus.GetMessage(GetMessageRequest(thread=thread, seq=2))
    assert stored.message == as_stored(request, answer)


def as_stored(request: PostMessageRequest, answer: PostMessageResponse) -> Message:
    """Returns the message that an anonymous caller's post becomes."""
    stored = Message(
        thread=request.thread,
        seq=answer.seq,
        sender="anonymous",
        content=request.content,
        create_time=answer.create_time,
        sender_kind=AGENT_KIND_ANONYMOUS,
        kind=MESSAGE_KIND_CHAT,
        reply_to=request.reply_to,
        mentions=request.mentions,
        handoff_to=request.handoff_to,
        priority=request.priority,
        labels=request.labels,
        attachments=request.attachments,
        request_id=request.request_id,
        based_on_seq=request.based_on_seq,
        wakes=request.wakes or WAKE_ALL,
        content_size=len(request.content.encode()),
    )
    for attachment in stored.attachments:
        attachment.size = len(attachment.raw)
    return stored


async def test_mentions_are_stored_in_order_without_duplicates(
    bus: BusStub, agents: AgentStub, thread: str, name: str
) -> None:
    first, second = f"{name}-z", f"{name}-a"
    for agent in (first, second):
        await register(agents, agent)
    await bus.PostMessage(post(thread=thread, mentions=[first, second, first]))
    stored = await bus.GetMessage(GetMessageRequest(thread=thread, seq=1))
    assert list(stored.message.mentions) == [first, second]
