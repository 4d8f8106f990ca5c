"""ThreadHandle: texts cut off, files left out, and limits in bytes."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_client import BusClient, InvalidArgument
from tests.members import member
from tests.peers import Peer
from tests.script import THREAD, Failure, asked_from, batch, ending, scripted, started
from tests.serving import BusStub, ServerProcess
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest
from threadbus.v1.message_pb2 import Attachment, Message

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE)
MIN, MAX_BYTES, DRAINING = (
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_BYTES,
    WaitEnding.REASON_DRAINING,
)
FILE = Attachment(filename="a.bin", raw=bytes(5_000))


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


async def post_with_files(bus: BusStub, thread: str, count: int) -> None:
    for _ in range(count):
        await Peer(bus).post(thread, "größe " * 100, attachments=[FILE])


def is_short(message: Message) -> bool:
    (file,) = message.attachments
    return (message.content, message.content_size) == ("größe gr", 800) and (
        (file.filename, file.size, file.WhichOneof("content")) == ("a.bin", 5_000, None)
    )


async def test_each_way_to_read_can_shorten_messages_and_one_returns_them_whole(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await post_with_files(bus, thread, 2)
    short: dict[str, Any] = {"omit_attachment_data": True, "max_content_bytes": 10}
    async with member(server.address, thread, tmp_path) as reader:
        assert all(map(is_short, await reader.messages(**short)))
        assert is_short(await reader.message(1, **short))
        assert is_short((await reader.wait(timeout=0, max_messages=1, **short))[0])
        async for message in reader.follow(**short):
            assert is_short(message)
            if message.seq == 2:
                break
        whole = await reader.message(2)
    assert whole.content == "größe " * 100
    assert whole.attachments[0].raw == FILE.raw


async def test_waits_and_reads_with_max_bytes_return_all_messages_in_parts(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, *["x" * size for size in (10, 300, 10, 10, 2_000, 10)])
    async with member(server.address, thread, tmp_path) as reader:
        whole = await reader.messages()
        most = sum(message.ByteSize() for message in whole[:2])
        parts, pages, after = [], [], 0
        while part := await reader.wait(timeout=0, max_bytes=most):
            parts.append(seqs(part))
        while page := await reader.messages(after_seq=after, max_bytes=most):
            pages.append(seqs(page))
            after = page[-1].seq
        newest = await reader.messages(newest=True, before_seq=5, max_bytes=most)
    assert parts == pages == [[1, 2], [3, 4], [5], [6]]
    assert seqs(newest) == [3, 4]


async def test_a_wait_returns_at_the_message_that_is_too_much(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with member(server.address, thread, tmp_path) as reader, asyncio.timeout(BOUND):
        waiting = asyncio.create_task(reader.wait(timeout=60, min_messages=3, max_bytes=500))
        await Peer(bus).post_all(thread, "x", "x" * 500)
        assert seqs(await waiting) == [1]
        assert seqs(await reader.wait(timeout=60)) == [2]


@pytest.mark.parametrize("most", [-1, 2**63, 1.5, True, None])
async def test_bad_limits_are_refused(
    server: ServerProcess, thread: str, tmp_path: Path, most: Any
) -> None:
    async with member(server.address, thread, tmp_path) as reader:
        for call in (
            lambda: reader.wait(timeout=0, max_bytes=most),
            lambda: reader.messages(max_bytes=most),
            lambda: reader.wait(timeout=0, max_content_bytes=most),
            lambda: reader.message(1, max_content_bytes=most),
            lambda: anext(reader.follow(max_content_bytes=most)),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                await call()
            assert refusal.value.field_violations[0][0] in ("max_bytes", "max_content_bytes")


async def test_after_a_disconnect_a_wait_asks_for_the_bytes_that_are_left() -> None:
    size = batch(1).messages.messages[0].ByteSize()
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        handle = bus.thread(THREAD)
        script.answer("WaitMessages", started(), batch(1), BROKEN)
        script.answer("WaitMessages", started(), batch(2), ending(DRAINING, upto=2))
        script.answer("WaitMessages", started(), batch(3), ending(MAX_BYTES, upto=3))
        found = await handle.wait(timeout=60, min_messages=9, max_bytes=3 * size - 1)
        assert seqs(found) == [1, 2]  # the third came only because one always does
        asked = [request.max_bytes for request in script.asked(WaitMessagesRequest)]
        assert asked == [3 * size - 1, 2 * size - 1, size - 1]
        script.answer("WaitMessages", started(), batch(3), ending(MIN, upto=3))
        assert seqs(await handle.wait(timeout=60)) == [3]
        assert asked_from(script)[-1] == 2


async def test_a_server_that_ignores_max_bytes_is_not_read_beyond_it() -> None:
    size = batch(1).messages.messages[0].ByteSize()
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        handle = bus.thread(THREAD)
        script.answer("WaitMessages", started(), batch(1, 2, 3), asyncio.Event())
        assert seqs(await handle.wait(timeout=60, max_bytes=2 * size)) == [1, 2]
        script.answer("WaitMessages", started(), batch(3), ending(MIN, upto=3))
        assert seqs(await handle.wait(timeout=60)) == [3]
