"""gRPC's own services, health and reflection, behind the same gate as ours.

Added the way grpcio has it, they would read requests of any length, and any number at a time.
"""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from bus_server.budget import Budget
from bus_server.errors import BusError, QuotaExceeded, ValidationFailed
from bus_server.services.arrivals import Arrival, Arrivals, Context
from bus_server.services.outlet import Outlet
from bus_server.status import abort

#: Open streams of these services, over all callers. Each costs about 30 KB.
MAX_STREAMS = 2_000
#: Bytes of a request: there are names in it. An open Watch keeps it, and a response of reflection
#: holds it.
MAX_REQUEST_BYTES = 16 * 1024


class Standard:
    """Health and reflection, for anybody: neither needs a token."""

    def __init__(self, arrivals: Arrivals, unread: Budget, services: Sequence[str]) -> None:
        """`services`: full names of those that reflection tells of, beside these two."""
        self._arrivals = arrivals
        self._unread = unread
        self._streams = 0
        self.health = health.aio.HealthServicer()
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._reflection = reflection.aio.ReflectionServicer(names)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the method's path."""
        return {
            f"/{health.SERVICE_NAME}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"/{health.SERVICE_NAME}/Watch": grpc.stream_stream_rpc_method_handler(
                self._watch, response_serializer=HealthCheckResponse.SerializeToString
            ),
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": (
                grpc.stream_stream_rpc_method_handler(self._reflect)
            ),
        }

    async def _check(self, _: object, context: Context) -> bytes:
        try:
            request = await self._only(HealthCheckRequest, context)
        except BusError as refusal:
            error = refusal.without_traceback()
        else:
            response = await self.health.Check(request, context)
            return bytes(response.SerializeToString())
        return await abort(context, error)

    async def _watch(self, _: object, context: Context) -> None:
        try:
            with self._open_stream():
                request = await self._only(HealthCheckRequest, context)
                await self.health.Watch(request, context)
            return
        except BusError as refusal:
            error = refusal.without_traceback()
        await abort(context, error)

    async def _reflect(self, _: object, context: Context) -> None:
        arrival = Arrival(self._arrivals, context, context.peer(), stream=True)
        outlet = Outlet(self._unread, context.peer(), context.write)
        try:
            with self._open_stream():
                requests = self._each(ServerReflectionRequest, arrival)
                async for response in self._reflection.ServerReflectionInfo(requests, context):
                    await outlet.send(response.SerializeToString())
            return
        except BusError as refusal:
            error = refusal.without_traceback()
        finally:
            arrival.close()
            outlet.close()
        await abort(context, error)

    async def _only(self, kind: type[Message], context: Context) -> Any:
        arrival = Arrival(self._arrivals, context, context.peer())
        try:
            return _parse(kind, await arrival.receive())
        finally:
            arrival.close()

    async def _each(self, kind: type[Message], arrival: Arrival) -> AsyncIterator[Any]:
        while (data := await arrival.receive()) is not None:
            yield _parse(kind, data)
            arrival.handled(len(data))

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
