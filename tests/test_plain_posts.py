"""Plain posts are put together from bytes, and must be what they would be as Messages."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus_server.auth import Caller
from bus_server.errors import BusError, MessageTooLarge, ValidationFailed
from bus_server.services.posting import to_append
from bus_server.settings import Settings
from bus_server.store import Append, wire
from bus_server.store.post_hash import post_hash
from tests.process_memory import memory
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_CHAT,
    PRIORITY_HIGH,
    PRIORITY_NORMAL,
    Attachment,
    Message,
)

CALLER = Caller("ann", AGENT_KIND_HUMAN, ("post",))
LIMITED = Settings(max_content_bytes=1_000)


@given(
    st.sampled_from(["t", "x" * 128]),
    st.text(min_size=1, max_size=300),
    st.sampled_from(["", "a", "~" * 128]),
)
def test_a_plain_post_is_the_message_it_stands_for(
    thread: str, content: str, request_id: str
) -> None:
    request = PostMessageRequest(thread=thread, content=content, request_id=request_id)
    post = to_append(request, CALLER, Settings())
    message = Message(
        thread=thread,
        sender="ann",
        sender_kind=AGENT_KIND_HUMAN,
        kind=MESSAGE_KIND_CHAT,
        priority=PRIORITY_NORMAL,
        content=content,
        request_id=request_id,
        content_size=len(content.encode()),
    )
    assert post.header is None
    assert Message.FromString(post.body) == message
    assert len(post.body) == message.ByteSize()
    assert post.post_hash == (post_hash(message) if request_id else b"")
    assert post.request_id == request_id


@pytest.mark.parametrize(
    "fields",
    [
        {"expected_last_seq": 0},
        {"reply_to": 1},
        {"mentions": ["ben"]},
        {"handoff_to": "ben"},
        {"priority": PRIORITY_HIGH},
        {"labels": {"a": "b"}},
        {"attachments": [Attachment(filename="f", url="https://x")]},
        {"based_on_seq": 0},
        {"include_recipients": True},
        {"edit_of": 1},
        {"epoch": "e"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_post_with_any_other_field_is_not_plain(fields: dict[str, Any]) -> None:
    request = PostMessageRequest(thread="t", content="x", request_id="a", **fields)
    post = to_append(request, CALLER, Settings())
    assert post.header is not None
    assert post.post_hash
    assert Message.FromString(post.body).content == "x"
    assert not (post.header.content or post.header.attachments)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"thread": ""}, ValidationFailed),
        ({"thread": "no spaces"}, ValidationFailed),
        ({"thread": "naïve"}, ValidationFailed),
        ({"content": ""}, ValidationFailed),
        ({"content": "x" * 1_001}, MessageTooLarge),
        ({"content": "é" * 501}, MessageTooLarge),
        ({"request_id": "naïve"}, ValidationFailed),
        ({"request_id": "x" * 129}, ValidationFailed),
    ],
    ids=str,
)
def test_a_plain_post_is_checked(fields: dict[str, Any], refusal: type[BusError]) -> None:
    request = PostMessageRequest(**({"thread": "t", "content": "x"} | fields))
    with pytest.raises(refusal):
        to_append(request, CALLER, LIMITED)


def test_a_field_that_this_server_does_not_know_is_not_stored() -> None:
    request = PostMessageRequest(thread="t", content="x")
    request.MergeFromString(b"\xfa\x07\x01?")  # field 127, one byte
    post = to_append(request, CALLER, Settings())
    assert post.header is not None
    assert b"\xfa\x07" not in post.body


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16_383, 16_384, 2**32 - 1])
def test_numbers_and_texts_are_in_protobufs_wire_format(value: int) -> None:
    assert Message.FromString(wire.number(Message.SEQ_FIELD_NUMBER, value)).seq == value
    length = min(value, 20_000)
    field = wire.text(Message.CONTENT_FIELD_NUMBER, b"x" * length)
    assert Message.FromString(field).content == "x" * length
    assert len(field) == wire.text_size(length)


def test_a_post_that_waits_for_the_disk_holds_its_content_once() -> None:
    def posts() -> list[Append]:
        return [
            to_append(
                PostMessageRequest(thread="t", content="x" * 2**20, labels={"a": "b"}),
                CALLER,
                Settings(),
            )
            for _ in range(30)
        ]

    before = memory(os.getpid())
    held = posts()
    assert memory(os.getpid()) - before < 45 * 2**20  # 30 MiB, and a few that are being made
    assert all(post.header is not None for post in held)
