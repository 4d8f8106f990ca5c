"""The errors of the server. `status.py` maps them to gRPC status codes.

Exception
├── BusError                    sent to the caller; the message is for people
│   │                           the request:
│   ├── ValidationFailed        fields are missing or invalid, or it cannot be parsed
│   ├── MessageTooLarge         a post exceeds a size limit
│   ├── ContentBlocked          a text contains what looks like a key, and those are refused
│   ├── MethodUnknown           the server does not have the method
│   ├── ServiceUnknown          the server does not have the service of a health check
│   │                           the caller:
│   ├── TokenInvalid            no token where one is required, or an invalid or revoked one
│   ├── TokenExpired            the token was rotated, or its lifetime is over
│   ├── AccessDenied            the caller is not allowed to do this
│   │                           what the request names:
│   ├── ThreadNotFound
│   ├── MessageNotFound
│   ├── AgentNotFound
│   ├── ThreadExists            the name is taken
│   ├── AgentExists             it is registered with another token or none, or was unregistered
│   ├── RequestIdReused         the request_id was used for a different post
│   │                           the state of the thread:
│   ├── SeqConflict             expected_last_seq is not the newest seq
│   ├── ExpectedSeqRequired     it is strict, and expected_last_seq is missing
│   ├── ThreadClosed            it is closed or archived
│   ├── CursorInvalid           a cursor is past its head, or of another epoch
│   │                           limits:
│   ├── RateLimited             more posts a minute than allowed; retry after the delay
│   ├── QuotaExceeded           a quota is used up; retrying soon does not help
│   ├── StorageFull             the disk is full
│   │                           nothing was done, retry later:
│   ├── Draining                the server is shutting down
│   ├── StoreBusy               no room in a queue or budget, a late request, or a locked store
│   ├── StoreFailed             the file is lost, or cannot be read or written
│   │                           it is unknown whether anything was stored:
│   ├── OutcomeUnknown          the store failed during a commit
│   └── Internal                a bug
├── StoreBug                    an unexpected error of the store; callers get Internal
├── StoreLost                   the file was removed, replaced or damaged: the process ends
└── StoreRefused                the file cannot be used: the server does not start
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Self


class Ends(Protocol):
    """The two ends of a thread's log: see Head in store/commands.py."""

    @property
    def epoch(self) -> str: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def seq(self) -> int: ...


class BusError(Exception):
    """An error that is sent to the caller.

    Nothing was stored, unless it is Internal or OutcomeUnknown: with these, that is unknown. If it
    ends a PostMessages stream, this is true of the batches that have no response.

    The class attributes are sent, too: `status.py` makes the google.rpc error detail of each that
    is set.
    """

    #: (field path, description) of each invalid field; an empty path is the whole request.
    violations: Sequence[tuple[str, str]] = ()
    #: (type, name) of each resource that does not exist or is taken.
    resources: Sequence[tuple[str, str]] = ()
    #: Seconds after which to retry, for RetryInfo; None: none is sent.
    retry_delay: float | None = None
    #: What is limited, for QuotaFailure; empty: none is sent.
    quota: str = ""

    def __init__(self, message: str, metadata: Mapping[str, object] | None = None) -> None:
        """`metadata`: that of ErrorInfo, with the keys that errors.proto lists."""
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}

    def without_traceback(self) -> Self:
        """Clear traceback, cause and context. Returns the error itself.

        Call it on an error that is kept after it was caught: the frames of its traceback hold the
        request and everything that was loaded for it.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class ValidationFailed(BusError):
    """The request cannot be parsed, or fields of it are missing or invalid."""

    def __init__(self, *violations: tuple[str, str]) -> None:
        super().__init__(
            "; ".join(f"{field}: {text}" if field else text for field, text in violations)
        )
        self.violations = violations


class MessageTooLarge(BusError):
    """A post is larger than allowed."""

    def __init__(self, field: str, *, size: int, limit: int) -> None:
        """`field`: its path; empty: the whole message. Sizes are in bytes."""
        what = field or "the message"
        super().__init__(
            f"{what} has {size:,} bytes; the limit is {limit:,}: shorten it, split it, "
            "or post a link to it",
            {"limit": limit, "size": size},
        )
        self.violations = ((field, f"at most {limit:,} bytes"),)


class ContentBlocked(BusError):
    """A text contains what looks like a key or a token, and the server refuses those."""

    def __init__(self, rule: str, field: str) -> None:
        """`rule`: what it looks like, by its name. `field`: the path of the text."""
        # Neither the message nor its log may contain the text.
        super().__init__(
            f"{field} contains what looks like a secret ({rule}), and this server stores none; "
            "remove it, or say where it is kept",
            {"rule": rule},
        )
        self.violations = ((field, f"looks like a secret: {rule}"),)


class TokenInvalid(BusError):
    """No token where one is required, or one that is malformed, unknown or revoked."""


class TokenExpired(BusError):
    """The token was rotated and its grace is over, or its lifetime is."""

    def __init__(self) -> None:
        super().__init__("the token expired: it was replaced by a new one, or its lifetime is over")


class AccessDenied(BusError):
    """The caller is not allowed to do this."""


class ThreadNotFound(BusError):
    """One or more threads do not exist."""

    def __init__(self, names: Iterable[str], similar: Sequence[str] = ()) -> None:
        """`similar`: names of existing threads that differ from one of `names` only by case."""
        names = list(names)
        listed = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        there = f"there is {', '.join(similar)}" if similar else ""
        super().__init__(f"no thread {listed}; {there or 'create it first, or check the name'}")
        self.names, self.similar = names, similar
        self.resources = [("thread", name) for name in names[:20]]

    def seen_through(self, prefixes: tuple[str, ...]) -> "ThreadNotFound":
        """Returns the error for a token with thread prefixes: similar names may be hidden from it.

        `prefixes`: the token's; empty: it has none.
        """
        if not prefixes or not self.similar:
            return self
        similar = [name for name in self.similar if name.startswith(prefixes)]
        return ThreadNotFound(self.names, similar)


class MessageNotFound(BusError):
    """The thread has no such message."""

    def __init__(self, thread: str, seq: int, head: Ends) -> None:
        if seq >= head.first_seq:
            text = f"no message {seq} in thread {thread}; its newest is {head.seq}"
        else:
            kept = (
                f"its oldest is {head.first_seq}" if head.first_seq <= head.seq else "no other is"
            )
            text = f"message {seq} of thread {thread} is not kept any more; {kept}"
        super().__init__(text)
        self.resources = [("message", f"{thread}/{seq}")]


class AgentNotFound(BusError):
    """One or more agents are not registered."""

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        super().__init__(
            f"no agent {', '.join(names)}; check the name, or register the agent first"
        )
        self.resources = [("agent", name) for name in names]


class MethodUnknown(BusError):
    """The server does not have the method."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no method {path[:100]} here: if the name is right, this server is older "
            "than the client; upgrade it (GetServerInfo returns its version)"
        )


class ServiceUnknown(BusError):
    """A health check named a service that the server does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no service {name}")


class ThreadExists(BusError):
    """The thread's name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"thread {name} already exists; join it, or choose another name")
        self.resources = [("thread", name)]


class AgentExists(BusError):
    """The agent's name is registered with another token or none, or was unregistered."""

    def __init__(self, name: str, *, unregistered: bool = False) -> None:
        if unregistered:
            message = (
                f"agent {name} was unregistered; choose another name, or ask an operator to "
                f"register it again: threadbus register {name} --token-file FILE"
            )
        else:
            message = (
                f"agent {name} is registered with another token or none; use its token, or another "
                "name"
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
    """expected_last_seq is not the seq of the thread's newest entry."""

    def __init__(self, expected: int, last_seq: int) -> None:
        super().__init__(
            f"expected_last_seq is {expected}, but the thread is at {last_seq}; read what is new, "
            "reconsider, and post again",
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
        super().__init__(f"thread {name} is closed or archived; reopen it before you post")


class CursorInvalid(BusError):
    """A cursor is of another epoch, or past the head."""

    def __init__(self, head: Ends, *, past_head: bool) -> None:
        """`past_head`: False if the epochs differ."""
        if past_head:
            message = f"the cursor is past the thread's newest message, {head.seq}"
        else:
            message = f"the thread now has the epoch {head.epoch}: read it again from the start"
        ends = {"first_seq": head.first_seq, "head_seq": head.seq, "epoch": head.epoch}
        super().__init__(message, ends)


class RateLimited(BusError):
    """There were too many posts. Nothing was done."""

    def __init__(self, whose: str, limit: int, delay: float) -> None:
        """`limit`: posts a minute. `delay`: seconds until there is room for this one."""
        # Rounded up: with less, a client that obeys would be refused again.
        self.retry_delay = math.ceil(delay * 1000) / 1000
        super().__init__(
            f"posts {whose} are limited to {limit:,} a minute; nothing was done, retry in "
            f"{self.retry_delay:,.3g} s",
            {"limit": limit},
        )


class QuotaExceeded(BusError):
    """A quota, such as the number of open waits, is used up. Retrying soon does not help."""

    def __init__(self, quota: str, limit: int, advice: str) -> None:
        """`quota`: what is limited, in the plural. `advice`: what the caller can do."""
        super().__init__(f"{quota} are limited to {limit:,}; {advice}", {"limit": limit})
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
    """There is no room in a queue or budget, a request came too late, or the store is locked.

    Nothing was done.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; nothing was done, retry shortly")
        self.retry_delay = random.uniform(0.5, 1.0)  # noqa: S311 - as above


class Internal(BusError):
    """A bug. Whether anything was stored is unknown."""

    def __init__(self, incident: str) -> None:
        """`incident`: the id of the log entry with the traceback."""
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
    """The store failed during a commit. Whether anything was stored is unknown.

    Sent without details, like a broken connection: clients retry a post with its request_id.
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
    """The store cannot be used. The message says why."""
