"""The commands about requests. Opening and answering one is part of a post: see asked.py."""

from dataclasses import dataclass

from bus_server.store.asked_rows import AskedKey
from bus_server.store.commands import Command, PresenceRow
from threadbus.v1.message_pb2 import Notice
from threadbus.v1.request_pb2 import Request


@dataclass(frozen=True, slots=True)
class Withdraw(Command[list[Request]]):
    """Withdraw the open requests of a message. Returns all its requests, by agent.

    Appends a NOTICE entry for each. Raises ThreadNotFound, CursorInvalid, MessageNotFound,
    ValidationFailed if the message asks nobody, AccessDenied, and QuotaExceeded if the thread is
    full.
    """

    name: str
    seq: int
    agent: str  # the caller
    operator: bool  # whether it may withdraw the requests of others
    epoch: str = ""  # empty: not checked


@dataclass(frozen=True, slots=True)
class WriteNotice(Command[bool]):
    """Append a NOTICE entry about an open request. Returns whether it was appended.

    It is not if the request is no longer open or was noticed for this reason, if the reason does
    not hold any more, or if the thread is full.
    """

    thread: str
    key: AskedKey
    reason: Notice.Reason.ValueType
    #: For reasons of presence: the evidence that they follow from. They do not hold if the store
    #: has newer evidence.
    evidence: PresenceRow | None = None
