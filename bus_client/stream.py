"""The one loop around WaitMessages: open, read, come again, resume."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from bus_client.calls import Calls, backoff
from bus_client.errors import (
    BusError,
    CursorLost,
    InternalError,
    QuotaExceeded,
    Unavailable,
    Unreachable,
)
from bus_client.status import from_rpc_error
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageKind

_FIRST_FRAME = 20.0  # seconds for an open-ended wait to connect and to say `started`
_CONNECT = 2.0  # seconds for a finite wait to do so, however short it is
_GRACE = 5.0  # seconds that the server may deliver after max_wait
_SILENCE = 2.5  # keepalive intervals without a frame after which the connection is dead
_ASKED_FOR = {
    WaitEnding.REASON_MAX_MESSAGES,
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_WAIT,
    WaitEnding.REASON_THREADS_CLOSED,
    WaitEnding.REASON_SESSION_ENDED,
}
_RESYNC_REASONS = {
    number: name.removeprefix("REASON_") for name, number in WaitResync.Reason.items()
}
_KINDS = frozenset(MessageKind.values())


async def wait_frames(
    calls: Calls, request: WaitMessagesRequest, *, timeout: float | None = None
) -> AsyncGenerator[WaitMessagesResponse]:
    """The frames of a wait on one thread, across reconnects, until an ending that was asked for
    or a goodbye.

    `request` is kept at the cursor of the last frame, and sent as it then is to resume. With a
    `timeout` in seconds the wait ends after it; BusError if the server was not reached by then.
    """
    loop = asyncio.get_running_loop()
    deadline = math.inf if timeout is None else loop.time() + timeout
    give_up = max(deadline, loop.time() + _CONNECT)
    no_answer = Unreachable("No answer came.", code="UNAVAILABLE")
    unreached: BusError | None = no_answer
    pauses = backoff(0.05, 2.0)
    introduced = calls.introduced
    strange: BusError | None = None  # the server did not know our token any more
    try:
        async with asyncio.timeout_at(give_up if give_up < math.inf else None):
            await calls.learn_limits()
            goodbyes = await calls.goodbyes.count(None)
    except TimeoutError:
        raise no_answer from None
    while True:
        rpc_timeout = None
        if deadline < math.inf:
            left = max(deadline - loop.time(), 0.0)
            request.max_wait.FromMicroseconds(int(left * 1e6))
            rpc_timeout = left + _GRACE
        patience = min(give_up - loop.time(), _FIRST_FRAME)
        retry_delay = 0.0
        call = None
        try:
            if strange and not await calls.introduce_again(introduced, timeout=patience):
                raise strange
            introduced = calls.introduced
            with calls.usable():
                call = calls.wait_messages(request, timeout=rpc_timeout)
                calls.goodbyes.opening(call)
            while True:
                with calls.usable():
                    frame = await _read(call, patience)
                calls.goodbyes.opened(call)
                unreached, give_up, pauses = None, deadline, backoff(0.05, 2.0)
                strange = None
                if frame.started.HasField("keepalive_interval"):
                    patience = _SILENCE * _seconds(frame.started.keepalive_interval)
                cursor = cursor_of(frame)
                if cursor is not None:
                    request.threads[0].CopyFrom(cursor)
                yield frame
                if frame.HasField("ending"):
                    with calls.usable():
                        await _end(call)
                    if frame.ending.reason in _ASKED_FOR:
                        return
                    retry_delay = _seconds(frame.ending.retry_delay)
                    break
        except BusError as error:
            if error.reason == "TOKEN_INVALID" and strange is None:
                strange = error
            elif not _worth_coming_again(error):
                raise
            retry_delay = error.retry_delay or 0.0
            if unreached is not None:
                unreached = error
        finally:
            if call is not None:
                call.cancel()
                calls.goodbyes.opened(call)
        await asyncio.sleep(min(max(next(pauses), retry_delay), give_up - loop.time()))
        with suppress(TimeoutError):
            if goodbyes != await calls.goodbyes.count(give_up if give_up < math.inf else None):
                return  # coming again would take the goodbye back
        if loop.time() >= give_up:
            if unreached is not None:
                raise unreached
            return


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
    if not isinstance(frame, WaitMessagesResponse):
        raise Unreachable("The stream ended without an ending.", code="UNAVAILABLE")
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


def _seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()
