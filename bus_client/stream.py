"""The one loop around WaitMessages: open, read, come again, resume."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

import grpc.aio

from bus_client.calls import Calls
from bus_client.errors import (
    BusError,
    CursorLost,
    Draining,
    InternalError,
    ProtocolError,
    QuotaExceeded,
    Unavailable,
    Unreachable,
)
from bus_client.responses import WaitPosition, retry_delay, seconds
from bus_client.retry import Attempts, never_ending, no_answer
from bus_client.status import from_rpc_error
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageKind

_FIRST_FRAME = 20.0  # seconds for an open-ended wait to connect and to say `started`
_GRACE = 5.0  # seconds that the server may deliver after max_wait
_SILENCE = 2.5  # keepalive intervals without a frame after which the connection is dead
_KEEPALIVE, _KEEPALIVE_DEFAULT = (1.0, 300.0), 45.0  # seconds that the contract has servers grant
_RESYNC_REASONS = {
    number: name.removeprefix("REASON_") for name, number in WaitResync.Reason.items()
}
_KINDS = frozenset(MessageKind.values())


async def wait_frames(
    calls: Calls, request: WaitMessagesRequest, *, timeout: float | None = None
) -> AsyncGenerator[WaitMessagesResponse]:
    """The frames of a wait on one thread, across reconnects, until an ending that was asked for
    or a goodbye.

    Of all frames together each message comes once and in order; see WaitPosition. `request` is
    kept at the cursor of the last frame, and sent as it then is to resume. With a `timeout` in
    seconds the wait ends after it.

    Raises:
        ProtocolError: A frame breaks the contract.
        BusError: The call was refused; or, without a timeout, failed for a minute without
            progress, and not only for want of a connection; or, with one, when it was over
            nothing had come, it was not known that there is nothing, and the last attempt failed.
    """
    loop = asyncio.get_running_loop()
    deadline = math.inf if timeout is None else loop.time() + timeout
    attempts = Attempts(loop.time, deadline)
    position = WaitPosition(request)
    introduced = calls.introduced
    strange: BusError | None = None  # the server did not know our token any more
    try:
        async with asyncio.timeout_at(attempts.give_up if timeout is not None else None):
            await calls.learn_limits()
            goodbyes = await calls.goodbyes.count(None)
    except TimeoutError:
        raise no_answer() from None
    while True:
        rpc_timeout = None
        if deadline < math.inf:
            left = max(deadline - loop.time(), 0.0)
            request.max_wait.FromMicroseconds(int(left * 1e6))
            rpc_timeout = left + _GRACE
        patience = min(attempts.give_up - loop.time(), _FIRST_FRAME)
        delay = 0.0
        call = None
        try:
            if strange and not await calls.introduce_again(introduced, timeout=patience):
                raise strange
            introduced = calls.introduced
            ends = _ends(request)
            with calls.usable():
                call = calls.wait_messages(request, timeout=rpc_timeout)
                calls.goodbyes.opening(call)
            attempts.begin()
            while True:
                if loop.time() >= deadline + _GRACE:
                    raise never_ending()
                with calls.usable():
                    frame = await _read(call, patience)
                calls.goodbyes.opened(call)
                strange = None
                moved = position.advance(frame)
                request.threads[0].CopyFrom(position.cursor)
                if frame.HasField("started"):
                    patience = _SILENCE * _keepalive_interval(frame)
                delivered = any(message.kind in _KINDS for message in frame.messages.messages)
                idle = attempts.received(frame, moved=moved, delivered=delivered)
                yield frame
                if frame.HasField("ending"):
                    with calls.usable():
                        await _end(call)
                    if frame.ending.reason in ends:
                        return
                    delay = retry_delay(frame.ending.retry_delay)
                    attempts.failed(_ended_early(frame.ending))
                    break
                if idle:
                    await attempts.slow_down()
        except BusError as error:
            if error.reason == "TOKEN_INVALID" and strange is None:
                strange = error
            elif not _worth_coming_again(error):
                strange = None  # see bare()
                raise
            delay = error.retry_delay or 0.0
            attempts.failed(error)
        finally:
            if call is not None:
                call.cancel()
                calls.goodbyes.opened(call)
        await asyncio.sleep(attempts.pause(delay))
        with suppress(TimeoutError):
            until = attempts.give_up if timeout is not None else None
            if goodbyes != await calls.goodbyes.count(until):
                return  # coming again would take the goodbye back
        if attempts.is_over():
            attempts.end()
            return


def _ends(request: WaitMessagesRequest) -> set[WaitEnding.Reason.ValueType]:
    """The endings after which there is nothing to come again for: those that it asks for, too."""
    asked_for = {
        WaitEnding.REASON_MAX_MESSAGES: request.max_messages > 0,
        WaitEnding.REASON_MIN_MESSAGES: request.min_messages > 0,
        WaitEnding.REASON_MAX_WAIT: request.HasField("max_wait"),
    }
    final = {WaitEnding.REASON_THREADS_CLOSED, WaitEnding.REASON_SESSION_ENDED}
    return final | {reason for reason, asked in asked_for.items() if asked}


def _ended_early(ending: WaitEnding) -> Unavailable:
    """The error of a wait that the server ended before its time."""
    if ending.reason == WaitEnding.REASON_DRAINING:
        return Draining("The server is going away.", code="UNAVAILABLE", reason="DRAINING")
    return Unreachable("The server ended the wait before its time.", code="UNAVAILABLE")


def _keepalive_interval(frame: WaitMessagesResponse) -> float:
    granted = frame.started.keepalive_interval
    return seconds(granted, least=_KEEPALIVE[0], most=_KEEPALIVE[1], default=_KEEPALIVE_DEFAULT)


def cursor_of(frame: WaitMessagesResponse) -> Cursor | None:
    """Where to resume after `frame`; None if it moves no cursor."""
    match frame.WhichOneof("frame"):
        case "messages":
            return frame.messages.cursor
        case "caught_up":
            return frame.caught_up.cursor
        case "keepalive" if frame.keepalive.threads:
            return frame.keepalive.threads[0].cursor
        case "resync":
            return frame.resync.position.cursor
        case "ending" if frame.ending.threads:
            return frame.ending.threads[0].cursor
    return None


def cursor_lost(resync: WaitResync) -> CursorLost:
    """The exception that tells of a resync."""
    reason = _RESYNC_REASONS.get(resync.reason, str(resync.reason))
    position, requested = resync.position.cursor, resync.requested
    return CursorLost(
        f"Seq {requested.after_seq} is not in the history of thread {requested.thread!r} "
        f"({reason}); it goes on after seq {position.after_seq}.",
        reason=reason,
        position=position,
        requested=requested,
    )


def known(messages: Iterable[Message]) -> list[Message]:
    """Without the entries whose kind is newer than this client."""
    return [message for message in messages if message.kind in _KINDS]


async def _read(
    call: grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse], patience: float
) -> WaitMessagesResponse:
    try:
        async with asyncio.timeout(patience):
            frame = await call.read()
    except TimeoutError:
        raise Unreachable(f"No frame came for {patience:g} s.", code="DEADLINE_EXCEEDED") from None
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure) from None
    if frame is grpc.aio.EOF:
        raise Unreachable("The stream ended without an ending.", code="UNAVAILABLE")
    if not isinstance(frame, WaitMessagesResponse):
        raise ProtocolError("The server sent a frame that cannot be parsed.")
    return frame


async def _end(call: grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]) -> None:
    """Lets the call end by itself, which is imminent; cancelling it costs the server memory."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await call.code()


def _worth_coming_again(error: BusError) -> bool:
    if error.code == "RESOURCE_EXHAUSTED":
        return not isinstance(error, QuotaExceeded)
    return isinstance(error, (Unavailable, InternalError))
