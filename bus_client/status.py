"""The exceptions for gRPC statuses: by reason, else by a proxy's HTTP status, else by code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from bus_client.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    AlreadyExists,
    BusError,
    ContentBlocked,
    CursorInvalid,
    Draining,
    ExpectedSeqRequired,
    InternalError,
    InvalidArgument,
    MessageNotFound,
    MessageTooLarge,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RequestIdReused,
    SeqConflict,
    StorageFull,
    StoreBusy,
    StoreFailed,
    ThreadClosed,
    ThreadExists,
    ThreadNotFound,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from bus_client.responses import retry_delay

_BY_REASON: dict[str, type[BusError]] = {
    "VALIDATION_FAILED": InvalidArgument,
    "MESSAGE_TOO_LARGE": MessageTooLarge,
    "CONTENT_BLOCKED": ContentBlocked,
    "TOKEN_INVALID": Unauthenticated,
    "TOKEN_EXPIRED": TokenExpired,
    "ACCESS_DENIED": AccessDenied,
    "THREAD_NOT_FOUND": ThreadNotFound,
    "MESSAGE_NOT_FOUND": MessageNotFound,
    "AGENT_NOT_FOUND": AgentNotFound,
    "THREAD_EXISTS": ThreadExists,
    "AGENT_EXISTS": AgentExists,
    "REQUEST_ID_REUSED": RequestIdReused,
    "SEQ_CONFLICT": SeqConflict,
    "EXPECTED_SEQ_REQUIRED": ExpectedSeqRequired,
    "THREAD_CLOSED": ThreadClosed,
    "CURSOR_INVALID": CursorInvalid,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "RATE_LIMITED": RateLimited,
    "STORAGE_FULL": StorageFull,
    "DRAINING": Draining,
    "STORE_BUSY": StoreBusy,
    "STORE_FAILED": StoreFailed,
    "INTERNAL": InternalError,
}
# For statuses without a reason, or with one that is not in the table above.
_BY_CODE: dict[grpc.StatusCode, type[BusError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNKNOWN: InternalError,
}
# For statuses without a reason, which may come from gRPC itself. These precede _BY_CODE.
_WITHOUT_REASON: dict[grpc.StatusCode, type[BusError]] = {
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unreachable,
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MessageTooLarge,
}
# Matches grpc's message for an HTTP response that is not gRPC: a proxy sent it, not the server.
_HTTP = re.compile(r"Received http2 header with status: (\d{3})")
# A call is only sent over a connection: there is a server, or a proxy.
_LATE = "The server is busy, or its store does not answer: its health and its log say more."
_ASK_THE_PROXY = "Ask the operator of the proxy in front of the server."
# For HTTP statuses of a proxy: the exception, what happened, and the hint.
_BY_HTTP_STATUS: dict[int, tuple[type[BusError], str, str]] = {
    401: (
        Unauthenticated,
        "a proxy in front of the server requires authentication",
        "Pass a token that it accepts, or ask its operator.",
    ),
    403: (AccessDenied, "a proxy in front of the server does not permit this", _ASK_THE_PROXY),
    404: (
        BusError,
        "there is no ThreadBus server at this address, and no route to one",
        "Check the server's address, and the routes of the proxy in front of it.",
    ),
    408: (Unreachable, "a proxy in front of the server timed out", _ASK_THE_PROXY),
    413: (
        MessageTooLarge,
        "a proxy in front of the server does not accept requests as large as this",
        "Shorten the content, or let the proxy accept 4 MiB (nginx: client_max_body_size 4m).",
    ),
    429: (
        Unavailable,
        "a proxy in front of the server accepts no more calls for now",
        "Call less often, or ask the proxy's operator for a higher limit.",
    ),
}


def from_rpc_error(failure: grpc.aio.AioRpcError) -> BusError:
    """Returns the exception for the status of a failed call or stream."""
    details: Sequence[Any] = ()
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            with suppress(DecodeError):  # without details, the code decides
                details = Status.FromString(value).details
    return _error(failure.code(), failure.details() or "", details)


def from_status(status: Status) -> BusError:
    """Returns the exception for a status inside a response, such as that of a refused post."""
    code = next((c for c in grpc.StatusCode if c.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status.details)


def _error(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> BusError:
    info, refused, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in details:
        for known in (info, refused, retry):
            with suppress(DecodeError):
                detail.Unpack(known)  # no-op for another type
    reason = info.reason if info.domain == "threadbus" else ""
    if not reason and (http := _HTTP.search(message)):
        return _from_http_status(int(http[1]), code)
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, BusError)
    hint = None
    if not reason:
        kind = _WITHOUT_REASON.get(code, kind)
        hint = _LATE if code is grpc.StatusCode.DEADLINE_EXCEEDED else None
    return kind(
        message or code.name,
        code=code.name,
        reason=reason,
        metadata=info.metadata,
        field_violations=[(v.field, v.description) for v in refused.field_violations],
        retry_delay=(retry_delay(retry.retry_delay) if retry.HasField("retry_delay") else None),
        hint=hint,
    )


def token_refused(error: BusError) -> bool:
    """Returns whether the server refused the call's token: it expired, or is not known."""
    return error.reason in ("TOKEN_INVALID", "TOKEN_EXPIRED")


def refused_by_proxy(error: BusError) -> bool:
    """Returns whether a proxy refused the call, so that the server never saw it."""
    return "http_status" in error.metadata and not isinstance(error, (Unreachable, InternalError))


def _from_http_status(status: int, code: grpc.StatusCode) -> BusError:
    if status >= 500:
        kind = _WITHOUT_REASON.get(code, InternalError)
        what, hint = "a proxy in front of the server gets no response from it", _ASK_THE_PROXY
    else:
        usual = (BusError, "a proxy in front of the server refuses this", _ASK_THE_PROXY)
        kind, what, hint = _BY_HTTP_STATUS.get(status, usual)
    return kind(
        f"HTTP {status}: {what}.",
        code=code.name,
        metadata={"http_status": str(status)},
        hint=hint,
    )
