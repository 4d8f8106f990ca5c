"""The loop around WaitMessages: open a stream, read its frames, reconnect, resume."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import suppress
from typing import TypeAlias

import grpc.aio

from bus_client.calls import Calls
from bus_client.errors import (
    BusError,
    CursorLost,
    Draining,
    InternalError,
    ProtocolError,
    QuotaExceeded,
    TlsFailed,
    Unavailable,
    Unreachable,
)
from bus_client.read_limit import ReadLimit
from bus_client.responses import (
    WaitPosition,
    WaitPositions,
    bounded_seconds,
    filters,
    retry_delay,
)
from bus_client.retry import WaitRetry, backoff, never_ended, no_answer
from bus_client.status import from_rpc_error, token_refused
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
)
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    WAKE_NOBODY,
    Cursor,
    Message,
    MessageKind,
    Notice,
)

_FIRST_FRAME_TIMEOUT = 20.0  # maximum seconds for a stream to connect and to send `started`
_SEARCH_TIMEOUT = 1.0  # maximum seconds to find out whether TLS is why a stream failed
_GRACE = 5.0  # seconds past max_wait in which the server may still deliver
_MISSED_KEEPALIVES = 2.5  # keepalive intervals without a frame after which a stream counts as dead
_CLOSED_PAUSES = 0.05, 10.0  # seconds between two looks whether a thread is open again
_KEEPALIVE, _KEEPALIVE_DEFAULT = (1.0, 300.0), 45.0  # seconds: the contract's range and default
_RESYNC_REASONS = {
    number: name.removeprefix("REASON_") for name, number in WaitResync.Reason.items()
}
#: The reason of CursorLost if the messages that follow are not kept any more.
COMPACTED = _RESYNC_REASONS[WaitResync.REASON_COMPACTED]
_KNOWN_KINDS = frozenset(MessageKind.values())
#: The reasons of notices that this version of the SDK knows.
KNOWN_NOTICES = frozenset(Notice.Reason.values()) - {Notice.REASON_UNSPECIFIED}

_Call: TypeAlias = "grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]"


async def wait_frames(
    calls: Calls,
    request: WaitMessagesRequest,
    *,
    timeout: float | None = None,
    until_closed: bool = True,
) -> AsyncGenerator[WaitMessagesResponse]:
    """Yields the checked frames of a wait, across reconnects.

    Ends after an `ending` frame that completes the request, when `timeout` is over, or when this
    client has ended the agent's session, unless it observes. Each message comes once and in order;
    see WaitPosition.

    Args:
        calls: The client's calls.
        request: The request. Its cursors are updated for each stream. Changes by the caller between
            two frames are sent with the next stream.
        timeout: Seconds. None = no limit.
        until_closed: False = go on when the threads are opened again.

    Raises:
        ProtocolError: A frame breaks the contract.
        BusError: The call was refused. Or, without a timeout: it has failed for a minute without
            progress, although a server could answer. Or, with a timeout: the time is over, the last
            stream failed, nothing was delivered, and the end of the thread was not reached.
        RuntimeError: The client was closed, or the process was forked.
    """
    loop = asyncio.get_running_loop()
    deadline = math.inf if timeout is None else loop.time() + timeout
    retry = WaitRetry(loop.time, deadline)
    closed_pauses = backoff(*_CLOSED_PAUSES)
    position = _positions(request)
    token_version = calls.token_version
    # The error of the last stream if the server refused its token.
    refused: BusError | None = None
    register = True  # once for each refusal, until the next frame
    try:
        async with asyncio.timeout_at(retry.retry_until if timeout is not None else None):
            await calls.learn_limits()
            generation = await calls.session_generation.current(None)
    except TimeoutError:
        raise no_answer() from None
    while True:
        rpc_timeout = None
        if deadline < math.inf:
            left = max(deadline - loop.time(), 0.0)
            request.max_wait.FromMicroseconds(int(left * 1e6))
            rpc_timeout = left + _GRACE
        frame_timeout = min(retry.retry_until - loop.time(), _FIRST_FRAME_TIMEOUT)
        delay = 0.0
        call = limit = None
        try:
            if refused is not None:
                why = await calls.reauthenticate(
                    refused, token_version, register=register, timeout=frame_timeout
                )
                if why is None:
                    raise refused
                refused, register = None, register and why == "replaced"
            token_version = calls.token_version
            final = _final_reasons(request)
            position.resume(request)
            with calls.stream_errors():
                call = calls.wait_messages(request, timeout=rpc_timeout)
                calls.session_generation.wait_sent(call)
            limit = ReadLimit(call)
            retry.stream_opened()
            while True:
                if loop.time() >= deadline + _GRACE:
                    raise never_ended()
                with calls.stream_errors():
                    frame = await _read(call, limit, frame_timeout)
                calls.session_generation.wait_answered(call)
                register = True
                moved = position.advance(frame)
                if moved:
                    closed_pauses = backoff(*_CLOSED_PAUSES)
                if frame.HasField("started"):
                    frame_timeout = _MISSED_KEEPALIVES * _keepalive_interval(frame)
                # A long poll does not return what wakes nobody without anything that does.
                all_count = request.count_all or not request.min_messages
                delivered = any(
                    m.kind in _KNOWN_KINDS and (all_count or m.wakes != WAKE_NOBODY)
                    for m in frame.messages.messages
                )
                idle = retry.frame_received(frame, moved=moved, delivered=delivered)
                yield frame
                if frame.HasField("ending"):
                    with calls.stream_errors():
                        await _finish(call)
                    closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    if frame.ending.reason in final and (until_closed or not closed):
                        return
                    delay = retry_delay(frame.ending.retry_delay)
                    if closed:
                        delay = next(closed_pauses)
                    retry.stream_failed(_ended_early(frame.ending))
                    break
                if idle:
                    await retry.throttle(len(request.threads))
        except BusError as error:
            if refused is None and token_refused(error):
                refused = error
            elif not _is_retryable(error):
                refused = None  # it would be in a reference cycle: see strip_traceback()
                raise
            if isinstance(error, Unreachable):
                left = retry.retry_until - loop.time()
                await calls.raise_tls_fault(max(0.0, min(left, _SEARCH_TIMEOUT)))
            delay = error.retry_delay or 0.0
            retry.stream_failed(error)
        finally:
            if limit is not None:
                limit.close()
            if call is not None:
                call.cancel()
                calls.session_generation.wait_answered(call)
        await asyncio.sleep(retry.next_pause(delay))
        with suppress(TimeoutError):
            until = retry.retry_until if timeout is not None else None
            current = await calls.session_generation.current(until)
            if generation != current and not request.observe:
                return  # the session was ended: another stream would start a new one
        if retry.expired():
            retry.raise_if_unread()
            return


def _positions(request: WaitMessagesRequest) -> WaitPosition | WaitPositions:
    if request.all_my_threads or len(request.threads) != 1:
        return WaitPositions(request)
    return WaitPosition(request.threads[0], filtered=filters(request.filter))


def _final_reasons(request: WaitMessagesRequest) -> set[WaitEnding.Reason.ValueType]:
    """Returns the reasons of an `ending` frame that complete the wait; others interrupt it."""
    requested = {
        WaitEnding.REASON_MAX_MESSAGES: request.max_messages > 0,
        WaitEnding.REASON_MIN_MESSAGES: request.min_messages > 0,
        WaitEnding.REASON_MAX_WAIT: request.HasField("max_wait"),
        WaitEnding.REASON_MAX_BYTES: request.max_bytes > 0,
    }
    always = {WaitEnding.REASON_THREADS_CLOSED, WaitEnding.REASON_SESSION_ENDED}
    return always | {reason for reason, wanted in requested.items() if wanted}


def _ended_early(ending: WaitEnding) -> Unavailable:
    """Returns the error for a stream that the server ended before the wait was over."""
    if ending.reason == WaitEnding.REASON_DRAINING:
        return Draining("The server is shutting down.", code="UNAVAILABLE", reason="DRAINING")
    return Unreachable("The server ended the wait too early.", code="UNAVAILABLE")


def _keepalive_interval(frame: WaitMessagesResponse) -> float:
    granted = frame.started.keepalive_interval
    least, most = _KEEPALIVE
    return bounded_seconds(granted, least=least, most=most, default=_KEEPALIVE_DEFAULT)


def cursors_of(frame: WaitMessagesResponse) -> list[Cursor]:
    """Returns the cursors to resume from after `frame`, of the threads that it is about."""
    match frame.WhichOneof("frame"):
        case "messages":
            return [frame.messages.cursor]
        case "caught_up" if frame.caught_up.HasField("cursor"):
            return [frame.caught_up.cursor]
        case "keepalive" | "ending" as kind:
            return [position.cursor for position in getattr(frame, kind).threads]
        case "resync":
            return [frame.resync.position.cursor]
    return []


def cursor_lost(resync: WaitResync) -> CursorLost | None:
    """Returns the exception for a resync frame; None if both histories are the same up to there."""
    reason = _RESYNC_REASONS.get(resync.reason, str(resync.reason))
    position, requested = resync.position.cursor, resync.requested
    if position.after_seq == requested.after_seq > 0:
        return None
    if resync.reason == WaitResync.REASON_COMPACTED:
        first, last = requested.after_seq + 1, position.after_seq
        gone = f"Message {first}" if first == last else f"Messages {first} to {last}"
        are = "is" if first == last else "are"
        what = f"{gone} of thread {requested.thread!r} {are} not kept any more."
    else:
        what = (
            f"Seq {requested.after_seq} is not in the history of thread {requested.thread!r} "
            f"({reason})."
        )
    return CursorLost(
        f"{what} Reading continues after seq {position.after_seq}.",
        reason=reason,
        position=position,
        requested=requested,
    )


def known_kinds(messages: Iterable[Message]) -> list[Message]:
    """Returns the messages whose kinds this version of the SDK knows."""
    return [message for message in messages if message.kind in _KNOWN_KINDS]


def given(
    calls: Calls, batch: MessageBatch, *, include_own: bool, all_notices: bool = False
) -> Iterator[Message]:
    """Yields the messages of a batch that a client is given.

    Left out are kinds that this version of the SDK does not know; unless `all_notices`, notices for
    other agents or with reasons that it does not know; and unless `include_own`, what ask() has
    told.
    """
    thread, epoch = batch.cursor.thread, batch.cursor.epoch
    for message in known_kinds(batch.messages):
        if not (
            all_notices
            or message.kind != MESSAGE_KIND_NOTICE
            or (calls.agent in message.mentions and message.notice.reason in KNOWN_NOTICES)
        ):
            continue
        if include_own or not calls.taken.has(thread, epoch, message.seq):
            yield message


async def _read(call: _Call, limit: ReadLimit, timeout: float) -> WaitMessagesResponse:
    """Returns the next frame, not yet checked. Raises BusError if the stream failed or ended."""
    before = _cancellations()
    limit.begin(timeout)
    try:
        frame = await call.read()
    except asyncio.CancelledError:
        if limit.exceeded and _cancellations() == before:
            raise Unreachable(
                f"The server sent nothing for {round(timeout, 1):g} s.", code="DEADLINE_EXCEEDED"
            ) from None
        raise
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure) from None
    finally:
        limit.end()
    if frame is grpc.aio.EOF:
        raise Unreachable("The stream ended without an ending.", code="UNAVAILABLE")
    if not isinstance(frame, WaitMessagesResponse):
        raise ProtocolError("The server sent a frame that cannot be parsed.")
    return frame


def _cancellations() -> int:
    """Returns how often the current task was cancelled, without those taken back."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def _finish(call: _Call) -> None:
    """Wait for the status that follows an `ending` frame, for at most 1 s.

    Cancelling the call instead would cost memory in the server.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await call.code()


def _is_retryable(error: BusError) -> bool:
    if error.code == "RESOURCE_EXHAUSTED":
        return not isinstance(error, QuotaExceeded)
    return isinstance(error, (Unavailable, InternalError)) and not isinstance(error, TlsFailed)
