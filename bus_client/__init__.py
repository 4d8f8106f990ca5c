"""The Python SDK of ThreadBus: post to threads, and be woken when a message is committed.

    async with BusClient(agent="reviewer") as bus:
        thread = await bus.join("design")
        async for message in thread.follow():
            await thread.post("Looks good.", reply_to=message.seq)

Its names are imported lazily, so that `threadbus --help` need not import gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    #: The version of the installed package `threadbus`; "0+unknown" if it is not installed.
    __version__: str

    from bus_client.client import BusClient
    from bus_client.errors import (
        AccessDenied,
        AgentExists,
        AgentNotFound,
        AlreadyExists,
        BusError,
        ContentBlocked,
        CredentialsError,
        CursorInvalid,
        CursorLost,
        Draining,
        ExpectedSeqRequired,
        InternalError,
        InvalidArgument,
        MessageNotFound,
        MessageTooLarge,
        NotFound,
        OutcomeUnknown,
        ProtocolError,
        QuotaExceeded,
        RateLimited,
        RequestIdReused,
        SeqConflict,
        StorageFull,
        StoreBusy,
        StoreFailed,
        ThreadClosed,
        ThreadExists,
        ThreadNotFound,
        TlsFailed,
        TokenExpired,
        Unanswered,
        Unauthenticated,
        Unavailable,
        Unreachable,
    )
    from bus_client.post import Post
    from bus_client.retention import Retention
    from bus_client.thread import ThreadHandle
    from bus_client.traces import continue_trace
    from threadbus.v1.admin_service_pb2 import Token, Wait
    from threadbus.v1.agent_pb2 import Agent, AgentKind, Participant, Presence
    from threadbus.v1.bus_service_pb2 import ParticipantUpdate
    from threadbus.v1.message_pb2 import (
        Attachment,
        Cursor,
        Message,
        MessageFilter,
        MessageKind,
        Notice,
        Priority,
        Wake,
    )
    from threadbus.v1.request_pb2 import Request, RequestState
    from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState

__all__ = [
    "AccessDenied",
    "Agent",
    "AgentExists",
    "AgentKind",
    "AgentNotFound",
    "AlreadyExists",
    "Attachment",
    "BusClient",
    "BusError",
    "ContentBlocked",
    "CredentialsError",
    "Cursor",
    "CursorInvalid",
    "CursorLost",
    "Draining",
    "ExpectedSeqRequired",
    "InternalError",
    "InvalidArgument",
    "Message",
    "MessageFilter",
    "MessageKind",
    "MessageNotFound",
    "MessageTooLarge",
    "NotFound",
    "Notice",
    "OutcomeUnknown",
    "Participant",
    "ParticipantUpdate",
    "Post",
    "Presence",
    "Priority",
    "ProtocolError",
    "QuotaExceeded",
    "RateLimited",
    "Request",
    "RequestIdReused",
    "RequestState",
    "Retention",
    "SeqConflict",
    "StorageFull",
    "StoreBusy",
    "StoreFailed",
    "SyncMode",
    "Thread",
    "ThreadClosed",
    "ThreadExists",
    "ThreadHandle",
    "ThreadNotFound",
    "ThreadState",
    "TlsFailed",
    "Token",
    "TokenExpired",
    "Unanswered",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Wait",
    "Wake",
    "continue_trace",
]

# The module of each lazily imported name; all other names are in bus_client.errors.
_MODULES = {
    "Agent": "threadbus.v1.agent_pb2",
    "AgentKind": "threadbus.v1.agent_pb2",
    "Attachment": "threadbus.v1.message_pb2",
    "BusClient": "bus_client.client",
    "Cursor": "threadbus.v1.message_pb2",
    "Message": "threadbus.v1.message_pb2",
    "MessageFilter": "threadbus.v1.message_pb2",
    "MessageKind": "threadbus.v1.message_pb2",
    "Notice": "threadbus.v1.message_pb2",
    "Participant": "threadbus.v1.agent_pb2",
    "ParticipantUpdate": "threadbus.v1.bus_service_pb2",
    "Post": "bus_client.post",
    "Presence": "threadbus.v1.agent_pb2",
    "Priority": "threadbus.v1.message_pb2",
    "Request": "threadbus.v1.request_pb2",
    "RequestState": "threadbus.v1.request_pb2",
    "Retention": "bus_client.retention",
    "SyncMode": "threadbus.v1.thread_pb2",
    "Thread": "threadbus.v1.thread_pb2",
    "ThreadHandle": "bus_client.thread",
    "ThreadState": "threadbus.v1.thread_pb2",
    "Token": "threadbus.v1.admin_service_pb2",
    "Wait": "threadbus.v1.admin_service_pb2",
    "Wake": "threadbus.v1.message_pb2",
    "continue_trace": "bus_client.traces",
}


if not TYPE_CHECKING:  # type checkers that saw this would accept any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _version()
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES.get(name, "bus_client.errors")), name)


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version("threadbus")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "0+unknown"
