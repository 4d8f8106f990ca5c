"""The errors of the server. They know no status codes: `status.py` has the table.

Exception
├── BusError                    sent to the caller; its message says what to do next
│   │                           the request:
│   ├── ValidationFailed        fields are missing or wrong
│   ├── MessageTooLarge         a post exceeds a size limit
│   ├── MethodUnknown           the server does not have the method
│   ├── ServiceUnknown          health does not have the service
│   │                           the caller:
│   ├── TokenInvalid            no token where one is required, or an unknown one
│   ├── TokenExpired            the token was rotated
│   ├── AccessDenied            the caller lacks a scope
│   │                           what it names:
│   ├── ThreadNotFound
│   ├── MessageNotFound
│   ├── AgentNotFound
│   ├── ThreadExists            the name is taken
│   ├── AgentExists             the name is taken, by another token
│   ├── RequestIdReused         for a different post
│   │                           the state of the thread:
│   ├── SeqConflict             expected_last_seq is not its newest seq
│   ├── ExpectedSeqRequired     it is strict
│   ├── ThreadClosed            it is closed or archived
│   ├── CursorInvalid           the cursor is past its head, or of another epoch
│   │                           limits:
│   ├── QuotaExceeded           waiting does not help
│   ├── StorageFull             the disk is full
│   │                           nothing was done, retry later:
│   ├── Draining                the server is shutting down
│   ├── StoreBusy               no room in a queue or budget
│   ├── StoreFailed             the file cannot be read or written
│   │                           it is unknown whether anything was stored:
│   ├── OutcomeUnknown          the store failed during a commit
│   └── Internal                a bug
├── StoreBug                    an unexpected error of the store; callers get Internal
├── StoreLost                   the file was removed, replaced or damaged: the process ends
└── StoreRefused                the file cannot be used: the server does not start
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Self


class BusError(Exception):
    """An error that is sent to the caller. Nothing was stored, except as stated below.

    With Internal and OutcomeUnknown it is unknown whether anything was stored.

    The class attributes are sent with the message; `status.py` turns each that is set into the
    google.rpc detail for it.
    """

    #: (field path, description) of each invalid field.
    violations: Sequence[tuple[str, str]] = ()
    #: (type, name) of each resource that does not exist or is taken.
    resources: Sequence[tuple[str, str]] = ()
    #: Seconds after which to retry; None: do not.
    retry_delay: float | None = None
    #: What is limited, if a limit was reached.
    quota: str = ""

    def __init__(self, message: str, metadata: Mapping[str, object] | None = None) -> None:
        """`metadata`: for programs, as errors.proto lists it."""
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}

    def without_traceback(self) -> Self:
        """Clear traceback, cause and context. Returns the error itself.

        Call it on an error that outlives its handler: the frames of a traceback hold the request
        and everything that was loaded for it.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class ValidationFailed(BusError):
    """Fields of the request are missing or wrong."""

    def __init__(self, *violations: tuple[str, str]) -> None:
        super().__init__(
            "; ".join(f"{field}: {text}" if field else text for field, text in violations)
        )
        self.violations = violations


class MessageTooLarge(BusError):
    """A post is larger than allowed."""

    def __init__(self, field: str, *, size: int, limit: int) -> None:
        what = field or "the message"
        super().__init__(
            f"{what} has {size:,} bytes, the limit is {limit:,}; shorten it, split it, "
            "or post a link to it",
            {"limit": limit, "size": size},
        )
        self.violations = ((field, f"at most {limit:,} bytes"),)


class TokenInvalid(BusError):
    """No token where one is required, or an unknown one."""


class TokenExpired(BusError):
    """The token expired."""

    def __init__(self) -> None:
        super().__init__("the token expired: it was replaced by another one")


class AccessDenied(BusError):
    """The token does not allow this."""


class ThreadNotFound(BusError):
    """No such thread."""

    def __init__(self, names: Iterable[str], similar: Sequence[str] = ()) -> None:
        """`similar`: threads whose names differ from `names` only by case."""
        names = list(names)
        listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        there = f"there is {', '.join(similar)}" if similar else ""
        super().__init__(f"no thread {listed}; {there or 'create it first, or check the name'}")
        self.similar = similar
        self.resources = [("thread", name) for name in names[:20]]


class MessageNotFound(BusError):
    """No such message."""

    def __init__(self, thread: str, seq: int, head: int) -> None:
        super().__init__(f"no message {seq} in thread {thread}; its newest is {head}")
        self.resources = [("message", f"{thread}/{seq}")]


class AgentNotFound(BusError):
    """No such agent."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        super().__init__(
            f"no agent {', '.join(names)}; check the name: agents register before they are named"
        )
        self.resources = [("agent", name) for name in names]


class MethodUnknown(BusError):
    """The server does not have the method."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no method {path[:100]} here: if the name is right, this server is older "
            "than the client; upgrade it (GetServerInfo tells its version)"
        )


class ServiceUnknown(BusError):
    """Health was asked about a service that the server does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no service {name}")


class ThreadExists(BusError):
    """The thread's name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"thread {name} exists already; join it, or choose another name")
        self.resources = [("thread", name)]


class AgentExists(BusError):
    """The agent's name is taken, by another token."""

    def __init__(self, name: str, *, unregistered: bool = False) -> None:
        if unregistered:
            message = (
                f"agent {name} was unregistered, and its name cannot be used again; choose another"
            )
        else:
            message = (
                f"agent {name} is registered with another token; use that token, or another name"
            )
        super().__init__(message)
        self.resources = [("agent", name)]


class RequestIdReused(BusError):
    """The request_id was used for a different post."""

    def __init__(self, request_id: str, seq: int) -> None:
        super().__init__(
            f"request_id {request_id} was used for message {seq}, which differs; "
            "use a new request_id for a new message",
            {"seq": seq},
        )


class SeqConflict(BusError):
    """expected_last_seq is not the seq of the thread's newest message."""

    def __init__(self, expected: int, last_seq: int) -> None:
        super().__init__(
            f"expected the thread at {expected}, it is at {last_seq}; read what is new, "
            "rethink, and post again",
            {"expected": expected, "last_seq": last_seq},
        )


class ExpectedSeqRequired(BusError):
    """The thread is strict and expected_last_seq is missing."""

    def __init__(self, name: str, head: int) -> None:
        super().__init__(
            f"thread {name} is strict: read up to its newest message, {head}, and post with "
            "expected_last_seq"
        )


class ThreadClosed(BusError):
    """The thread is closed or archived."""

    def __init__(self, name: str) -> None:
        super().__init__(f"thread {name} is closed; it accepts posts when it is opened again")


class CursorInvalid(BusError):
    """A cursor of another epoch, or past the head."""

    def __init__(self, *, head_seq: int, epoch: str, past_head: bool) -> None:
        if past_head:
            message = f"the cursor is past the thread's newest message, {head_seq}"
        else:
            message = f"the thread was recreated, with epoch {epoch}: read it again from the start"
        super().__init__(message, {"first_seq": 1, "head_seq": head_seq, "epoch": epoch})


class QuotaExceeded(BusError):
    """A limit is reached. Waiting does not help."""

    def __init__(self, quota: str, limit: int, advice: str) -> None:
        super().__init__(f"{quota} is limited to {limit:,}; {advice}", {"limit": limit})
        self.quota = quota


class StorageFull(BusError):
    """The disk is full."""

    def __init__(self) -> None:
        super().__init__("the server's disk is full; free some space, then post again")


class Draining(BusError):
    """The server is shutting down. Nothing was done."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down; nothing was done, retry shortly")
        # Jittered: clients refused together must not reconnect together.
        self.retry_delay = random.uniform(0.2, 1.0)  # noqa: S311


class StoreBusy(BusError):
    """There is no room in a queue or budget. Nothing was done."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; nothing was done, retry shortly")
        self.retry_delay = random.uniform(0.5, 1.0)  # noqa: S311 - as above


class Internal(BusError):
    """A bug. Whether anything was stored is unknown."""

    def __init__(self, incident: str) -> None:
        """`incident`: the id of the log entry that has the traceback."""
        super().__init__(
            f"a bug in the server; its log has the details under {incident}. Whether anything was "
            "stored is unknown: retry a post with the same request_id",
            {"incident": incident},
        )


class StoreFailed(BusError):
    """The store's file cannot be read or written, or is lost. Nothing was done."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the server's store failed: {why}; nothing was done, retry later")
        self.retry_delay = random.uniform(1.0, 2.0)  # noqa: S311 - as above


class OutcomeUnknown(BusError):
    """The store failed during a commit. Whether the command was stored is unknown.

    Sent like a broken connection: clients retry a post with the same request_id.
    """

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the server's store failed during a commit: {why}. Whether anything was stored is "
            "unknown: retry a post with the same request_id"
        )


class StoreBug(Exception):
    """An unexpected error of the store. Whether anything was stored is unknown."""


class StoreLost(Exception):
    """The store's file was removed, replaced or damaged. This process must no longer use it.

    The message says what was found.
    """


class StoreRefused(Exception):
    """The store cannot be opened. The message says why and what to do."""
