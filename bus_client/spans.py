"""Spans of what the SDK posts and receives, for programs that use OpenTelemetry.

They go to the program's tracer provider. As long as it has none, nothing is recorded, and traces
are continued as without OpenTelemetry. Names and attributes are those of
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from bus_client.errors import BusError
from bus_client.traces import Sending
from threadbus.v1.message_pb2 import Message

_tracer = trace.get_tracer("threadbus")
_propagator = TraceContextTextMapPropagator()


def current_id() -> int:
    """Returns the id of the program's current span; 0: there is none."""
    return trace.get_current_span().get_span_context().span_id


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """Context manager: spans that are started in the block have this parent."""
    token = current.attach(_child_of(traceparent))
    try:
        yield
    finally:
        current.detach(token)


def receive(agent: str, message: Message) -> str:
    """Make the span of a message that was just received. Returns the span's traceparent.

    `message`: with a valid traceparent.
    """
    attributes = _attributes("receive", "receive", agent, message.thread)
    attributes["messaging.message.id"] = str(message.seq)
    name, parent = f"receive {message.thread}", _child_of(message.traceparent)
    span = _tracer.start_span(name, parent, SpanKind.CONSUMER, attributes)
    span.end()
    return _traceparent(span)


@contextmanager
def send(operation: str, agent: str, thread: str, traceparent: str) -> Iterator[Sending]:
    """Context manager of a call that appends to a thread, which has a span.

    `traceparent`: of the span's parent; empty: that is the program's current span, if there is one.
    """
    parent = _child_of(traceparent) if traceparent else current.get_current()
    attributes = _attributes(operation, "send", agent, thread)
    span = _tracer.start_span(f"{operation} {thread}", parent, SpanKind.PRODUCER, attributes)
    made_in = partial(trace.use_span, span, record_exception=False, set_status_on_exception=False)
    call = Sending(_traceparent(span), made_in)
    try:
        yield call
    except Exception as error:
        reason = error.reason if isinstance(error, BusError) else ""
        span.set_attribute("error.type", reason or type(error).__name__)
        span.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        if call.seq:
            span.set_attribute("messaging.message.id", str(call.seq))
        span.end()


def _attributes(operation: str, kind: str, agent: str, thread: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "threadbus",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": thread,
    }
    if agent:
        attributes["threadbus.agent"] = agent
    return attributes


def _child_of(traceparent: str) -> Context:
    """Returns the current context with a valid traceparent as the parent of spans."""
    return _propagator.extract({"traceparent": traceparent}, current.get_current())


def _traceparent(span: Span) -> str:
    """Returns a span's traceparent; empty if it is of no trace."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")
