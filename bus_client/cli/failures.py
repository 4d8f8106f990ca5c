"""What a failed call means to a shell: an exit code, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_client.cli.streams import complain
from bus_client.cli.text import dumps, safe

if TYPE_CHECKING:
    from bus_client import BusError

FAILED, USAGE, NOTHING_NEW, UNREACHABLE, CONFLICT, DENIED = range(1, 7)

# The SDK's exceptions by name; the nearest in an exception's family counts. With a hint in this
# program's words where the SDK's speaks of Python.
_MEANINGS: dict[str, tuple[int, str]] = {
    "BusError": (FAILED, ""),
    "InvalidArgument": (USAGE, ""),
    "CredentialsError": (
        FAILED,
        "Set THREADBUS_TOKEN to a token; or THREADBUS_CREDENTIALS, XDG_DATA_HOME or HOME to where "
        "your tokens can be kept.",
    ),
    "MessageTooLarge": (DENIED, "Shorten it, or put it where others can fetch it."),
    "Unauthenticated": (DENIED, "Pass the right token: THREADBUS_TOKEN or --token-file."),
    "TokenExpired": (DENIED, "Get a new one from the server's operator."),
    "AccessDenied": (DENIED, "An operator's token may do it: THREADBUS_TOKEN or --token-file."),
    "NotFound": (FAILED, ""),
    "ThreadNotFound": (FAILED, "threadbus thread list shows them, threadbus thread create adds."),
    "MessageNotFound": (FAILED, "threadbus thread show tells the first and the newest seq."),
    "AgentNotFound": (FAILED, "threadbus agents lists them, threadbus register adds one."),
    "AlreadyExists": (CONFLICT, ""),
    "ThreadExists": (CONFLICT, "Use it as it is, or take another name."),
    "AgentExists": (
        CONFLICT,
        "Take another name, or pass its token: THREADBUS_TOKEN. At an address where it is kept, "
        "threadbus register NAME --show-token prints it. An operator can register a name that was "
        "only imported: threadbus register NAME --token-file FILE.",
    ),
    "RequestIdReused": (CONFLICT, "It is message #{error.seq}; a new message needs a new one."),
    "SeqConflict": (
        CONFLICT,
        "Read what is new (--after {error.expected}), then post with --expect {error.last_seq}.",
    ),
    "ExpectedSeqRequired": (
        CONFLICT,
        "Read what is new, then post with --expect SEQ of the newest.",
    ),
    "ThreadClosed": (CONFLICT, "threadbus thread open opens it again."),
    "CursorInvalid": (CONFLICT, "threadbus thread show tells what it holds."),
    "CursorLost": (CONFLICT, "Go on there: --after {error.position.after_seq}."),
    "QuotaExceeded": (DENIED, "End something first, such as another wait of this agent."),
    "StorageFull": (DENIED, "Make room on the server's disk."),
    "Unavailable": (UNREACHABLE, ""),
    "Unreachable": (UNREACHABLE, "Does it run? Is --server right? threadbus serve starts one."),
    "InternalError": (FAILED, ""),
    "ProtocolError": (FAILED, "Is --server right? threadbus doctor looks at what answers there."),
    "OutcomeUnknown": (FAILED, "Post it again with --request-id {error.request_id}: it is safe."),
}


def tell(error: BusError, *, json: bool, message: str = "", hint: str = "") -> int:
    """Says on stderr what happened; answers the exit code that stands for it.

    `message` and `hint` are said instead of the error's own, by verbs that know better.
    """
    family = (kind.__name__ for kind in type(error).__mro__)
    code, usual = next(_MEANINGS[name] for name in family if name in _MEANINGS)
    usual = usual.format(error=error) if usual else error.hint
    if error.hint != type(error).hint:  # it knows better than its class
        usual = error.hint
    if getattr(error, "request_id", None) == "":  # not a post: repeating may not be safe
        usual = "Look whether it was done before you repeat it."
    message, hint = message or error.message, hint or usual
    if json:
        document = {
            "code": error.code,
            "reason": error.reason,
            "message": message,
            "hint": hint,
            "retryable": error.retryable,
        }
        complain(dumps(document))
    else:
        complain(f"threadbus: {safe(message)}")
        if hint:
            complain(f"  {safe(hint)}")
    return code
