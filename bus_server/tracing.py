"""Spans by OpenTelemetry: of calls, of the commits of what they append, and of deliveries.

They belong to the trace of the call's `traceparent`. A call that appends without one begins a
trace. OpenTelemetry's variables say where spans are sent, and which:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from bus_server import __version__, logs, trace_context
from bus_server.store import Append, Appended, AppendMany, Command
from threadbus.v1.bus_service_pb2 import WaitMessagesResponse

logger = logging.getLogger(__name__)

_PROPAGATOR = TraceContextTextMapPropagator()
#: The methods that append entries: they begin a trace if the call continues none.
_APPENDING = frozenset(
    (
        *("/threadbus.v1.BusService/PostMessage", "/threadbus.v1.BusService/PostMessages"),
        *("/threadbus.v1.ThreadService/SetThreadState", "/threadbus.v1.ThreadService/UpdateThread"),
    )
)
#: The codes that say that the server failed, not its caller:
#: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
_FAILURES = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
#: Seconds to send the last spans when the server stops.
FLUSH_TIMEOUT = 2.0
#: Seconds that the exporter then gets to end: over gRPC it does at once, over HTTP it may not.
END_TIMEOUT = 1.0
#: How many waits have a span for a frame that they get: thousands may, on one event loop.
MAX_DELIVERIES = 100
#: Seconds between log lines about spans that cannot be sent: OpenTelemetry has one every few.
LOG_INTERVAL = 60.0


class _Seldom(logging.Handler):
    """Logs what OpenTelemetry says once in LOG_INTERVAL: a collector may be away for hours."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._next = -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOG_INTERVAL
            said = record.getMessage()
            logs.event(logger, logging.WARNING, "opentelemetry", "OpenTelemetry: %s", said)


class Tracing:
    """Makes the spans of a server, which an OS thread of OpenTelemetry sends.

    Use it on the event loop only. Spans have names of threads and agents, but no contents.
    """

    def __init__(self) -> None:
        """Raises ValueError if the variables name an exporter that is not installed."""
        resource = Resource.create({"service.version": __version__})
        if not OTELResourceDetector().detect().attributes.get("service.name"):
            resource = resource.merge(Resource({"service.name": "threadbus"}))
        self._exporter = _exporter()
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        library = logging.getLogger("opentelemetry")
        library.addHandler(_Seldom(logging.WARNING))
        library.propagate = False
        self._tracer = self._provider.get_tracer("threadbus", __version__)
        #: The last frame that was delivered, which many waits get, and what its spans have.
        self._frame: bytes = b""
        self._traced: Sequence[tuple[dict[str, AttributeValue], Context]] = ()
        #: How many waits got it so far.
        self._deliveries = 0

    def begin(self, path: str) -> Span | None:
        """Begin the span of the call that the current task handles; None: it is not traced.

        `path`: `/package.Service/Method`. Sets the task's span, and its traceparent if it has none.
        """
        traceparent = trace_context.traceparent.get()
        if not traceparent and path not in _APPENDING:
            return None
        name = path[1:]
        span = self._tracer.start_span(
            name,
            _context(traceparent) if traceparent else Context(),
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": name},
        )
        if not traceparent:
            trace_context.traceparent.set(_traceparent(span))
        if not span.is_recording():
            return None
        trace_context.span.set(span)
        return span

    def end(self, span: Span, agent: str, code: str, reason: str) -> None:
        """End the span of a call.

        Args:
            agent: the caller's name; empty: it is not known.
            code: the name of the call's status code.
            reason: the ErrorReason without its prefix; empty: none.
        """
        span.set_attribute("rpc.response.status_code", code)
        if agent:
            span.set_attribute("threadbus.agent", agent)
        if code != "OK":
            span.set_attribute("error.type", reason or code)
        if code in _FAILURES:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def committed(
        self,
        commands: Iterable[tuple[Command[Any], Span, Any]],
        begin: float,
        end: float,
        size: int,
    ) -> None:
        """Make the spans of the commands of a batch that belong to traces.

        Args:
            commands: these, each with the span of its call and its outcome.
            begin: when the store got the batch, on the monotonic clock.
            end: when it was committed.
            size: the number of all commands in the batch.
        """
        start, end_ns = _wall(begin), _wall(end)
        for command, span, outcome in commands:
            attributes: dict[str, AttributeValue] = {"threadbus.batch_commands": size}
            if isinstance(command, AppendMany):
                attributes["messaging.batch.message_count"] = len(command.posts)
            elif isinstance(command, Append) and isinstance(outcome, Appended):
                attributes |= _message(command.thread, outcome.seq)
            self._make("commit", set_span_in_context(span, Context()), attributes, start, end_ns)

    def delivered(self, frame: bytes, agent: str, committed: float) -> None:
        """Make the spans of the messages in a frame that was just written to a wait.

        Of waits that get the same frame one after the other, the first MAX_DELIVERIES have them.

        Args:
            frame: a WaitMessagesResponse with messages.
            agent: the caller of the wait; empty: it is anonymous.
            committed: when the first message was committed, on the monotonic clock; 0: another
                server committed it, and the spans begin as they end.
        """
        if frame is not self._frame:
            self._frame, self._traced, self._deliveries = frame, _traced(frame), 0
        self._deliveries += 1
        if not self._traced or self._deliveries > MAX_DELIVERIES:
            return
        now = time.time_ns()
        start = _wall(committed) if committed else now
        more: dict[str, AttributeValue] = {"threadbus.agent": agent} if agent else {}
        for attributes, context in self._traced:
            self._make("deliver", context, attributes | more, start, now)

    def close(self) -> None:
        """Send the last spans, for at most FLUSH_TIMEOUT, and stop. Blocks meanwhile.

        What is not sent by then is lost.
        """
        # OpenTelemetry's own timeout does not end what it sends.
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(FLUSH_TIMEOUT)
        if sending.is_alive():
            threading.Thread(target=self._exporter.shutdown, daemon=True).start()
            sending.join(END_TIMEOUT)

    def _make(
        self,
        name: str,
        parent: Context,
        attributes: dict[str, AttributeValue],
        start: int,
        end: int,
    ) -> None:
        span = self._tracer.start_span(name, parent, attributes=attributes, start_time=start)
        span.end(end)


def _wall(moment: float) -> int:
    """Returns a time of the monotonic clock in nanoseconds since the Unix epoch."""
    return time.time_ns() - round((time.monotonic() - moment) * 1e9)


def _exporter() -> Any:
    """Returns the exporter of spans that OpenTelemetry's variables name. Raises ValueError."""
    name = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if name == "otlp":
        name = "otlp_proto_http" if protocol == "http/protobuf" else "otlp_proto_grpc"
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        remedy = (
            "install opentelemetry-exporter-otlp-proto-http"
            if name == "otlp_proto_http"
            else "OTEL_TRACES_EXPORTER can be otlp or console"
        )
        raise ValueError(f"OpenTelemetry's exporter {name} is not installed: {remedy}")
    return found[0].load()()


def _context(traceparent: str) -> Context:
    """Returns the context of spans whose parent has a valid traceparent."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def _traceparent(span: Span) -> str:
    """Returns a span's traceparent; empty if it is of no trace, as OTEL_SDK_DISABLED has it."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def _traced(frame: bytes) -> list[tuple[dict[str, AttributeValue], Context]]:
    """Returns the names of the messages in a frame that belong to sampled traces, and these."""
    return [
        (_message(message.thread, message.seq), _context(message.traceparent))
        for message in WaitMessagesResponse.FromString(frame).messages.messages
        if trace_context.is_sampled(message.traceparent)
    ]


def _message(thread: str, seq: int) -> dict[str, AttributeValue]:
    """Returns the attributes that name a message."""
    return {
        "messaging.system": "threadbus",
        "messaging.destination.name": thread,
        "messaging.message.id": str(seq),
    }
