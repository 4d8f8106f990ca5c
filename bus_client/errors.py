"""The exceptions of the SDK.

BusError
├── InvalidArgument, MessageTooLarge, CredentialsError
├── Unauthenticated
│   └── TokenExpired
├── AccessDenied
├── NotFound
│   └── ThreadNotFound, MessageNotFound, AgentNotFound
├── AlreadyExists
│   └── ThreadExists, AgentExists, RequestIdReused
├── SeqConflict, ExpectedSeqRequired, ThreadClosed, CursorInvalid, CursorLost
├── QuotaExceeded, StorageFull
├── Unavailable
│   └── Draining, StoreBusy, StoreFailed, Unreachable
├── InternalError, ProtocolError
└── OutcomeUnknown
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from threadbus.v1.message_pb2 import Cursor

E = TypeVar("E", bound=BaseException)


def strip_traceback(error: E) -> E:
    """Clears the error's traceback, cause and context, so that it can be stored. Returns the error.

    The frames of a traceback keep their variables alive: a stream with its connection, and often
    the error itself. Python frees such a cycle only with its next garbage collection. For the
    same reason a frame that raises a stored error deletes its variable.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class BusError(Exception):
    """A call failed. The base class of every error of this package.

    Attributes:
        message: What happened, in a sentence.
        code: Name of the gRPC status, such as "NOT_FOUND".
        reason: Name of the reason in errors.proto, such as "THREAD_NOT_FOUND"; "" if none is given.
        metadata: Details of the reason, as the server sent them.
        field_violations: (field, description) of each request field that was refused.
        retry_delay: Seconds after which the server wants the call to be retried, at most 60; None
            if it did not say.
        retryable: Whether the same call may succeed later. (Calls that are safe to retry were
            retried until their timeout.)
        hint: What to do next; "" if there is no general advice.
    """

    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[tuple[str, str]] = (),
        retry_delay: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = list(field_violations)
        self.retry_delay = retry_delay
        if hint is not None:
            self.hint = hint

    def _number(self, key: str) -> int:
        """Returns a number of the metadata; 0 if it is missing or not a number."""
        digits = self.metadata.get(key, "")
        return int(digits) if re.fullmatch("[0-9]{1,19}", digits) else 0


class InvalidArgument(BusError):
    """A field of the request is missing or wrong; `field_violations` says which."""

    hint = "Correct the named fields."


class CredentialsError(BusError):
    """The credentials file cannot be found, read or written, or is not safe."""

    hint = (
        "Name a file of your own: credentials=, or THREADBUS_CREDENTIALS, XDG_DATA_HOME or HOME "
        "in the environment; or pass token=."
    )

    def __init__(self, message: str) -> None:
        super().__init__(message, code="FAILED_PRECONDITION")


class MessageTooLarge(BusError):
    """A post is larger than the server allows; `metadata` may have the limit and the size."""

    hint = "Shorten the content, or attach a URL instead of the bytes."


class Unauthenticated(BusError):
    """The server requires a token and got none, or does not know the one it got."""

    hint = "Pass the token that the server or its operator gave out."


class TokenExpired(Unauthenticated):
    """The token has expired."""

    hint = "Get a new token from the server's operator."


class AccessDenied(BusError):
    """The token does not permit this call."""

    hint = "Use a token that permits it, or ask an operator."


class NotFound(BusError):
    """Something named in the call does not exist."""


class ThreadNotFound(NotFound):
    """There is no such thread. The message names those that differ from it only by case."""

    hint = "Check its name, or create it with join()."


class MessageNotFound(NotFound):
    """There is no such message, or it is no longer kept."""

    hint = "Check its seq against the thread's first_seq and head_seq."


class AgentNotFound(NotFound):
    """No agent of this name is registered."""

    hint = "Check its name against list_agents(). Only registered agents can be mentioned."


class AlreadyExists(BusError):
    """What the call was to create already exists."""


class ThreadExists(AlreadyExists):
    """A thread of this name already exists."""

    hint = "Enter it with join(), or choose another name."


class AgentExists(AlreadyExists):
    """The agent's name is registered with another token."""

    hint = "Pass the token it was registered with, or choose another name."


class RequestIdReused(AlreadyExists):
    """The request_id was used before, for another message."""

    hint = "Use a new request_id for a new message."

    @property
    def seq(self) -> int:
        """The seq of the message that was posted with it."""
        return self._number("seq")


class SeqConflict(BusError):
    """expected_last_seq is not the thread's newest seq: another message was posted first."""

    hint = "Read what was posted since, then decide again."

    @property
    def expected(self) -> int:
        """The expected_last_seq of the call."""
        return self._number("expected")

    @property
    def last_seq(self) -> int:
        """The thread's newest seq."""
        return self._number("last_seq")


class ExpectedSeqRequired(BusError):
    """The thread is strict: posts need expected_last_seq."""

    hint = "Read the thread to its end, then post with expected_last_seq."


class ThreadClosed(BusError):
    """The thread is closed or archived and accepts no posts."""

    hint = "Open it again with set_state(), or post to another thread."


class CursorInvalid(BusError):
    """A seq belongs to another history of the thread, or is past its head; see `metadata`."""

    hint = "Join the thread again to get its current position."


class QuotaExceeded(BusError):
    """A limit of the server is reached. Retrying does not help."""

    hint = "Release something first, such as another wait of this agent."


class StorageFull(BusError):
    """The server's disk is full."""

    hint = "Free space on the server, then try again."


class Unavailable(BusError):
    """The server cannot handle the call now; nothing was done."""

    retryable = True
    hint = "Try again a little later."


class Draining(Unavailable):
    """The server is shutting down; nothing was done."""


class StoreBusy(Unavailable):
    """A queue or budget of the server is full; nothing was done."""


class StoreFailed(Unavailable):
    """The server cannot read or write its store, or lost its file; nothing was done."""

    hint = "See the server's log for what failed and what to do."


class Unreachable(Unavailable):
    """No response came: no server runs at the address, or the connection broke."""

    hint = "Check that the server runs and that its address is right."


class InternalError(BusError):
    """The server failed. Please report it with its incident id."""

    hint = "Look up the incident in the server's log."

    @property
    def incident(self) -> str:
        """The id of the failure in the server's log; "" if the server sent none."""
        return self.metadata.get("incident", "")


class ProtocolError(BusError):
    """A response breaks the contract. It was discarded; read positions did not change.

    The server, or a proxy in front of it, is faulty or another program.
    """

    hint = "Check that a ThreadBus server has this address, and what is in between."

    def __init__(self, message: str) -> None:
        super().__init__(message, code="INTERNAL")


class OutcomeUnknown(BusError):
    """It is unknown whether the call was carried out: its response was lost, or came too late.

    Attributes:
        request_id: The post's; posting again with the same one is safe. "" for other calls.
    """

    retryable = True
    hint = "Repeat a post with the same request_id. For any other call, check what was done first."

    def __init__(self, message: str, *, request_id: str, code: str, reason: str = "") -> None:
        super().__init__(message, code=code, reason=reason)
        self.request_id = request_id


class CursorLost(BusError):
    """The read position is no longer in the thread's history: messages may have been missed.

    `reason` is "CURSOR_AHEAD" (the thread ends before it) or "EPOCH_CHANGED" (the thread was
    deleted and created again, perhaps with the whole store).

    Attributes:
        position: The new read position of the thread handle.
        requested: The position that was lost.
    """

    hint = "Call follow() or wait() again to continue from the new position."

    def __init__(self, message: str, *, reason: str, position: Cursor, requested: Cursor) -> None:
        super().__init__(message, code="OUT_OF_RANGE", reason=reason)
        self.position = position
        self.requested = requested
