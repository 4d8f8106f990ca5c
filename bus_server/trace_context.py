"""The trace context of calls: the `traceparent` that tracing systems pass on.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from contextvars import ContextVar
from typing import Any

from threadbus.names import TRACEPARENT

#: The traceparent of the call that the current task handles. Empty: the call has no valid one.
traceparent: ContextVar[str] = ContextVar("traceparent", default="")
#: OpenTelemetry's span of that call. None: it has none.
span: ContextVar[Any] = ContextVar("span", default=None)


def set_traceparent(value: object) -> None:
    """Set the current task's traceparent, unless the value, of a call's metadata, is not valid."""
    if isinstance(value, str) and TRACEPARENT.fullmatch(value):
        traceparent.set(value)


def is_sampled(value: str) -> bool:
    """Returns whether a traceparent is valid, and says that its trace is recorded."""
    return TRACEPARENT.fullmatch(value) is not None and bool(int(value[-1], 16) & 1)
