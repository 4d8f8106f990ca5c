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

    def status(self, service: str) -> HealthCheckResponse.ServingStatus.ValueType | None:
        """Returns the status of a service, None if it is unknown."""
        serving = self._serving.get(service)
        if serving is None:
            return None
        return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING

    async def statuses(
        self, service: str
    ) -> AsyncIterator[HealthCheckResponse.ServingStatus.ValueType]:
        """Yields the status of a service, and each new status until closed."""
        told = None
        while True:
            changed, status = self._changed, self.status(service)
            if status is None:
                status = HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield status
            told = status
            await changed.wait()


class Standard:
    """Health and reflection, for anybody: neither needs a token."""

    def __init__(self, arrivals: Arrivals, unread: Budget, services: Sequence[str]) -> None:
        """`services`: full names of those that reflection tells of, beside these two."""
        self._arrivals = arrivals
        self._unread = unread
        self._streams = 0
        self.health = Health(["", *services])
        names = [*services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._reflection = reflection.aio.ReflectionServicer(names)

    def handlers(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """By the method's path."""
        return {
            f"/{health.SERVICE_NAME}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"/{health.SERVICE_NAME}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
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
            status = self.health.status(request.service)
            if status is not None:
                answer: bytes = HealthCheckResponse(status=status).SerializeToString()
                return answer
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service}")
        return await abort(context, error)

    async def _watch(self, _: object, context: Context) -> None:
        try:
            with self._open_stream():
                request = await self._only(HealthCheckRequest, context)
                async for status in self.health.statuses(request.service):
                    response = HealthCheckResponse(status=status)
                    await context.write(response.SerializeToString())
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
