"""Refusals as callers see them: the status code and the google.rpc details.

Every refusal read here is checked against errors.proto: its code and its metadata keys must be
those that the contract names for the reason.
"""

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb2
from google.rpc import status_pb2

__all__ = ["CONTRACT", "Refusal", "read", "refused"]

_PROTO = Path(__file__).parents[1] / "protos/threadbus/v1/errors.proto"
_LISTED = re.compile(r"// \[(\w+)\](?: \{([\w, ]+)\})?.*\n +ERROR_REASON_(\w+) = ")

#: The status code and the keys of ErrorInfo.metadata of each reason, from errors.proto.
CONTRACT: Mapping[str, tuple[grpc.StatusCode, frozenset[str]]] = {
    reason: (grpc.StatusCode[code], frozenset(keys.split(", ") if keys else ()))
    for code, keys, reason in _LISTED.findall(_PROTO.read_text("utf-8"))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of a call. `reason` is empty where gRPC itself refused."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str]
    fields: Sequence[str]
    resources: Sequence[tuple[str, str]]
    retry_delay: float | None
    quotas: Sequence[str]
    details: Sequence[str]
    trailer_bytes: int


async def refused(call: Awaitable[object] | AsyncIterable[object]) -> Refusal:
    """Returns the refusal that ends this call, unary or streaming, within ten seconds."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async with asyncio.timeout(10):
            if isinstance(call, AsyncIterable):
                async for _ in call:
                    pass
            else:
                await call
    refusal = read(raised.value)
    if refusal.reason:
        assert (refusal.code, frozenset(refusal.metadata)) == CONTRACT[refusal.reason]
    return refusal


def read(error: grpc.aio.AioRpcError) -> Refusal:
    trailers = list(error.trailing_metadata() or ())
    message = error.details() or ""
    status = status_pb2.Status(code=error.code().value[0], message=message)
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
    assert (status.code, status.message) == (error.code().value[0], message)

    info, violations, retry_delay = details_pb2.ErrorInfo(), details_pb2.BadRequest(), None
    resources, quotas = [], []
    for packed in status.details:
        detail = getattr(details_pb2, packed.TypeName().rpartition(".")[2])()
        assert packed.Unpack(detail)
        match detail:
            case details_pb2.ErrorInfo():
                info = detail
                assert info.domain == "threadbus"
            case details_pb2.BadRequest():
                violations = detail
            case details_pb2.RetryInfo():
                retry_delay = detail.retry_delay.ToMilliseconds() / 1000
            case details_pb2.ResourceInfo():
                resources.append((detail.resource_type, detail.resource_name))
            case details_pb2.QuotaFailure():
                quotas += [violation.subject for violation in detail.violations]
    return Refusal(
        code=error.code(),
        message=message,
        reason=info.reason,
        metadata=dict(info.metadata),
        fields=[violation.field for violation in violations.field_violations],
        resources=resources,
        retry_delay=retry_delay,
        quotas=quotas,
        details=[packed.TypeName().rpartition(".")[2] for packed in status.details],
        trailer_bytes=sum(len(key) + len(value) + 32 for key, value in trailers) + len(message),
    )
