"""Checks of fields of requests, by the rules in the protos.

Each function takes the path of a field, for the error, and its value. Unless stated otherwise, it
returns the value, and raises ValidationFailed if the value breaks a rule.
"""

import math
import re
from collections.abc import Mapping, Sequence, Sized
from typing import Protocol
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import ValidationFailed
from bus_server.filter import Filter
from bus_server.permissions import SCOPES
from bus_server.statistics import MAX_WINDOW
from bus_server.trim import Trim
from threadbus import limits, names
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Attachment, Cursor, MessageFilter, MessageKind, Priority

_TOKEN_ID = re.compile(r"[0-9a-f]{16}")
_REQUEST_ID = re.compile(r"[ -~]{1,128}")
_MEDIA_TYPE = re.compile(r"[!-.0-~]{1,127}/[!-.0-~ ]{1,127}")


class _Enum(Protocol):
    def keys(self) -> Sequence[str]: ...
    def values(self) -> Sequence[int]: ...


def thread_name(field: str, name: str) -> str:
    """Check the name of a thread. Required."""
    if not names.THREAD.fullmatch(name):
        raise ValidationFailed((field, names.THREAD_RULE if name else "required"))
    return name


def agent_name(field: str, name: str) -> str:
    """Check the name of an agent or another sender: reserved names are allowed. Required."""
    if not names.AGENT.fullmatch(name):
        raise ValidationFailed((field, names.AGENT_RULE if name else "required"))
    return name


def own_agent_name(field: str, name: str) -> str:
    """Check a name that an agent may register: not a reserved one."""
    if agent_name(field, name) in names.RESERVED:
        raise ValidationFailed((field, f"{name} is a reserved name; choose another"))
    return name


def token(field: str, secret: str) -> str:
    """Check a token that the caller generated."""
    if not names.TOKEN.fullmatch(secret):
        raise ValidationFailed((field, names.TOKEN_RULE))
    return secret


def token_id(field: str, value: str) -> str:
    """Check the id of a token. Required."""
    if not _TOKEN_ID.fullmatch(value):
        raise ValidationFailed((field, "16 characters of 0-9 a-f" if value else "required"))
    return value


def scopes(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Check the scopes of a token. Returns each once, in the order of SCOPES."""
    at_most(field, values, limits.MAX_FILTER_VALUES)
    for at, scope in enumerate(values):
        if scope not in SCOPES:
            raise ValidationFailed((f"{field}[{at}]", f"one of {', '.join(SCOPES)}"))
    return tuple(scope for scope in SCOPES if scope in values)


def thread_prefixes(field: str, prefixes: Sequence[str]) -> tuple[str, ...]:
    """Check the thread prefixes of a token: no name may begin with two of them."""
    at_most(field, prefixes, limits.MAX_THREAD_PREFIXES)
    for at, prefix in enumerate(prefixes):
        thread_name(f"{field}[{at}]", prefix)
    for at, prefix in enumerate(prefixes):
        for other, covering in enumerate(prefixes):
            if other != at and prefix.startswith(covering):
                reason = f"{covering} in {field}[{other}] covers it: leave it out"
                raise ValidationFailed((f"{field}[{at}]", reason))
    return tuple(prefixes)


def request_id(field: str, value: str) -> str:
    """Check a request_id. It may be empty."""
    if value and not _REQUEST_ID.fullmatch(value):
        raise ValidationFailed((field, "1–128 printable ASCII characters"))
    return value


def number(field: str, value: int) -> int:
    """Check a seq, a size or a count: 0 or greater."""
    if value < 0:
        raise ValidationFailed((field, "must not be negative"))
    return value


def page_size(field: str, value: int) -> int:
    """Returns the size of a page: the default for 0, and no more than the maximum."""
    return min(number(field, value) or limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE)


def trim(
    request: WaitMessagesRequest | ListMessagesRequest | GetMessageRequest,
) -> Trim | None:
    """Returns how a request wants messages shortened; None: not at all."""
    most = number("max_content_bytes", request.max_content_bytes)
    if not most and not request.omit_attachment_data:
        return None
    return Trim(request.omit_attachment_data, most)


def at_most(field: str, values: Sized, most: int, what: str = "") -> None:
    """Check that there are at most `most` values. Returns nothing.

    `what`: their name, for the error.
    """
    if len(values) > most:
        raise ValidationFailed((field, f"at most {most:,} {what}".rstrip()))


def text(field: str, value: str, most: int) -> str:
    """Check a text of at most `most` bytes in UTF-8."""
    if len(value.encode()) > most:
        raise ValidationFailed((field, f"at most {most:,} bytes"))
    return value


def labels(field: str, values: Mapping[str, str]) -> dict[str, str]:
    """Check labels: their number, and the lengths of keys and values."""
    at_most(field, values, limits.MAX_LABELS, "labels")
    for key, value in values.items():
        if not 1 <= len(key.encode()) <= limits.MAX_LABEL_KEY_BYTES:
            raise ValidationFailed((field, f"keys have 1–{limits.MAX_LABEL_KEY_BYTES} bytes"))
        text(f'{field}["{key}"]', value, limits.MAX_LABEL_VALUE_BYTES)
    return dict(values)


def enum(field: str, value: int, known: _Enum, *, unset: bool = True) -> int:
    """Check a value of the enum `known`. `unset`: whether 0 is allowed."""
    if value not in known.values() or (value == 0 and not unset):
        raise ValidationFailed((field, f"one of {', '.join(known.keys()[0 if unset else 1 :])}"))
    return value


def duration(field: str, value: Duration) -> float:
    """Returns a duration in seconds, 0 or greater."""
    if not -999_999_999 <= value.nanos <= 999_999_999 or abs(value.seconds) > 315_576_000_000:
        raise ValidationFailed((field, "not a valid duration"))
    seconds = value.seconds + value.nanos / 1e9
    if seconds < 0 or (value.seconds > 0 > value.nanos):
        raise ValidationFailed((field, "must not be negative"))
    return seconds


def window(field: str, value: Duration) -> int:
    """Returns a window in seconds, rounded up: 1 to 300."""
    seconds = math.ceil(duration(field, value))
    if not 1 <= seconds <= MAX_WINDOW:
        raise ValidationFailed((field, "more than 0, and up to 5 minutes"))
    return seconds


def update_mask(field: str, mask: FieldMask, known: Sequence[str]) -> list[str]:
    """Returns the fields to set, in the order of `known`. At least one is required."""
    if not mask.paths:
        raise ValidationFailed((field, f"required: some of {', '.join(known)}"))
    at_most(f"{field}.paths", mask.paths, limits.MAX_FILTER_VALUES)
    for at, path in enumerate(mask.paths):
        if path not in known:
            raise ValidationFailed((f"{field}.paths[{at}]", f"one of {', '.join(known)}"))
    return [name for name in known if name in mask.paths]


def mentions(field: str, agents: Sequence[str]) -> list[str]:
    """Returns the agents mentioned in a message: without duplicates, in order."""
    at_most(field, agents, limits.MAX_MENTIONS, "agents")
    return list(dict.fromkeys(agent_name(f"{field}[{at}]", name) for at, name in enumerate(agents)))


def attachments(field: str, files: Sequence[Attachment]) -> Sequence[Attachment]:
    """Check the attachments of a message."""
    at_most(field, files, limits.MAX_ATTACHMENTS, "files")
    for at, file in enumerate(files):
        path = f"{field}[{at}]"
        text(f"{path}.filename", file.filename, limits.MAX_FILENAME_BYTES)
        if set(file.filename) & set("/\\\0") or file.filename in (".", ".."):
            raise ValidationFailed((f"{path}.filename", "a name without a path"))
        if file.media_type and not _MEDIA_TYPE.fullmatch(file.media_type):
            raise ValidationFailed((f"{path}.media_type", "such as text/x-diff"))
        if file.WhichOneof("content") is None:
            raise ValidationFailed((f"{path}.content", "raw or url is required"))
        if file.WhichOneof("content") == "url" and not _absolute(file.url):
            raise ValidationFailed(
                (f"{path}.url", f"an absolute URL of at most {limits.MAX_URL_BYTES:,} bytes")
            )
    return files


def _absolute(url: str) -> bool:
    """Returns whether a URL is absolute, and not too long."""
    # Checked first, because urlsplit caches the URLs that it has parsed.
    if len(url.encode()) > limits.MAX_URL_BYTES:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path))


def cursors(field: str, found: Sequence[Cursor]) -> tuple[tuple[str, int, str, int], ...]:
    """Returns the fields of cursors, of which no two may name the same thread.

    Plain tuples: a Cursor would keep its whole request in memory.
    """
    at_most(field, found, limits.MAX_WAIT_THREADS, "threads")
    for at, cursor in enumerate(found):
        thread_name(f"{field}[{at}].thread", cursor.thread)
        number(f"{field}[{at}].after_seq", cursor.after_seq)
        text(f"{field}[{at}].epoch", cursor.epoch, limits.MAX_EPOCH_BYTES)
        number(f"{field}[{at}].hidden_seq", cursor.hidden_seq)
        if cursor.hidden_seq > cursor.after_seq:
            raise ValidationFailed((f"{field}[{at}].hidden_seq", "at most after_seq"))
    if len({cursor.thread for cursor in found}) < len(found):
        raise ValidationFailed((field, "each thread once"))
    return tuple((each.thread, each.after_seq, each.epoch, each.hidden_seq) for each in found)


def message_filter(field: str, wanted: MessageFilter, caller: str) -> Filter:
    """Returns a filter for a caller. `caller`: its name; empty: it is anonymous."""
    at_most(f"{field}.senders", wanted.senders, limits.MAX_FILTER_VALUES, "agents")
    for at, sender in enumerate(wanted.senders):
        agent_name(f"{field}.senders[{at}]", sender)
    enum(f"{field}.min_priority", wanted.min_priority, Priority)
    at_most(f"{field}.kinds", wanted.kinds, limits.MAX_FILTER_VALUES)
    for at, kind in enumerate(wanted.kinds):
        enum(f"{field}.kinds[{at}]", kind, MessageKind, unset=False)
    if wanted.addressed_to_me and not caller:
        raise ValidationFailed(
            (f"{field}.addressed_to_me", "an anonymous caller has no name: register an agent")
        )
    return Filter(wanted, caller)
