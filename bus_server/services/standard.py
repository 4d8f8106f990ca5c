"""gRPC's own services, health and reflection, behind the same gate as ours.

Added the way grpcio has it, they would read requests of any length, and any number at a time.
"""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from bus_server.budget import Budget
from bus_server.errors import BusError, QuotaExceeded, ValidationFailed
from bus_server.services import reflection
from bus_server.services.descriptors import Descriptors
from bus_server.services.outlet import Outlet
from bus_server.services.request_reader import Context, PendingReads, RequestReader
from bus_server.status import abort

_HEALTH = "grpc.health.v1.Health"
#: HealthCheckResponse.ServingStatus.
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3

#: Open streams of these services, over all callers. Each costs about 30 KB.
MAX_STREAMS = 2_000
#: Bytes of a request: there are names in it. An open Watch keeps it, and a response of reflection
#: holds it.
MAX_REQUEST_BYTES = 16 * 1024


class Health:
    """The status of the services, as in gRPC's health protocol.

    grpcio's servicer holds a lock while it writes: one caller that does not read its Watch kept all
    others waiting, and the server from stopping.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services`: those that are served from now on; the empty one is the server."""
        self._serving = dict.fromkeys(services, True)
        #: Set when one of them changes, and another one put in its place.
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Report every service as SERVING or not, and wake all watches if that is new."""
        if serving == self._serving[""]:
            return
        self._serving = dict.fromkeys(self._serving, serving)
        self._changed.set()
        self._changed = asyncio.Event()

    def status(self, service: str) -> int | None:
        """Returns the ServingStatus of a service, None if it is unknown."""
        serving = self._serving.get(service)
        if serving is None:
            return None
        return _SERVING if serving else _NOT_SERVING

    def all(self) -> Mapping[str, int]:
        """Returns the ServingStatus of each service."""
        return {name: _SERVING if on else _NOT_SERVING for name, on in self._serving.items()}

    async def statuses(self, service: str) -> AsyncIterator[int]:
        """Yields the ServingStatus of a service, and each new one until closed."""
        told = None
        while True:
            changed, status = self._changed, self.status(service)
            if status is None:
                status = _SERVICE_UNKNOWN
            if status != told:
                yield status
            told = status
            await changed.wait()


class StandardServices:
    """Health and reflection, for anybody: neither needs a token."""

    def __init__(
        self, pending_reads: PendingReads, unread: Budget, services: Sequence[str]
    ) -> None:
        """`services`: full names of those that reflection tells of, beside these two."""
        self._pending = pending_reads
        self._unread = unread
        self._streams = 0
        self.health = Health(["", *services])
        descriptors = Descriptors.shipped()
        names = [*services, _HEALTH, *reflection.SERVICES]
        self._reflection = reflection.Reflection(descriptors, names)
        self._check_request = descriptors.message_class("grpc.health.v1.HealthCheckRequest")
        self._check_response = descriptors.message_class("grpc.health.v1.HealthCheckResponse")
        self._list_request = descriptors.message_class("grpc.health.v1.HealthListRequest")
        self._list_response = descriptors.message_class("grpc.health.v1.HealthListResponse")

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the method's path."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            f"/{_HEALTH}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"/{_HEALTH}/List": grpc.stream_unary_rpc_method_handler(self._list),
            f"/{_HEALTH}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }
        for service in reflection.SERVICES:
            handlers[f"/{service}/ServerReflectionInfo"] = grpc.stream_stream_rpc_method_handler(
                self._reflect
            )
        return handlers

    async def _check(self, _: object, context: Context) -> bytes:
        try:
            request = await self._only(self._check_request, context)
        except BusError as refusal:
            error = refusal.without_traceback()
        else:
            status = self.health.status(request.service)
            if status is not None:
                answer: bytes = self._check_response(status=status).SerializeToString()
                return answer
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service}")
        return await abort(context, error)

    async def _list(self, _: object, context: Context) -> bytes:
        try:
            await self._only(self._list_request, context)
        except BusError as refusal:
            error = refusal.without_traceback()
        else:
            response = self._list_response()
            for service, status in self.health.all().items():
                response.statuses[service].status = status
            answer: bytes = response.SerializeToString()
            return answer
        return await abort(context, error)

    async def _watch(self, _: object, context: Context) -> None:
        try:
            with self._open_stream():
                request = await self._only(self._check_request, context)
                async for status in self.health.statuses(request.service):
                    response = self._check_response(status=status)
                    await context.write(response.SerializeToString())
        except BusError as refusal:
            error = refusal.without_traceback()
        await abort(context, error)

    async def _reflect(self, _: object, context: Context) -> None:
        reader = RequestReader(self._pending, context, context.peer(), stream=True)
        outlet = Outlet(self._unread, context.peer(), context.write)
        try:
            with self._open_stream():
                sent = set[str]()
                async for request in self._each(self._reflection.request_class, reader):
                    response = self._reflection.respond(request, sent)
                    await outlet.send(response.SerializeToString())
            return
        except BusError as refusal:
            error = refusal.without_traceback()
        finally:
            reader.close()
            outlet.close()
        await abort(context, error)

    async def _only(self, kind: type[Message], context: Context) -> Any:
        reader = RequestReader(self._pending, context, context.peer())
        try:
            return _parse(kind, await reader.receive())
        finally:
            reader.close()

    async def _each(self, kind: type[Message], reader: RequestReader) -> AsyncIterator[Any]:
        while (data := await reader.receive()) is not None:
            yield _parse(kind, data)
            reader.handled(len(data))

    @contextlib.contextmanager
    def _open_stream(self) -> Iterator[None]:
        if self._streams >= MAX_STREAMS:
            raise QuotaExceeded(
                "open streams of health and reflection", MAX_STREAMS, "end some, or call Check"
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


def _parse(kind: type[Message], data: bytes | None) -> Message:
    if data is None:
        raise ValidationFailed(("", "the call carries no request"))
    if len(data) > MAX_REQUEST_BYTES:
        raise ValidationFailed(("", f"at most {MAX_REQUEST_BYTES:,} bytes"))
    try:
        request = kind.FromString(data)
    except DecodeError:
        raise ValidationFailed(("", f"the bytes are no {kind.DESCRIPTOR.full_name}")) from None
    # Reflection's responses hold the request: with what is nested in unknown fields they would be
    # nested deeper than parsers allow.
    request.DiscardUnknownFields()
    return request
