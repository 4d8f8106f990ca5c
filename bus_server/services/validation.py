"""The rules of single fields, as message.proto, thread.proto and agent.proto state them."""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from bus_server.errors import ValidationFailed
from bus_server.filter import Filter
from threadbus.v1.message_pb2 import Attachment, Cursor, MessageFilter, MessageKind, Priority

RESERVED = frozenset(("anonymous", "system", "operator", "me", "all", "everyone", "here", "none"))

_THREAD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}")
_REQUEST_ID = re.compile(r"[ -~]{1,128}")
_MEDIA_TYPE = re.compile(r"[!-.0-~]{1,127}/[!-.0-~ ]{1,127}")


class _Enum(Protocol):
    def keys(self) -> Sequence[str]: ...
    def values(self) -> Sequence[int]: ...


def thread_name(field: str, name: str) -> str:
    """A thread's name."""
    if not _THREAD.fullmatch(name):
        raise ValidationFailed(
            (field, "1–128 of A-Z a-z 0-9 . _ -, first a letter or digit" if name else "required")
        )
    return name


def agent_name(field: str, name: str) -> str:
    """An agent's name, reserved ones included: they are senders, too."""
    if not _AGENT.fullmatch(name):
        raise ValidationFailed(
            (field, "1–63 of a-z 0-9 . _ -, first a letter or digit" if name else "required")
        )
    return name


def own_agent_name(field: str, name: str) -> str:
    """A name that an agent may have."""
    if agent_name(field, name) in RESERVED:
        raise ValidationFailed((field, f"{name} is a reserved name; choose another"))
    return name


def token(field: str, secret: str) -> str:
    """A token of the caller's making."""
    if not _TOKEN.fullmatch(secret):
        raise ValidationFailed((field, "32–128 characters of A-Z a-z 0-9 _ -"))
    return secret


def request_id(field: str, value: str) -> str:
    """A request_id, or none."""
    if value and not _REQUEST_ID.fullmatch(value):
        raise ValidationFailed((field, "1–128 printable ASCII characters"))
    return value


def number(field: str, value: int) -> int:
    """A seq, a size or a count."""
    if value < 0:
        raise ValidationFailed((field, "must not be negative"))
    return value


def limit(field: str, value: int, *, default: int, most: int) -> int:
    """A page's size."""
    return min(number(field, value) or default, most)


def text(field: str, value: str, most: int) -> str:
    """A short text of at most so many bytes."""
    if len(value.encode()) > most:
        raise ValidationFailed((field, f"at most {most:,} bytes"))
    return value


def labels(field: str, values: Mapping[str, str]) -> dict[str, str]:
    """Free labels."""
    if len(values) > 32:
        raise ValidationFailed((field, "at most 32 labels"))
    for key, value in values.items():
        if not 1 <= len(key.encode()) <= 63:
            raise ValidationFailed((field, "keys have 1–63 bytes"))
        text(f'{field}["{key}"]', value, 256)
    return dict(values)


def enum(field: str, value: int, known: _Enum, *, unset: bool = True) -> int:
    """A value of an enum that this server knows; `unset` tells whether 0 will do."""
    if value not in known.values() or (value == 0 and not unset):
        raise ValidationFailed((field, f"one of {', '.join(known.keys()[0 if unset else 1 :])}"))
    return value


def duration(field: str, value: Duration) -> float:
    """A duration in seconds."""
    if not -999_999_999 <= value.nanos <= 999_999_999 or abs(value.seconds) > 315_576_000_000:
        raise ValidationFailed((field, "not a valid duration"))
    seconds = value.seconds + value.nanos / 1e9
    if seconds < 0 or (value.seconds > 0 > value.nanos):
        raise ValidationFailed((field, "must not be negative"))
    return seconds


def update_mask(field: str, mask: FieldMask, known: Sequence[str]) -> set[str]:
    """Names of the fields to set."""
    if not mask.paths:
        raise ValidationFailed((field, f"required: some of {', '.join(known)}"))
    if len(mask.paths) > 100:
        raise ValidationFailed((f"{field}.paths", "at most 100"))
    for at, path in enumerate(mask.paths):
        if path not in known:
            raise ValidationFailed((f"{field}.paths[{at}]", f"one of {', '.join(known)}"))
    return set(mask.paths)


def mentions(field: str, names: Sequence[str]) -> list[str]:
    """Agents named in a message: without duplicates, in the order given."""
    if len(names) > 32:
        raise ValidationFailed((field, "at most 32 agents"))
    return list(dict.fromkeys(agent_name(f"{field}[{at}]", name) for at, name in enumerate(names)))


def attachments(field: str, files: Sequence[Attachment]) -> Sequence[Attachment]:
    """Files that go with a message."""
    if len(files) > 16:
        raise ValidationFailed((field, "at most 16 files"))
    for at, file in enumerate(files):
        path = f"{field}[{at}]"
        text(f"{path}.filename", file.filename, 255)
        if set(file.filename) & set("/\\\0") or file.filename in (".", ".."):
            raise ValidationFailed((f"{path}.filename", "a name without a path"))
        if file.media_type and not _MEDIA_TYPE.fullmatch(file.media_type):
            raise ValidationFailed((f"{path}.media_type", "such as text/x-diff"))
        if file.WhichOneof("content") is None:
            raise ValidationFailed((f"{path}.content", "raw or url is required"))
        if file.WhichOneof("content") == "url" and not _absolute(file.url):
            raise ValidationFailed((f"{path}.url", "an absolute URL of at most 2,048 bytes"))
    return files


def _absolute(url: str) -> bool:
    if len(url.encode()) > 2_048:  # looked at first: urlsplit keeps what it was last asked for
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path))


def cursors(field: str, found: Sequence[Cursor], most: int) -> Sequence[Cursor]:
    """Positions in threads, each thread once."""
    if len(found) > most:
        raise ValidationFailed((field, f"at most {most:,} threads"))
    for at, cursor in enumerate(found):
        thread_name(f"{field}[{at}].thread", cursor.thread)
        number(f"{field}[{at}].after_seq", cursor.after_seq)
        text(f"{field}[{at}].epoch", cursor.epoch, 32)
    if len({cursor.thread for cursor in found}) < len(found):
        raise ValidationFailed((field, "each thread once"))
    return list(found)


def message_filter(field: str, wanted: MessageFilter, caller: str) -> Filter:
    """A filter, meant by `caller` (empty: one without a name)."""
    if len(wanted.senders) > 100:
        raise ValidationFailed((f"{field}.senders", "at most 100 agents"))
    for at, sender in enumerate(wanted.senders):
        agent_name(f"{field}.senders[{at}]", sender)
    enum(f"{field}.min_priority", wanted.min_priority, Priority)
    if len(wanted.kinds) > 100:
        raise ValidationFailed((f"{field}.kinds", "at most 100"))
    for at, kind in enumerate(wanted.kinds):
        enum(f"{field}.kinds[{at}]", kind, MessageKind, unset=False)
    if wanted.addressed_to_me and not caller:
        raise ValidationFailed(
            (f"{field}.addressed_to_me", "anonymous has no name: register an agent")
        )
    return Filter(wanted, caller)
