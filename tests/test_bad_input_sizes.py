"""The size limits of posts: a post at the limit is accepted, one byte more is refused."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.conftest import StartServer
from tests.files import file
from tests.refusals import refused
from tests.rpcs import RPCS, Rpc, nothing_stored
from tests.serving import BusStub, ThreadStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Attachment, Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

KIB, MIB = 1024, 1024 * 1024
BY_NAME = {str(rpc): rpc for rpc in RPCS}


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
async def test_a_mebibyte_of_content_is_accepted_and_a_byte_more_is_refused(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, character: str
) -> None:
    width = len(character.encode())
    content = character * (MIB // width) + "x" * (MIB % width)
    assert (await bus.PostMessage(PostMessageRequest(thread=thread, content=content))).seq == 1
    stored = await bus.GetMessage(GetMessageRequest(thread=thread, seq=1))
    assert stored.message.content == content
    async with nothing_stored(channel):
        refusal = await refused(
            bus.PostMessage(PostMessageRequest(thread=thread, content=content + "x"))
        )
    assert refusal.reason == "MESSAGE_TOO_LARGE"
    assert refusal.metadata == {"limit": str(MIB), "size": str(MIB + 1)}
    assert refusal.fields == ["content"]


async def test_the_limits_are_those_that_the_server_reports(bus: BusStub) -> None:
    limits = (await bus.GetServerInfo(GetServerInfoRequest())).limits
    assert (limits.max_content_bytes, limits.max_message_bytes) == (MIB, 3 * MIB)
    assert limits.max_wait_threads == 1_000


async def test_a_message_just_under_three_mebibytes_can_be_read_in_every_way(
    bus: BusStub, thread: str
) -> None:
    attachments = [file(bytes(2 * MIB)), file(bytes(MIB - KIB))]
    await bus.PostMessage(PostMessageRequest(thread=thread, attachments=attachments))
    one = await bus.GetMessage(GetMessageRequest(thread=thread, seq=1))
    assert list(one.message.attachments) == attachments
    page = await bus.ListMessages(ListMessagesRequest(thread=thread))
    assert list(page.messages) == [one.message]
    wait = WaitMessagesRequest(threads=[Cursor(thread=thread)], max_wait=Duration())
    frames = [frame async for frame in bus.WaitMessages(wait)]
    assert [list(frame.messages.messages) for frame in frames if frame.messages.messages] == [
        [one.message]
    ]


@pytest.mark.parametrize(
    "sizes", [[3 * MIB], [MIB, MIB, MIB], [3 * MIB + 512 * KIB], [200 * KIB] * 16]
)
async def test_a_message_over_three_mebibytes_is_refused(
    channel: grpc.aio.Channel, bus: BusStub, thread: str, sizes: list[int]
) -> None:
    attachments = [Attachment(raw=bytes(size)) for size in sizes]
    async with nothing_stored(channel):
        refusal = await refused(
            bus.PostMessage(PostMessageRequest(thread=thread, attachments=attachments))
        )
    assert refusal.reason == "MESSAGE_TOO_LARGE"
    assert refusal.metadata["limit"] == str(3 * MIB)
    assert 0 < int(refusal.metadata["size"]) - sum(sizes) < 500


async def test_the_limit_counts_the_whole_message(
    channel: grpc.aio.Channel, bus: BusStub, thread: str
) -> None:
    post = PostMessageRequest(
        thread=thread,
        content="x" * MIB,
        attachments=[Attachment(raw=bytes(2 * MIB - KIB))],
        labels={str(n): "x" * 256 for n in range(4)},
    )
    async with nothing_stored(channel):
        assert (await refused(bus.PostMessage(post))).reason == "MESSAGE_TOO_LARGE"
    post.labels.clear()
    assert (await bus.PostMessage(post)).seq == 1


@pytest.mark.slow
@pytest.mark.parametrize("rpc", [BY_NAME["PostMessage"], BY_NAME["WaitMessages"]], ids=str)
async def test_a_request_over_four_mebibytes_is_refused_by_grpc_itself(
    channel: grpc.aio.Channel, rpc: Rpc
) -> None:
    async with nothing_stored(channel):  # which sends over the same connection
        refusal = await refused(rpc.call(channel, bytes(4 * MIB + 1)))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (refusal.reason, refusal.details) == ("", [])


@pytest.mark.slow
async def test_the_limit_of_content_is_configurable(start_server: StartServer, name: str) -> None:
    server = start_server("--max-content-bytes", "10")
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus: BusStub = BusServiceStub(channel)
        threads: ThreadStub = ThreadServiceStub(channel)
        await threads.CreateThread(CreateThreadRequest(thread=name))
        await bus.PostMessage(PostMessageRequest(thread=name, content="é" * 5))
        refusal = await refused(
            bus.PostMessage(PostMessageRequest(thread=name, content="é" * 5 + "x"))
        )
        limits = (await bus.GetServerInfo(GetServerInfoRequest())).limits
    assert refusal.metadata == {"limit": "10", "size": "11"}
    assert limits.max_content_bytes == 10


async def test_empty_content_with_an_attachment_is_a_message(bus: BusStub, thread: str) -> None:
    post = PostMessageRequest(thread=thread, attachments=[Attachment(raw=b"")])
    assert (await bus.PostMessage(post)).seq == 1
