"""How a failed call becomes an exception: one table from reasons, and what to do without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc.aio
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from bus_client.errors import (
    AccessDenied,
    AgentExists,
    AgentNotFound,
    AlreadyExists,
    BusError,
    CursorInvalid,
    Draining,
    ExpectedSeqRequired,
    InternalError,
    InvalidArgument,
    MessageNotFound,
    MessageTooLarge,
    NotFound,
    QuotaExceeded,
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

_BY_REASON: dict[str, type[BusError]] = {
    "VALIDATION_FAILED": InvalidArgument,
    "MESSAGE_TOO_LARGE": MessageTooLarge,
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
    "STORAGE_FULL": StorageFull,
    "DRAINING": Draining,
    "STORE_BUSY": StoreBusy,
    "STORE_FAILED": StoreFailed,
    "INTERNAL": InternalError,
}
# For reasons newer than this table, and for statuses made by gRPC itself, which have none.
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
_BY_GRPC_ITSELF: dict[grpc.StatusCode, type[BusError]] = {
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unreachable,
    grpc.StatusCode.CANCELLED: Unreachable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: MessageTooLarge,
}


def from_rpc_error(failure: grpc.aio.AioRpcError) -> BusError:
    """The exception that stands for the status of a failed call."""
    details: Sequence[Any] = ()
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = Status.FromString(value).details
    return _error(failure.code(), failure.details() or "", details)


def from_status(status: Status) -> BusError:
    """The exception that stands for a status inside an answer."""
    code = next((c for c in grpc.StatusCode if c.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _error(code, status.message, status.details)


def _error(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> BusError:
    info, refused, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in details:
        for known in (info, refused, retry):
            detail.Unpack(known)  # leaves alone what is of another type
    reason = info.reason if info.domain == "threadbus" else ""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, BusError)
    if not reason:
        kind = _BY_GRPC_ITSELF.get(code, kind)
    return kind(
        message or code.name,
        code=code.name,
        reason=reason,
        metadata=info.metadata,
        field_violations=[(v.field, v.description) for v in refused.field_violations],
        retry_delay=(
            retry.retry_delay.ToTimedelta().total_seconds()
            if retry.HasField("retry_delay")
            else None
        ),
    )
