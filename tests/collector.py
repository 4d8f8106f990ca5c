"""A collector of OpenTelemetry's spans, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.polling import until


@dataclass(frozen=True)
class Spanned:
    """A span that was received."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    start: int
    """In nanoseconds since the Unix epoch, as `end`."""
    end: int

    @property
    def ids(self) -> str:
        """A traceparent's part that names it: without version and flags."""
        return f"{self.trace}-{self.id}"


def ids(traceparent: str) -> str:
    """Returns the part of a traceparent that names a span."""
    _, trace, span, _ = traceparent.split("-")
    return f"{trace}-{span}"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that programs send to it."""

    def __init__(self) -> None:
        self.port = 0
        self.spans: list[Spanned] = []
        #: What was sent, as text.
        self.text = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program sends its spans here, soon after they end."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.text += str(request)
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_spanned(service, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    async def named(self, name: str, count: int = 1) -> list[Spanned]:
        """Wait until there are so many spans with this name, and return them."""
        await until(lambda: len(self._named(name)) >= count)
        found = self._named(name)
        assert len(found) == count, found
        return found

    def _named(self, name: str) -> list[Spanned]:
        return [span for span in self.spans if span.name == name]

    def below(self, span: Spanned) -> list[Spanned]:
        """Returns the children of a span."""
        return [each for each in self.spans if (each.trace, each.parent) == (span.trace, span.id)]


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens on a free port."""
    server, collector = grpc.aio.server(), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        collector, server
    )
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def _spanned(service: str, span: trace_pb2.Span) -> Spanned:
    return Spanned(
        service=service,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )
