"""gRPC's health and reflection services, with limits.

grpcio's implementations read requests of any size, and any number of them at a time.
"""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message

from bus_server.errors import QuotaExceeded, ServiceUnknown, ValidationFailed
from bus_server.services import reflection
from bus_server.services.call import Call, Method
from bus_server.services.descriptors import Descriptors
from bus_server.services.request_reader import RequestReader

_HEALTH = "grpc.health.v1.Health"
#: HealthCheckResponse.ServingStatus.
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3

#: Maximum number of open streams of these services, over all callers. Each costs about 30 KB.
MAX_STREAMS = 2_000
#: Maximum bytes of a request, which holds names. An open Watch keeps its request, and a reflection
#: response contains it.
MAX_REQUEST_BYTES = 16 * 1024


class Health:
    """The status of each service, as in gRPC's health protocol.

    grpcio's servicer holds a lock while it writes: one client that does not read its Watch blocks
    all others, and the shutdown.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services`: names of the services, SERVING at first. One must be "": the whole server."""
        self._serving = dict.fromkeys(services, True)
        #: Set, and replaced by a new event, when a status changes.
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Set every service to SERVING or NOT_SERVING. Wakes all watches if that changes."""
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
        """Yields the ServingStatus of a service, then each new one, without end.

        SERVICE_UNKNOWN if the service is unknown.
        """
        reported = None
        while True:
            changed, status = self._changed, self.status(service)
            if status is None:
                status = _SERVICE_UNKNOWN
            if status != reported:
                yield status
            reported = status
            await changed.wait()


class StandardServices:
    """The services for health and reflection. Neither needs a token."""

    def __init__(self, services: Sequence[str]) -> None:
        """`services`: full names of the other services that health and reflection report."""
        self._streams = 0
        self.health = Health(["", *services])
        descriptors = Descriptors.shipped()
        names = [*services, _HEALTH, *reflection.SERVICES]
        self._reflection = reflection.Reflection(descriptors, names)
        self._check_request = descriptors.message_class("grpc.health.v1.HealthCheckRequest")
        self._check_response = descriptors.message_class("grpc.health.v1.HealthCheckResponse")
        self._list_request = descriptors.message_class("grpc.health.v1.HealthListRequest")
        self._list_response = descriptors.message_class("grpc.health.v1.HealthListResponse")

    def methods(self) -> Sequence[Method]:
        """Returns the methods to serve."""
        return [
            Method(f"/{_HEALTH}/Check", self._check),
            Method(f"/{_HEALTH}/List", self._list),
            Method(f"/{_HEALTH}/Watch", self._watch, streaming=True),
            *(
                Method(f"/{service}/ServerReflectionInfo", self._reflect, True, True)
                for service in reflection.SERVICES
            ),
        ]

    async def _check(self, call: Call) -> bytes:
        request = await self._read_request(self._check_request, call)
        status = self.health.status(request.service)
        if status is None:
            raise ServiceUnknown(request.service)
        response: bytes = self._check_response(status=status).SerializeToString()
        return response

    async def _list(self, call: Call) -> bytes:
        await self._read_request(self._list_request, call)
        response = self._list_response()
        for service, status in self.health.all().items():
            response.statuses[service].status = status
        serialized: bytes = response.SerializeToString()
        return serialized

    async def _watch(self, call: Call) -> None:
        with self._open_stream():
            request = await self._read_request(self._check_request, call)
            async for status in self.health.statuses(request.service):
                response = self._check_response(status=status)
                call.counted.sent += 1
                await call.context.write(response.SerializeToString())

    async def _reflect(self, call: Call) -> None:
        reader = call.reader(call.context.peer(), stream=True)
        frames = call.frames(call.context.peer())
        with self._open_stream():
            sent = set[str]()
            async for request in self._read_requests(self._reflection.request_class, reader):
                response = self._reflection.respond(request, sent)
                await frames.send(response.SerializeToString())

    async def _read_request(self, kind: type[Message], call: Call) -> Any:
        """Returns the only request of a call, parsed.

        Raises ValidationFailed if it is missing or invalid, and StoreBusy if it does not arrive in
        time or exceeds the byte budget of requests.
        """
        request = _parse(kind, await call.reader(call.context.peer()).receive())
        call.release_request()
        return request

    async def _read_requests(
        self, kind: type[Message], reader: RequestReader
    ) -> AsyncIterator[Any]:
        """Yields the requests of a stream, parsed. Raises what `_read_request` raises."""
        while (data := await reader.receive()) is not None:
            yield _parse(kind, data)
            reader.handled(len(data))

    @contextlib.contextmanager
    def _open_stream(self) -> Iterator[None]:
        """Count a stream while it is open (context manager). Raises QuotaExceeded."""
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
    """Returns a parsed request, without unknown fields. Raises ValidationFailed."""
    if data is None:
        raise ValidationFailed(("", "the call carries no request"))
    if len(data) > MAX_REQUEST_BYTES:
        raise ValidationFailed(("", f"at most {MAX_REQUEST_BYTES:,} bytes"))
    try:
        request = kind.FromString(data)
    except DecodeError:
        raise ValidationFailed(
            ("", f"the bytes are not a valid {kind.DESCRIPTOR.full_name}")
        ) from None
    # Reflection's responses contain the request: with nested unknown fields they would be nested
    # deeper than parsers allow.
    request.DiscardUnknownFields()
    return request
