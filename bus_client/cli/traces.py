"""The trace that a program which starts a command wants to be continued."""

from __future__ import annotations

import os

from threadbus.names import TRACEPARENT


def environment_trace() -> str:
    """Returns the traceparent in the environment variable TRACEPARENT. Empty = none that is valid.

    https://opentelemetry.io/docs/specs/otel/context/env-carriers/
    """
    traceparent = os.environ.get("TRACEPARENT", "")
    return traceparent if TRACEPARENT.fullmatch(traceparent) else ""
