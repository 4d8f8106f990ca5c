"""The trace that a task continues: what it posts has the traceparent of the trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar

from threadbus.names import TRACEPARENT
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_service_pb2 import SetThreadStateRequest, UpdateThreadRequest

#: The requests that append an entry of their own.
_APPENDING = PostMessageRequest, UpdateThreadRequest, SetThreadStateRequest

#: The traceparent of the message that was received last; empty if it had none.
_received: ContextVar[str] = ContextVar("received", default="")
#: That of the innermost continue_trace(); None outside of one.
_chosen: ContextVar[str | None] = ContextVar("chosen", default=None)


@contextmanager
def continue_trace(traceparent: str) -> Iterator[None]:
    """Within this block, what the task posts, and its changes of threads, have this traceparent.

    Outside of such a block they have that of the message that the task received last, from
    follow(), inbox(), wait() or ask(): a post made while a message is handled continues its trace.
    Tasks that the block starts continue the same trace; threads do not.

        with bus_client.continue_trace(request.headers.get("traceparent", "")):
            await thread.post("Please build it.")

    Args:
        traceparent: As in W3C's header `traceparent`, version 00, or as in Message.traceparent.
            Empty, or not valid: what is posted has none.
    """
    token = _chosen.set(traceparent if TRACEPARENT.fullmatch(traceparent) else "")
    try:
        yield
    finally:
        _chosen.reset(token)


def received(message: Message) -> None:
    """Record that the current task has received a message."""
    _received.set(message.traceparent if TRACEPARENT.fullmatch(message.traceparent) else "")


def adopt(context: Context) -> None:
    """Record what a task has received that ran in this context, on behalf of the current one."""
    if (traceparent := context.get(_received, "")) != _received.get():
        _received.set(traceparent)


def trace_metadata(request: object = None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that continues the current task's trace; empty if there is none.

    `request`: of the call, which may append nothing; None: it appends posts.
    """
    if request is not None and not isinstance(request, _APPENDING):
        return ()
    chosen = _chosen.get()
    traceparent = _received.get() if chosen is None else chosen
    return (("traceparent", traceparent),) if traceparent else ()
