"""Reports failed calls to the shell: a message, a hint, and an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus_client.cli.streams import print_stderr
from bus_client.cli.text import dumps, safe

if TYPE_CHECKING:
    from bus_client import BusError

#: The exit codes from 1; 0 is success.
FAILED, USAGE, NOTHING_NEW, UNREACHABLE, CONFLICT, DENIED = range(1, 7)

#: The hint for a server that does not respond.
SERVER_HINT = "Is the server running, and is --server right? threadbus serve starts a server."

# Exit code and hint by the name of the SDK's exception, or of its nearest base class listed here.
# Hints refer to this program's options. If a hint is empty, the SDK's is used.
_MEANINGS: dict[str, tuple[int, str]] = {
    "BusError": (FAILED, ""),
    "InvalidArgument": (USAGE, ""),
    "CredentialsError": (
        FAILED,
        "Set THREADBUS_TOKEN to a token; or say where your tokens can be stored: a file in "
        "THREADBUS_CREDENTIALS, or a folder in XDG_DATA_HOME or HOME.",
    ),
    "MessageTooLarge": (DENIED, "Shorten the message, or post a link to its content."),
    "ContentBlocked": (DENIED, "Replace the secret if others may have seen it."),
    "Unauthenticated": (
        DENIED,
        "The token is that of --token-file, else of THREADBUS_TOKEN, else the one stored for --as "
        "NAME (threadbus login). An operator creates one: threadbus token create NAME.",
    ),
    "TokenExpired": (DENIED, "Get a new token from the server's operator."),
    "AccessDenied": (
        DENIED,
        "Add --as NAME for an agent that may do this, or ask an operator, whose token goes in "
        "THREADBUS_TOKEN or --token-file.",
    ),
    "NotFound": (FAILED, ""),
    "ThreadNotFound": (
        FAILED,
        "threadbus thread list shows the threads; threadbus thread create adds one.",
    ),
    "MessageNotFound": (
        FAILED,
        "threadbus thread show shows the newest seq, and the oldest one that is kept.",
    ),
    "AgentNotFound": (FAILED, "threadbus agents shows the agents; threadbus register adds one."),
    "AlreadyExists": (CONFLICT, ""),
    "ThreadExists": (CONFLICT, "Use the existing thread, or choose another name."),
    "AgentExists": (
        CONFLICT,
        "If the agent was registered elsewhere, run threadbus register NAME --show-token there, "
        "and threadbus login here. If its token is lost, an operator gives it a new one (threadbus "
        "agents reset-token NAME --token-file FILE), or registers it again if it was unregistered.",
    ),
    "RequestIdReused": (
        CONFLICT,
        "The id belongs to message #{error.seq}; use another id for a new message.",
    ),
    "SeqConflict": (
        CONFLICT,
        "Read the new messages (--after {error.expected}), then post with "
        "--expect {error.last_seq}.",
    ),
    "ExpectedSeqRequired": (
        CONFLICT,
        "Read the new messages, then post with --expect and the newest seq.",
    ),
    "ThreadClosed": (CONFLICT, "threadbus thread open reopens it."),
    "CursorInvalid": (CONFLICT, "threadbus thread show --json shows the newest seq and the epoch."),
    "CursorLost": (
        CONFLICT,
        "Wait again to continue; with --after, from {error.position.after_seq}.",
    ),
    "QuotaExceeded": (DENIED, "threadbus serve --help explains the server's limits."),
    "RateLimited": (DENIED, "Wait, then post again: the message says for how long."),
    "StorageFull": (DENIED, "Free space on the server's disk."),
    "Unavailable": (UNREACHABLE, ""),
    "Unreachable": (UNREACHABLE, SERVER_HINT),
    "TlsFailed": (UNREACHABLE, ""),
    "InternalError": (FAILED, ""),
    "ProtocolError": (FAILED, "Check --server; threadbus doctor examines what answers there."),
    "OutcomeUnknown": (
        FAILED,
        "Post it again with --request-id {error.request_id}; it cannot be posted twice.",
    ),
}


def report(error: BusError, *, json: bool, message: str = "", hint: str = "") -> int:
    """Print the error to stderr. Returns the exit code for it.

    Args:
        error: The error to report.
        json: Whether to print it as JSON.
        message: Printed instead of the error's own message, if not empty.
        hint: Printed instead of the usual hint, if not empty.
    """
    names = (kind.__name__ for kind in type(error).__mro__)
    code, usual = next(_MEANINGS[name] for name in names if name in _MEANINGS)
    usual = usual.format(error=error) if usual else error.hint
    if error.hint != type(error).hint:  # set on this error: more specific than its class's
        usual = error.hint
    if getattr(error, "request_id", None) == "":  # not a post: repeating it may not be safe
        usual = "Check whether the call took effect before you repeat it."
    message, hint = message or error.message, hint or usual
    if json:
        document = {
            "code": error.code,
            "reason": error.reason,
            "message": message,
            "hint": hint,
            "retryable": error.retryable,
        }
        print_stderr(dumps(document))
    else:
        print_stderr(f"threadbus: {safe(message)}")
        if hint:
            print_stderr(f"  {safe(hint)}")
    return code
