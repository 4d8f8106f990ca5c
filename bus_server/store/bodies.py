"""Messages, threads, agents and waits as they are stored: a serialised proto.

A message's has all its fields; those of the others leave out the fields that have columns.
"""

import contextlib
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf import message as protobuf

from bus_server.store.wire import number
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import Agent, AgentKind, Presence
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Retention, SyncMode, Thread, ThreadState

M = TypeVar("M", bound=protobuf.Message)

_CONTENT_SIZE = Message.CONTENT_SIZE_FIELD_NUMBER
#: The first byte of a message's body, that of its content_size. Those that older servers stored
#: begin with the thread.
FIRST = number(_CONTENT_SIZE, 0)[0]
#: Bytes of a traceparent, and what precedes them in a body: the field's key and their number.
_TRACEPARENT_SIZE = 55
_TRACEPARENT = Message(traceparent="0" * _TRACEPARENT_SIZE).SerializeToString()[:-_TRACEPARENT_SIZE]
#: How many bytes of a body `traceparent_of` needs at most: a size takes up to 6.
BEGINNING = 6 + len(_TRACEPARENT) + _TRACEPARENT_SIZE


def first_fields(content_size: int, traceparent: str) -> bytes:
    """Returns what the body of a message begins with: its content_size, and any traceparent.

    The traceparent comes before what may be large, as notices need it: see `traceparent_of`.
    """
    size = number(_CONTENT_SIZE, content_size)
    return size + _TRACEPARENT + traceparent.encode() if traceparent else size


def traceparent_of(body: bytes) -> str:
    """Returns the traceparent of a message; "" if it has none.

    `body`: at least the first BEGINNING bytes of its body.
    """
    start = body.find(_TRACEPARENT, 0, 6 + len(_TRACEPARENT))
    if body[0] != FIRST or start < 0:
        return ""
    start += len(_TRACEPARENT)
    return body[start : start + _TRACEPARENT_SIZE].decode()


def message_body(message: Message) -> bytes:
    """Returns the body of a message. Sets the size of each of its attachments."""
    for file in message.attachments:
        file.size = len(file.raw)
    traceparent = message.traceparent
    message.ClearField("traceparent")
    body = first_fields(len(message.content.encode()), traceparent) + message.SerializeToString()
    message.traceparent = traceparent
    return body


def request_id_of(body: bytes) -> str:
    """Returns the request_id of a stored message; "" if it has none."""
    return Message.FromString(body).request_id


def retention_of(body: bytes) -> Retention | None:
    """Returns the retention of a thread, of whose `body` column this is; None if it has none."""
    thread = Thread.FromString(body)
    return thread.retention if thread.HasField("retention") else None


def message_of(body: bytes, edit_seq: int | None) -> bytes:
    """Returns a message as it is sent. `edit_seq`: that of its row, if it has one.

    Adds the sizes to a message that an older server stored.
    """
    if body[0] != FIRST:
        body = message_body(Message.FromString(body))
    return with_edit_seq(body, edit_seq) if edit_seq else body


def with_edit_seq(body: bytes, edit_seq: int) -> bytes:
    """Returns a message's body with edit_seq appended. Parsers use a field's last value."""
    return body + Message(edit_seq=edit_seq).SerializeToString()


def thread_body(thread: Thread) -> bytes:
    """Returns the value of a thread's `body` column; `thread_of` adds the other fields."""
    return _serialised_without(
        thread, "name", "epoch", "state", "sync_mode", "head_seq", "first_seq", "update_time"
    )


def thread_of(
    body: bytes,
    *,
    name: str,
    epoch: str,
    head_seq: int,
    state: int,
    sync_mode: int,
    update_time: int | None,
    first_seq: int,
) -> Thread:
    """Returns a thread. `update_time`: in microseconds since the Unix epoch; None: its create_time.

    `body` is as `thread_body` returned it.
    """
    thread = Thread.FromString(body)
    thread.name, thread.epoch, thread.head_seq, thread.first_seq = name, epoch, head_seq, first_seq
    thread.state = ThreadState.ValueType(state)
    thread.sync_mode = SyncMode.ValueType(sync_mode)
    if update_time is None:
        thread.update_time.CopyFrom(thread.create_time)
    else:
        thread.update_time.FromMicroseconds(update_time)
    return thread


def agent_body(agent: Agent) -> bytes:
    """Returns the value of an agent's `body` column; `agent_of` adds the other fields."""
    return _serialised_without(agent, "name", "kind", "presence", "status_text", "last_seen_time")


def agent_of(
    body: bytes, *, name: str, kind: int, presence: int, status_text: str, last_seen_time: int
) -> Agent:
    """Returns an agent. `last_seen_time`: in microseconds on the store's clock; 0: never.

    `body` is as `agent_body` returned it.
    """
    agent = Agent.FromString(body)
    agent.name, agent.kind = name, AgentKind.ValueType(kind)
    agent.presence, agent.status_text = Presence.ValueType(presence), status_text
    if last_seen_time:
        agent.last_seen_time.FromMicroseconds(last_seen_time)
    return agent


def waits_of(rows: Iterable[tuple[int, bytes]]) -> dict[int, Wait]:
    """Returns waits by number. Those that cannot be read are left out: they only inform."""
    waits = {}
    for key, body in rows:
        with contextlib.suppress(protobuf.DecodeError, ValueError):
            wait = Wait.FromString(body)
            wait.start_time.ToMicroseconds()  # raises ValueError if it is out of range
            waits[key] = wait
    return waits


def _serialised_without(whole: M, *fields: str) -> bytes:
    rest = type(whole)()
    rest.CopyFrom(whole)
    for field in fields:
        rest.ClearField(field)
    return rest.SerializeToString()
