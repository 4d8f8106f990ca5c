"""What can go wrong: one small tree of exceptions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from threadbus.v1.message_pb2 import Cursor

E = TypeVar("E", bound=BaseException)


def bare(error: E) -> E:
    """Returns the error without traceback, cause and context, so that it can be kept.

    The frames of a traceback keep their variables: a stream, and so its connection, as well as the
    error itself. Python would free such a cycle only at its next collection of garbage.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


class BusError(Exception):
    """A call failed. Every error of this package is one; its message says what happened.

    Attributes:
        message: What happened, in a sentence.
        code: Name of the gRPC status, such as "NOT_FOUND".
        reason: Name of the reason in errors.proto, such as "THREAD_NOT_FOUND"; "" if none is given.
        metadata: Particulars that go with the reason, as the server sent them.
        field_violations: (field, description) of each request field that was refused.
        retry_delay: Seconds after which the server wants to be asked again, at most 60; None if it
            did not say.
        retryable: Whether the same call may succeed later. (Calls that are safe to repeat were
            repeated already, until their timeout.)
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
        """A number of the metadata; 0 if it is missing, or none."""
        digits = self.metadata.get(key, "")
        return int(digits) if re.fullmatch("[0-9]{1,19}", digits) else 0


class InvalidArgument(BusError):
    """A field of the request is missing or wrong; `field_violations` says which."""

    hint = "Correct the named fields."


class CredentialsError(BusError):
    """The file with the agents' tokens cannot be found, read or written, or is not safe."""

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
    """The server wants a token and got none, or one that it does not know."""

    hint = "Pass the token that the server or its operator gave out."


class TokenExpired(Unauthenticated):
    """The token is too old."""

    hint = "Get a new token from the server's operator."


class AccessDenied(BusError):
    """The token does not allow this."""

    hint = "Use a token with the right to do it, or ask an operator."


class NotFound(BusError):
    """Something named in the call does not exist."""


class ThreadNotFound(NotFound):
    """No such thread. The message names those that differ from it only by case."""

    hint = "Check its name, or create it with join()."


class MessageNotFound(NotFound):
    """No such message, or it is no longer kept."""

    hint = "Check its seq against the thread's first_seq and head_seq."


class AgentNotFound(NotFound):
    """No such agent."""

    hint = "Check its name against list_agents(); agents must have registered to be mentioned."


class AlreadyExists(BusError):
    """What was to be made is there already."""


class ThreadExists(AlreadyExists):
    """The thread's name is taken."""

    hint = "Use it with join(), or take another name."


class AgentExists(AlreadyExists):
    """The agent's name is taken, by another token."""

    hint = "Pass the token it was registered with, or take another name."


class RequestIdReused(AlreadyExists):
    """The request_id was used before, with another body."""

    hint = "Use a new request_id for a new message."

    @property
    def seq(self) -> int:
        """Seq of the message that was posted with it."""
        return self._number("seq")


class SeqConflict(BusError):
    """The thread is not where expected_last_seq says: someone else posted first."""

    hint = "Read what was posted since, then decide anew."

    @property
    def expected(self) -> int:
        """The expected_last_seq of the call."""
        return self._number("expected")

    @property
    def last_seq(self) -> int:
        """The thread's newest seq."""
        return self._number("last_seq")


class ExpectedSeqRequired(BusError):
    """The thread is strict: a post must say what the newest message is that its author knows."""

    hint = "Read the thread to its end, then post with expected_last_seq."


class ThreadClosed(BusError):
    """The thread is closed or archived and takes no posts."""

    hint = "Open it again with set_state(), or post to another thread."


class CursorInvalid(BusError):
    """A position is of another history of the thread, or past its head (both in `metadata`)."""

    hint = "Join the thread again to learn where it is now."


class QuotaExceeded(BusError):
    """A cap of the server is reached. Waiting does not help."""

    hint = "Close something first, such as another wait of this agent."


class StorageFull(BusError):
    """The server's disk is full."""

    hint = "Make room on the server, then try again."


class Unavailable(BusError):
    """The server cannot take the call now; nothing was done."""

    retryable = True
    hint = "Try again a little later."


class Draining(Unavailable):
    """The server is shutting down; nothing was done."""


class StoreBusy(Unavailable):
    """The server has more to store than it can take in; nothing was done."""


class StoreFailed(Unavailable):
    """The server's store cannot be read or written, or its file is lost; nothing was done."""

    hint = "Look into the server's log: it says what the store met, and what to do."


class Unreachable(Unavailable):
    """No answer came: the server does not run, is elsewhere, or the connection broke."""

    hint = "Check that the server runs and that its address is right."


class InternalError(BusError):
    """The server failed. Please report it, with the incident."""

    hint = "Look for the incident in the server's log."

    @property
    def incident(self) -> str:
        """Id under which the server's log has it; "" if it gave none."""
        return self.metadata.get("incident", "")


class ProtocolError(BusError):
    """A response breaks the contract. Nothing of it was used; positions stay where they were.

    The server, or a proxy in front of it, is broken or another program.
    """

    hint = "Check that a ThreadBus server has this address, and what is in between."

    def __init__(self, message: str) -> None:
        super().__init__(message, code="INTERNAL")


class OutcomeUnknown(BusError):
    """Nobody can say whether it was done: the answer was lost, or the time was up without one.

    Attributes:
        request_id: That of the post; repeating the post with it is safe. "" for other calls.
    """

    retryable = True
    hint = "Repeat the post with the same request_id; for anything else, look first."

    def __init__(self, message: str, *, request_id: str, code: str, reason: str = "") -> None:
        super().__init__(message, code=code, reason=reason)
        self.request_id = request_id


class CursorLost(BusError):
    """The read position is not one of the thread's history any more: messages may be missing.

    `reason` is "CURSOR_AHEAD" (the thread ends before it) or "EPOCH_CHANGED" (the thread was made
    anew, perhaps with the whole store).

    Attributes:
        position: Where the thread handle stands now: what comes next is after it.
        requested: The position that was lost.
    """

    hint = "Call follow() or wait() again to go on from the new position."

    def __init__(self, message: str, *, reason: str, position: Cursor, requested: Cursor) -> None:
        super().__init__(message, code="OUT_OF_RANGE", reason=reason)
        self.position = position
        self.requested = requested
