"""The exceptions of the SDK.

BusError
├── InvalidArgument, MessageTooLarge, ContentBlocked, CredentialsError
├── Unauthenticated
│   └── TokenExpired
├── AccessDenied
├── NotFound
│   └── ThreadNotFound, MessageNotFound, AgentNotFound
├── AlreadyExists
│   └── ThreadExists, AgentExists, RequestIdReused
├── SeqConflict, ExpectedSeqRequired, ThreadClosed, CursorInvalid, CursorLost, Unanswered
├── QuotaExceeded, StorageFull
├── Unavailable
│   ├── Draining, StoreBusy, StoreFailed, RateLimited
│   └── Unreachable
│       └── TlsFailed
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
    """Clear the error's traceback, cause and context, so that it can be stored. Returns the error.

    The frames of a traceback keep their variables alive: a stream with its connection, and often
    the error itself. Python frees such a cycle only with its next garbage collection. For the
    same reason, a function that raises a stored error deletes the variable that refers to it.
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
    """An argument is missing or wrong; `field_violations` names the field of the request."""

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
    """A post is larger than the server, or a proxy in front of it, allows.

    `metadata` may have the `limit` and the `size`, in bytes.
    """

    hint = "Shorten the content, or attach a URL instead of the bytes."


class ContentBlocked(BusError):
    """A text contains what looks like a key or a token, and the server refuses those.

    `field_violations` names the field of the request.
    """

    hint = "Remove the secret, or say where it is kept. Replace it if others may have seen it."

    @property
    def rule(self) -> str:
        """The name of the format, such as "github-token"; "" if unknown."""
        return self.metadata.get("rule", "")


class Unauthenticated(BusError):
    """The server, or a proxy in front of it, requires a token, or does not accept the one sent.

    Also raised if the token belongs to another agent than the one that BusClient names.
    """

    hint = "Pass the token that the server or its operator gave out."


class TokenExpired(Unauthenticated):
    """The token has expired: it was rotated, and its grace period is over."""

    hint = "Get a new token from the server's operator."


class AccessDenied(BusError):
    """The caller is not allowed to do this, or a proxy in front of the server forbids it."""

    hint = "Use a token that permits it, or ask an operator."


class NotFound(BusError):
    """Something named in the call does not exist."""


class ThreadNotFound(NotFound):
    """There is no such thread. `message` names any threads whose names differ only by case."""

    hint = "Check its name, or create it with join()."


class MessageNotFound(NotFound):
    """There is no such message, or it is no longer kept."""

    hint = "Check its seq against the thread's first_seq and head_seq."


class AgentNotFound(NotFound):
    """No agent of this name is registered."""

    hint = "Check its name against list_agents(). Only registered agents can be mentioned."


class AlreadyExists(BusError):
    """What the call would create exists already."""


class ThreadExists(AlreadyExists):
    """A thread of this name already exists."""

    hint = "Enter it with join(), or choose another name."


class AgentExists(AlreadyExists):
    """The agent's name is registered with another token or none, or was unregistered."""

    hint = "Pass the token it was registered with, or choose another name."


class RequestIdReused(AlreadyExists):
    """The request_id was used before, for another message."""

    hint = "Use a new request_id for a new message."

    @property
    def seq(self) -> int:
        """The seq of the message that was posted with this request_id; 0 if unknown."""
        return self._number("seq")


class SeqConflict(BusError):
    """expected_last_seq is not the thread's newest seq.

    In most cases another message was posted first.
    """

    hint = "Read what was posted since, then decide again."

    @property
    def expected(self) -> int:
        """The expected_last_seq of the call; 0 if unknown."""
        return self._number("expected")

    @property
    def last_seq(self) -> int:
        """The thread's newest seq when the call was refused; 0 if unknown."""
        return self._number("last_seq")


class ExpectedSeqRequired(BusError):
    """The thread is strict: posts need expected_last_seq."""

    hint = "Read the thread to its end, then post with expected_last_seq."


class ThreadClosed(BusError):
    """The thread is closed or archived: it accepts no posts, or wait() has returned all of it."""

    hint = "Open it again with set_state(), or post to another thread."


class CursorInvalid(BusError):
    """A seq belongs to another history of the thread, or is past its head.

    `metadata` has the thread's `first_seq`, `head_seq` and `epoch`, if the server sent them.
    """

    hint = "Join the thread again to get its current position."


class QuotaExceeded(BusError):
    """A limit of the server is reached, such as the open waits of one agent.

    Retrying soon does not help. `metadata` has the `limit`.
    """

    hint = "The message says what is limited, and what to do."


class StorageFull(BusError):
    """The server's disk is full."""

    hint = "Free space on the server, then try again."


class Unavailable(BusError):
    """The server cannot handle the call now. Nothing was done, unless this is Unreachable."""

    retryable = True
    hint = "Try again a little later."


class Draining(Unavailable):
    """The server is shutting down; nothing was done."""


class StoreBusy(Unavailable):
    """The server's store is busy, or a queue or budget is full; nothing was done."""


class StoreFailed(Unavailable):
    """The store's file cannot be read or written, was replaced, or is damaged; nothing was done."""

    hint = "See the server's log for what failed and what to do."


class RateLimited(Unavailable):
    """The agent posts more often than the server allows, or the thread gets too many posts.

    Nothing was done. `retry_delay` says how long to wait. `metadata` has the `limit`, in posts per
    minute.
    """

    hint = "Post less often, or ask the server's operator for a higher --posts-per-minute."


class Unreachable(Unavailable):
    """No server answered, the connection broke, or a commit of the server's store failed.

    An idempotent call may have been carried out. Any other call that may have been carried out
    raises OutcomeUnknown instead.
    """

    hint = "Check that the server runs and that its address is right."


class TlsFailed(Unreachable):
    """The server was reached, but TLS stands between: retrying does not help. Nothing was sent.

    One side speaks TLS and the other does not; or a certificate, the server's or the client's, has
    expired, is for another name, is missing, or is not from a CA that the other side trusts.
    """

    retryable = False

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, code="UNAVAILABLE", hint=hint)


class InternalError(BusError):
    """The server, or a proxy in front of it, failed. Please report it with its incident id."""

    hint = "Look up the incident in the server's log."

    @property
    def incident(self) -> str:
        """The id of the failure in the server's log; "" if the server sent none."""
        return self.metadata.get("incident", "")


class ProtocolError(BusError):
    """A response breaks the contract. It was discarded, and moved no read position.

    The server, or a proxy in front of it, is faulty, or is not ThreadBus.
    """

    hint = "Check that a ThreadBus server has this address, and which proxies are in front of it."

    def __init__(self, message: str) -> None:
        super().__init__(message, code="INTERNAL")


class OutcomeUnknown(BusError):
    """It is unknown whether the call was carried out: no valid response came in time.

    Attributes:
        request_id: The request_id of the post, with which it is safe to post again. "" for other
            calls.
    """

    retryable = True
    hint = "Repeat a post with the same request_id. For any other call, check what was done first."

    def __init__(self, message: str, *, request_id: str, code: str, reason: str = "") -> None:
        super().__init__(message, code=code, reason=reason)
        self.request_id = request_id


class CursorLost(BusError):
    """The read position is not in the thread's history: messages may have been missed.

    `reason` is "COMPACTED" (the messages after `requested`, up to `position`, are not kept any
    more, as the thread's retention says), "CURSOR_AHEAD" (the thread ends before the position) or
    "EPOCH_CHANGED" (the thread, or the server's whole store, was deleted and created again).

    Attributes:
        position: The new read position of the thread handle.
        requested: The position that was lost.
    """

    hint = "Call follow() or wait() again to continue from the new position."

    def __init__(self, message: str, *, reason: str, position: Cursor, requested: Cursor) -> None:
        super().__init__(message, code="OUT_OF_RANGE", reason=reason)
        self.position = position
        self.requested = requested


class Unanswered(BusError):
    """Nobody whom ask() asked will reply, or not soon.

    `reason` says why. A later reply may still come after:

    - "AGENT_IDLE": the agent has read the question, and is idle without an answer.
    - "AGENT_LAPSED", "AGENT_OFFLINE": it has not been seen lately, or has ended its session.
    - "AGENT_LEFT": it has left the thread.
    - "OVERDUE": `within` is over.
    - "SESSION_ENDED": the session of the agent that asked was ended, and with it the wait.

    None can come after "CLOSED" (the thread was closed or archived, or the question is not kept any
    more) and "WITHDRAWN".

    Attributes:
        agent: The agent that was given up, the last one if several were asked.
        seq: The seq of the question.
    """

    hint = "Ask another agent, or follow the thread: a later reply still answers an open request."
    _hints: ClassVar[Mapping[str, str]] = {
        "CLOSED": "No reply can come. Open the thread again if it is closed, and ask again.",
        "WITHDRAWN": "No reply can answer it any more. If you still need one, ask again.",
        "SESSION_ENDED": "The request is still open. Follow the thread: a later reply answers it.",
    }

    def __init__(self, message: str, *, reason: str, agent: str, seq: int) -> None:
        hint = self._hints.get(reason)
        super().__init__(message, code="FAILED_PRECONDITION", reason=reason, hint=hint)
        self.agent = agent
        self.seq = seq
