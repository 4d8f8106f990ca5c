"""follow() with the frames and failures of a scripted server."""

import asyncio
from typing import Any

import grpc
import pytest

from bus_client import (
    AccessDenied,
    BusClient,
    BusError,
    InvalidArgument,
    MessageKind,
    QuotaExceeded,
    ThreadNotFound,
    Unauthenticated,
)
from tests.members import take
from tests.polling import until
from tests.script import (
    THREAD,
    Failure,
    Script,
    asked_from,
    batch,
    caught_up,
    cursor,
    ending,
    keepalive,
    last_batch,
    scripted,
    started,
)
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest, WaitMessagesResponse

_Code = grpc.StatusCode

#: Failures after which a follower reconnects.
BREAKS = [
    Failure(_Code.UNAVAILABLE),
    Failure(_Code.CANCELLED),
    Failure(_Code.INTERNAL),
    Failure(_Code.UNKNOWN),
    Failure(_Code.DEADLINE_EXCEEDED),
    Failure(_Code.RESOURCE_EXHAUSTED),
    Failure(_Code.UNAVAILABLE, "DRAINING"),
    Failure(_Code.UNAVAILABLE, "STORE_BUSY", retry_delay=0.05),
    Failure(_Code.UNAVAILABLE, "NEWER_REASON"),
    Failure(_Code.INTERNAL, "INTERNAL", {"incident": "c0ffee"}),
]
#: Failures after which it does not.
REFUSALS = [
    (Failure(_Code.NOT_FOUND, "THREAD_NOT_FOUND"), ThreadNotFound),
    (Failure(_Code.UNAUTHENTICATED, "TOKEN_INVALID"), Unauthenticated),
    (Failure(_Code.INVALID_ARGUMENT, "VALIDATION_FAILED"), InvalidArgument),
    (Failure(_Code.PERMISSION_DENIED, "ACCESS_DENIED"), AccessDenied),
    (Failure(_Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", {"limit": "1"}), QuotaExceeded),
    (Failure(_Code.UNIMPLEMENTED), BusError),
]


def named(value: Any) -> str | None:
    """A failure's name in test ids."""
    if isinstance(value, Failure):
        return f"{value.code.name}-{value.reason}".rstrip("-")
    return value.__name__ if isinstance(value, type) else None


async def followed(script: Script) -> list[str]:
    """Returns the messages until the thread is closed."""
    async with BusClient(script.address) as bus, asyncio.timeout(BOUND):
        return [message.content async for message in bus.thread(THREAD).follow()]


@pytest.mark.parametrize("failure", BREAKS, ids=named)
async def test_a_follower_reconnects_and_resumes(failure: Failure) -> None:
    async with scripted() as script:
        script.answer("WaitMessages", failure)
        script.answer("WaitMessages", started(), batch(1, 2), failure)
        script.answer("WaitMessages", started(), failure)
        script.answer("WaitMessages", *last_batch(3, 4))
        assert await followed(script) == ["1", "2", "3", "4"]
        assert asked_from(script) == [0, 0, 2, 2]
        assert {r.threads[0].epoch for r in script.asked(WaitMessagesRequest)} == {cursor(0).epoch}


async def test_a_stream_without_an_ending_is_reconnected() -> None:
    async with scripted() as script:
        script.answer("WaitMessages", started(), batch(1))
        script.answer("WaitMessages")
        script.answer("WaitMessages", *last_batch(2))
        assert await followed(script) == ["1", "2"]
        assert asked_from(script) == [0, 1, 1]


@pytest.mark.parametrize(
    "reason",
    [
        WaitEnding.REASON_DRAINING,
        WaitEnding.REASON_DEADLINE,
        WaitEnding.REASON_UNSPECIFIED,
        WaitEnding.Reason.ValueType(99),
    ],
)
async def test_an_ending_that_was_not_requested_is_reconnected(
    reason: WaitEnding.Reason.ValueType,
) -> None:
    async with scripted() as script:
        script.answer("WaitMessages", started(), batch(1), ending(reason, upto=3))
        script.answer("WaitMessages", *last_batch(4))
        assert await followed(script) == ["1", "4"]
        assert asked_from(script) == [0, 3]


@pytest.mark.slow
async def test_a_draining_server_says_when_to_reconnect() -> None:
    draining = ending(WaitEnding.REASON_DRAINING, upto=1, retry_delay=0.5)
    async with scripted() as script:
        script.answer("WaitMessages", started(), draining)
        script.answer("WaitMessages", *last_batch(2))
        await followed(script)
        first, second = (
            at for at, request in script.requests if isinstance(request, WaitMessagesRequest)
        )
        assert second - first >= 0.5


@pytest.mark.parametrize(("failure", "expected"), REFUSALS, ids=named)
async def test_a_refusal_is_final(failure: Failure, expected: type[BusError]) -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        handle = bus.thread(THREAD)
        script.answer("WaitMessages", failure)
        with pytest.raises(expected) as raised:
            await take(handle.follow(), 1)
        assert type(raised.value) is expected
        script.answer("WaitMessages", started(), batch(1), failure)
        messages = handle.follow()
        assert await take(messages, 1) == ["1"]
        with pytest.raises(expected):
            await take(messages, 1)
        assert len(asked_from(script)) == 2


async def test_a_follower_requests_no_end() -> None:
    async with scripted() as script:
        script.answer("WaitMessages", *last_batch(1))
        await followed(script)
        (request,) = script.asked(WaitMessagesRequest)
    assert (request.max_messages, request.min_messages) == (0, 0)
    assert not request.HasField("max_wait")
    assert request.filter.exclude_own


async def test_unknown_frames_and_kinds_are_skipped() -> None:
    unknown_frame = WaitMessagesResponse.FromString(b"\x9a\x06\x00")  # field 99
    assert unknown_frame.WhichOneof("frame") is None
    unknown_kinds = batch(1, 2, 3)
    for message in unknown_kinds.messages.messages[1:]:
        message.kind = MessageKind.ValueType(99)
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", unknown_frame, started(), unknown_frame, unknown_kinds)
        script.answer("WaitMessages", *last_batch(4))
        handle = bus.thread(THREAD)
        messages = handle.follow()
        assert await take(messages, 1) == ["1"]
        assert await take(messages, 1) == ["4"]
        assert asked_from(script) == [0, 3]
        assert handle.position.after_seq == 3


async def test_a_follower_resumes_after_the_messages_received_and_not_those_consumed() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", started(), batch(1, 2, 3, upto=5), Failure(_Code.UNAVAILABLE))
        script.answer("WaitMessages", *last_batch(6))
        handle = bus.thread(THREAD)
        async with asyncio.timeout(BOUND):
            read = [(message.seq, handle.position.after_seq) async for message in handle.follow()]
        assert read == [(1, 0), (2, 1), (3, 2), (6, 5)]
        assert asked_from(script) == [0, 5]
        assert handle.position == cursor(6)


@pytest.mark.parametrize("frame", [caught_up(7), keepalive(7)], ids=["caught_up", "keepalive"])
async def test_every_frame_with_a_cursor_moves_the_position(frame: WaitMessagesResponse) -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        hold = asyncio.Event()
        script.answer("WaitMessages", started(), frame, hold)
        script.answer("WaitMessages", *last_batch(8))
        handle = bus.thread(THREAD)
        coming = asyncio.create_task(take(handle.follow(), 1))
        await until(lambda: handle.position == cursor(7))
        hold.set()
        assert await coming == ["8"]
        assert asked_from(script) == [0, 7]


@pytest.mark.slow
async def test_a_silent_connection_is_closed_and_reconnected() -> None:
    silence = asyncio.Event()
    async with scripted() as script:
        script.answer("WaitMessages", started(keepalive=1), batch(1), silence)
        script.answer("WaitMessages", *last_batch(2))
        assert await followed(script) == ["1", "2"]
        assert asked_from(script) == [0, 1]
        first, second = (
            at for at, request in script.requests if isinstance(request, WaitMessagesRequest)
        )
        assert second - first >= 2.5  # a late frame does not mean a dead connection


@pytest.mark.slow
async def test_a_slow_consumer_does_not_count_as_silence() -> None:
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", started(keepalive=0.2), *last_batch(1, 2)[1:])
        messages = bus.thread(THREAD).follow()
        assert await take(messages, 1) == ["1"]
        # Another wait gets no frame for that long.
        script.answer("WaitMessages", started(keepalive=0.2), asyncio.Event())
        script.answer("WaitMessages", *last_batch(9))
        assert await followed(script) == ["9"]
        assert await take(messages, 1) == ["2"]
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        assert len(asked_from(script)) == 3
