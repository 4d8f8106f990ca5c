"""Shared by the two Python drivers: lines, errors, and arguments of the SDK."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.rpc.status_pb2 import Status

from bus_client import BusError, CursorLost, OutcomeUnknown, Unanswered, continue_trace
from bus_client.status import from_rpc_error
from tests.conformance import contract
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

Fields: TypeAlias = dict[str, Any]

#: Codes that without a reason mean that the outcome is unknown.
_IN_DOUBT = ("CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE")

_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_one_line_at_a_time = threading.Lock()


def write(**line: Any) -> None:
    """Write a line."""
    with _one_line_at_a_time:
        print(json.dumps(line), flush=True)


def tls_keywords(fields: Fields) -> Fields:
    """Return the arguments of BusClient for the files that `open` names."""
    return {name: fields.get(name) for name in ("ca_file", "client_cert", "client_key")}


def stub_method(channel: Any, name: str) -> Any:
    """Return the method of the generated stubs with this name."""
    for stub in (BusServiceStub(channel), ThreadServiceStub(channel), AgentServiceStub(channel)):
        if hasattr(stub, name):
            return getattr(stub, name)
    raise ValueError(f"no service has {name}")


def request(method: str, fields: Fields) -> Any:
    """Parse the request of a method."""
    return ParseDict(fields, contract.METHODS[method].request_type())


def invoke(bus: Any, first: Callable[[Any], Any], method: str, fields: Fields) -> Any:
    """Call a unary method through the SDK. `first` returns the first item of its iterators.

    Returns what the SDK returns: an awaitable, or a result.
    """
    asked = request(method, fields)
    thread = bus.thread(getattr(asked, "thread", "") or "unused")
    calls: dict[str, Callable[[], Any]] = {
        "PostMessage": lambda: thread.post(asked.content, request_id=asked.request_id),
        "Heartbeat": lambda: bus.heartbeat(),
        "ListMessages": lambda: thread.messages(),
        "GetMessage": lambda: thread.message(asked.seq),
        "ListRequests": lambda: first(bus.list_requests()),
        "WithdrawRequest": lambda: thread.withdraw(asked.seq),
        "GetServerInfo": lambda: bus.server_info(),
        "CreateThread": lambda: bus.create_thread(asked.thread),
        "GetThread": lambda: bus.get_thread(asked.thread),
        "ListThreads": lambda: first(bus.list_threads()),
        "JoinThread": lambda: bus.join(asked.thread),
        "LeaveThread": lambda: thread.leave(),
        "ListParticipants": lambda: first(thread.list_participants()),
        "UpdateThread": lambda: thread.update(stage=asked.stage),
        "SetThreadState": lambda: thread.set_state(asked.state),
        "DeleteThread": lambda: thread.delete(),
        "RegisterAgent": lambda: bus.register_agent(asked.agent),
        "GetAgent": lambda: bus.get_agent(asked.agent),
        "ListAgents": lambda: first(bus.list_agents()),
        "UpdateAgent": lambda: bus.update_agent(description=asked.description),
        "EndSession": lambda: bus.end_session(),
        "UnregisterAgent": lambda: bus.unregister_agent(asked.agent),
        "RotateToken": lambda: bus.rotate_token(),
    }
    return calls[method]()


def tracing(fields: Fields) -> AbstractContextManager[None]:
    """Return the context in which the SDK posts for a command."""
    trace = fields.get("traceparent")
    return nullcontext() if trace is None else continue_trace(trace)


def call_metadata(token: str, fields: Fields) -> tuple[tuple[str, str], ...]:
    """Return the metadata of the command `call`."""
    trace = fields.get("traceparent")
    return bearer(token) + ((("traceparent", trace),) if trace else ())


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def cursor(fields: Fields) -> Cursor:
    """Parse a cursor."""
    return ParseDict(fields["cursor"], Cursor())


def post_keywords(fields: Fields) -> Fields:
    """Return the arguments of ThreadHandle.post() for a PostMessageRequest."""
    try:
        asked = ParseDict(fields["request"], PostMessageRequest())
        given = {field.name: value for field, value in asked.ListFields()}
    except ParseError:  # invalid text: pass it on as it is
        given = dict(fields["request"])
    del given["thread"]
    return given | {"timeout": fields.get("timeout")}


def ask_keywords(fields: Fields) -> Fields:
    """Return the arguments of ThreadHandle.ask() for a PostMessageRequest."""
    given = post_keywords(fields)
    expected, handoff_to = given.pop("expect_reply"), given.get("handoff_to")
    del given["timeout"]
    mentioned = [*given.get("mentions", ()), *([handoff_to] if handoff_to else ())]
    within = expected.within.ToNanoseconds() / 1e9 if expected.HasField("within") else None
    return given | {"of": list(expected.agents) or mentioned, "within": within}


def follow_keywords(fields: Fields) -> Fields:
    """Return the arguments of ThreadHandle.follow()."""
    return {
        "acknowledge": False,  # the command `read` does that
        "include_own": fields.get("own", False),
        "on_resync": fields.get("on_resync", "raise"),
        **_limits(fields),
    }


def inbox_keywords(fields: Fields) -> Fields:
    """Return the arguments of BusClient.inbox()."""
    return {
        "acknowledge": fields.get("read", False),
        "addressed": fields.get("addressed", True),
        "on_resync": fields.get("on_resync", "raise"),
        **_limits(fields),
    }


def _limits(fields: Fields) -> Fields:
    names = ("omit_attachment_data", "max_content_bytes")
    return {name: fields[name] for name in names if name in fields}


def write_message(number: int, message: Message) -> None:
    """Write the line for a message of a follow or inbox."""
    truncated = len(message.content.encode()) < message.content_size
    write(id=number, message=MessageToDict(message), truncated=truncated)


def error_of(error: Exception) -> Fields:
    """Return an exception as a driver reports it."""
    if isinstance(error, grpc.RpcError):
        failure: Any = error  # of an asyncio or a sync call
        told = error_of(from_rpc_error(failure))
        status = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        told["details"] = [MessageToDict(detail) for detail in Status.FromString(status).details]
        in_doubt = _IN_DOUBT if not told["reason"] else ("INTERNAL",)
        return told | {"outcome_unknown": told["code"] in in_doubt}
    if not isinstance(error, BusError):
        return {"code": "UNKNOWN", "message": repr(error)}
    told = {
        "code": error.code,
        "message": error.message,
        "reason": error.reason,
        "metadata": dict(error.metadata),
        "outcome_unknown": isinstance(error, OutcomeUnknown),
    }
    if error.field_violations:
        violations = [{"field": name, "description": why} for name, why in error.field_violations]
        told["details"] = [{"@type": _BAD_REQUEST, "fieldViolations": violations}]
    if isinstance(error, CursorLost):
        told["resync"] = {
            "reason": f"REASON_{error.reason}",
            "position": {"cursor": MessageToDict(error.position)},
            "requested": MessageToDict(error.requested),
        }
    if isinstance(error, Unanswered):
        told["unanswered"] = {"reason": error.reason, "agent": error.agent, "seq": error.seq}
    return told
