"""PostMessage: what a message may contain, and that it is stored byte for byte."""

import os
from typing import Any

import grpc
import pytest

from tests.files import file
from tests.peers import Peer, registered
from tests.refusals import refused
from tests.serving import AgentStub, BusStub
from threadbus.v1.message_pb2 import Attachment, Message

MIB = 1024 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧‍👦🏳️‍🌈 🧑🏽‍💻 \U0010ffff",
        "שלום עולם · مرحبا بالعالم ‮ txet ‬ \u200f",
        "a\0b\0",
        "e\u0301 ≠ é, a̐éö̲\r\n",
        "ﷺ\ufeff\u2028\u2029\u0085 \ud7ff\ue000 \x7f\x1b[31m",
        "  leading, trailing, \t\v\f and nothing but \n",
        " ",
        "'; DROP TABLE message; -- %s {0} \\",
        "x" * 500_000,
        "語" * 100_000,
    ],
    ids=[
        "emoji",
        "right to left",
        "NUL",
        "combining",
        "odd",
        "space",
        "blank",
        "SQL",
        "a long line",
        "a long line of wide characters",
    ],
)
async def test_text_is_stored_as_it_was_sent(bus: BusStub, thread: str, text: str) -> None:
    anyone = Peer(bus)
    await anyone.post(thread, text, labels={text[:10]: text[:50]})
    async with anyone.wait(thread) as frames:
        [message] = await frames.messages(1)
        await anyone.post(thread, text)
        [live] = await frames.messages(1)
    assert message.content == live.content == text
    assert dict(message.labels) == {text[:10]: text[:50]}


async def test_attachments_come_back_byte_for_byte(bus: BusStub, thread: str) -> None:
    files = [
        file(bytes(range(256)), filename="every byte"),
        file(os.urandom(100_000), filename="noise.bin", media_type="application/x-noise"),
        file(b""),
        file(b"\xff", filename="diff 語.patch", media_type="text/x-diff; charset=utf-8"),
        Attachment(filename="link", url="https://example.org/a?b=c#d"),
        Attachment(url="urn:isbn:0451450523"),
    ]
    anyone = Peer(bus)
    await anyone.post(thread, "", attachments=files)
    [message] = await anyone.read(thread)
    assert list(message.attachments) == files
    assert message.content == ""


async def test_fields_unknown_to_the_server_are_not_stored(bus: BusStub, thread: str) -> None:
    unknown = b"\xfa\x07\x05stray"  # field 127, a string
    sent = Attachment.FromString(file(b"b", filename="a").SerializeToString() + unknown)
    anyone = Peer(bus)
    await anyone.post(thread, "", attachments=[sent])
    [message] = await anyone.read(thread)
    assert list(message.attachments) == [file(b"b", filename="a")]
    assert b"stray" not in message.SerializeToString()


async def test_every_field_of_a_post_comes_back(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    coder = await registered(agents, bus, "coder")
    await coder.post(thread)
    fields: dict[str, Any] = {
        "request_id": "a request",
        "reply_to": 1,
        "mentions": [coder.name],
        "handoff_to": coder.name,
        "priority": "PRIORITY_URGENT",
        "labels": {"a": "1", "b": ""},
        "attachments": [file(b"1")],
        "based_on_seq": 0,
    }
    await coder.post(thread, "whole", **fields)
    message = (await coder.read(thread))[1]
    posted = Message(thread=thread, content="whole", **fields)
    for field, _ in posted.ListFields():
        assert getattr(message, field.name) == getattr(posted, field.name), field.name
    assert message.HasField("based_on_seq")


async def test_content_is_limited_by_its_bytes(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    for whole in ("x" * MIB, "é" * (MIB // 2)):
        await anyone.post(thread, whole)
        refusal = await refused(anyone.post(thread, whole + "x"))
        assert refusal.reason == "MESSAGE_TOO_LARGE"
        assert refusal.metadata == {"limit": str(MIB), "size": str(MIB + 1)}
    assert len(await anyone.read(thread)) == 2


@pytest.mark.slow
async def test_a_message_is_limited_to_3_mib_in_all(bus: BusStub, thread: str) -> None:
    anyone = Peer(bus)
    files = [file(os.urandom(1023 * 1024)), file(os.urandom(1023 * 1024))]
    await anyone.post(thread, "x" * MIB, attachments=files)
    [message] = await anyone.read(thread)
    assert list(message.attachments) == files
    refusal = await refused(anyone.post(thread, "", attachments=[Attachment(raw=bytes(3 * MIB))]))
    assert refusal.reason == "MESSAGE_TOO_LARGE"
    assert refusal.metadata["limit"] == str(3 * MIB)
    assert int(refusal.metadata["size"]) > 3 * MIB
    assert len(await anyone.read(thread)) == 1


async def test_a_request_over_4_mib_is_refused_by_grpc_itself(bus: BusStub, thread: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Peer(bus).post(thread, attachments=[Attachment(raw=bytes(4 * MIB))])
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await Peer(bus).read(thread) == []
