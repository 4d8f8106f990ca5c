"""The trace that a task continues: what it posts has the traceparent of the trace.

If the program uses OpenTelemetry, the posts and what it receives have spans; see spans.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from types import ModuleType
from typing import NamedTuple, TypeAlias

from threadbus.names import TRACEPARENT
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest, UpdateThreadRequest

Metadata: TypeAlias = tuple[tuple[str, str], ...]

#: What spans call the requests that append an entry of their own.
_APPENDING = {
    PostMessageRequest: "send",
    UpdateThreadRequest: "update",
    SetThreadStateRequest: "set_state",
}


class _Received(NamedTuple):
    """What was received last."""

    #: Of its trace; empty if it has none.
    traceparent: str = ""
    #: The id of the program's span in which it was received. 0: in none.
    within: int = 0


_NOTHING = _Received()
_received: ContextVar[_Received] = ContextVar("received", default=_NOTHING)
#: The traceparent of the innermost continue_trace(); None outside of one.
_chosen: ContextVar[str | None] = ContextVar("chosen", default=None)


class Sending:
    """A call that appends to a thread: its metadata, and what its span is to say of it."""

    def __init__(
        self,
        traceparent: str,
        current: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`traceparent`: empty if the call belongs to no trace."""
        self.metadata: Metadata = (("traceparent", traceparent),) if traceparent else ()
        #: Returns a context manager in which to make the call: its span is the current one. If the
        #: program instruments gRPC, that sends a traceparent of its own, of a span below this one.
        self.current = current
        #: The seq of the message; 0: it is not known, or there are several.
        self.seq = 0


@contextmanager
def continue_trace(traceparent: str) -> Iterator[None]:
    """Within this block, what the task posts, and its changes of threads, have this traceparent.

    Outside of such a block they have that of the message that the task received last, from
    follow(), inbox(), wait() or ask(): a post made while a message is handled continues its trace.
    Tasks that the block starts continue the same trace; threads do not.

        with bus_client.continue_trace(request.headers.get("traceparent", "")):
            await thread.post("Please build it.")

    With OpenTelemetry, spans that are started in the block belong to the trace, and what is posted
    has spans of its own in it: its traceparent names these.

    Args:
        traceparent: As in W3C's header `traceparent`, version 00, or as in Message.traceparent.
            Empty, or not valid: what is posted has none.
    """
    valid = traceparent if TRACEPARENT.fullmatch(traceparent) else ""
    token = _chosen.set(valid)
    spans = _spans() if valid else None
    try:
        with spans.within(valid) if spans else nullcontext():
            yield
    finally:
        _chosen.reset(token)


def received(agent: str, *messages: Message) -> None:
    """Record that the current task, which acts for an agent, has received messages."""
    spans = _spans()
    traceparent = ""
    for message in messages:
        valid = TRACEPARENT.fullmatch(message.traceparent)
        traceparent = message.traceparent if valid else ""
        if spans and traceparent:
            traceparent = spans.receive(agent, message)
    _received.set(_Received(traceparent, spans.current_id() if spans else 0))


def adopt(context: Context) -> None:
    """Record what a task has received that ran in this context, on behalf of the current one."""
    if (last := context.get(_received, _NOTHING)) != _received.get():
        _received.set(last)


def appends(request: object) -> bool:
    """Returns whether a call with this request appends an entry of its own."""
    return type(request) in _APPENDING


def sending(agent: str, thread: str, request: object = None) -> AbstractContextManager[Sending]:
    """Context manager for a call, or a stream of posts, that appends to a thread.

    It continues the trace of the task that creates it, and has a span if the program uses
    OpenTelemetry. `request`: of the call; None: of a stream.
    """
    chosen, last, spans = _chosen.get(), _received.get(), _spans()
    if spans is None or chosen == "":
        return nullcontext(Sending(last.traceparent if chosen is None else chosen))
    # What came last counts: the message, or the program's span.
    after = chosen is None and spans.current_id() in (0, last.within)
    operation = _APPENDING.get(type(request), "send")
    found: AbstractContextManager[Sending] = spans.send(
        operation, agent, thread, last.traceparent if after else ""
    )
    return found


def _spans() -> ModuleType | None:
    """Returns the module that makes spans; None if the program has not imported OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return None
    from bus_client import spans

    return spans
