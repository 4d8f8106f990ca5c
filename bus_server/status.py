"""Translates domain errors to gRPC statuses, by one table."""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bus_server import errors

_Code = grpc.StatusCode

logger = logging.getLogger(__name__)

#: Each error's code and reason, the ErrorReason without its prefix. An error that has no reason is
#: sent without details, like the errors that gRPC creates when a connection breaks.
TABLE: dict[type[errors.BusError], tuple[grpc.StatusCode, str]] = {
    errors.ValidationFailed: (_Code.INVALID_ARGUMENT, "VALIDATION_FAILED"),
    errors.MessageTooLarge: (_Code.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE"),
    errors.ContentBlocked: (_Code.INVALID_ARGUMENT, "CONTENT_BLOCKED"),
    errors.TokenInvalid: (_Code.UNAUTHENTICATED, "TOKEN_INVALID"),
    errors.TokenExpired: (_Code.UNAUTHENTICATED, "TOKEN_EXPIRED"),
    errors.AccessDenied: (_Code.PERMISSION_DENIED, "ACCESS_DENIED"),
    errors.ThreadNotFound: (_Code.NOT_FOUND, "THREAD_NOT_FOUND"),
    errors.MessageNotFound: (_Code.NOT_FOUND, "MESSAGE_NOT_FOUND"),
    errors.AgentNotFound: (_Code.NOT_FOUND, "AGENT_NOT_FOUND"),
    errors.ServiceUnknown: (_Code.NOT_FOUND, ""),
    errors.MethodUnknown: (_Code.UNIMPLEMENTED, ""),
    errors.ThreadExists: (_Code.ALREADY_EXISTS, "THREAD_EXISTS"),
    errors.AgentExists: (_Code.ALREADY_EXISTS, "AGENT_EXISTS"),
    errors.RequestIdReused: (_Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.SeqConflict: (_Code.ABORTED, "SEQ_CONFLICT"),
    errors.ExpectedSeqRequired: (_Code.FAILED_PRECONDITION, "EXPECTED_SEQ_REQUIRED"),
    errors.ThreadClosed: (_Code.FAILED_PRECONDITION, "THREAD_CLOSED"),
    errors.CursorInvalid: (_Code.OUT_OF_RANGE, "CURSOR_INVALID"),
    errors.RateLimited: (_Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    errors.QuotaExceeded: (_Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    errors.StorageFull: (_Code.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
    errors.Draining: (_Code.UNAVAILABLE, "DRAINING"),
    errors.StoreBusy: (_Code.UNAVAILABLE, "STORE_BUSY"),
    errors.StoreFailed: (_Code.UNAVAILABLE, "STORE_FAILED"),
    errors.OutcomeUnknown: (_Code.UNAVAILABLE, ""),
    errors.Internal: (_Code.INTERNAL, "INTERNAL"),
}

#: gRPC limits all trailers of a call to about 8 KiB: the details must leave room for the message.
_DETAILS_BYTES = 5_000
_MESSAGE_CHARACTERS = 500

#: Seconds between two log entries for the same bug, and how many bugs are remembered.
_LOG_INTERVAL, _KNOWN_INCIDENTS = 60.0, 100


def to_status(error: errors.BusError) -> tuple[grpc.StatusCode, str, Sequence[tuple[str, bytes]]]:
    """Returns the status code, message and trailing metadata for an error.

    The message is cut to 500 characters. Details that do not fit are left out.
    """
    code, reason = TABLE[type(error)]
    message = str(error)[:_MESSAGE_CHARACTERS]
    if not reason:
        return code, message, ()
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=message)
    for detail in _details(error, reason):
        packed = any_pb2.Any()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() <= _DETAILS_BYTES:
            status.details.append(packed)
    return code, message, (("grpc-status-details-bin", status.SerializeToString()),)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: errors.BusError) -> NoReturn:
    """End a call with an error, by raising grpc's AbortError."""
    code, message, trailers = to_status(error)
    await context.abort(code, message, trailers)


@dataclass(slots=True)
class _Incident:
    number: str
    #: When the bug is logged again if it recurs, on the monotonic clock.
    log_again_at: float
    repeats: int = 0


_incidents: dict[object, _Incident] = {}


def incident(where: str, bug: Exception) -> errors.Internal:
    """Log a bug with its traceback. Returns the error to send, with the id of the log entry.

    A bug that recurs at the same place within a minute keeps its id, and is not logged again:
    clients retry, and their retries must not fill the disk.

    Args:
        where: the method that was called.
        bug: the exception, with its traceback.
    """
    place = bug.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    line = place and (place.tb_frame.f_code, place.tb_lineno)
    key, now = (where, type(bug), line), time.monotonic()
    known = _incidents.get(key)
    if known is not None and now < known.log_again_at:
        known.repeats += 1
        return errors.Internal(known.number)
    again = f", as {known.number}, which occurred {known.repeats} more times" if known else ""
    if len(_incidents) >= _KNOWN_INCIDENTS:
        _incidents.clear()
    _incidents[key] = known = _Incident(secrets.token_hex(4), now + _LOG_INTERVAL)
    logger.error("incident %s in %s%s", known.number, where, again, exc_info=bug)
    return errors.Internal(known.number)


def to_status_proto(error: errors.BusError) -> status_pb2.Status:
    """Returns an error's status, with its details, to send inside a response."""
    code, message, trailers = to_status(error)
    number: int = code.value[0]
    for _, packed in trailers:
        return status_pb2.Status.FromString(packed)
    return status_pb2.Status(code=number, message=message)


def _details(error: errors.BusError, reason: str) -> list[Message]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain="threadbus", metadata=error.metadata)
    ]
    if error.violations:
        violation = error_details_pb2.BadRequest.FieldViolation
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    violation(field=field, description=text)
                    for field, text in error.violations[:20]
                ]
            )
        )
    if error.retry_delay is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_delay * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    details += [
        error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)
        for kind, name in error.resources
    ]
    if error.quota:
        violated = error_details_pb2.QuotaFailure.Violation(
            subject=error.quota, description=str(error)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violated]))
    return details
