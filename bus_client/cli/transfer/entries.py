"""Lines of JSON that are to become messages, in a file of any size."""

from __future__ import annotations

import codecs
import json
import os
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import bus_client
from bus_client.cli.names import NOT_SENDERS, such_as
from threadbus.names import AGENT, AGENT_RULE, THREAD, THREAD_RULE

if TYPE_CHECKING:
    from bus_client import Message

#: Bytes: more than the largest message takes, with every character of it escaped.
_LONGEST_LINE = 32 * 1024 * 1024

# What a line may have besides thread, sender and content. `seq` and `kind` say what it was.
_DETAILS = (
    "seq",
    "kind",
    "reply_to",
    "mentions",
    "handoff_to",
    "priority",
    "labels",
    "attachments",
)
_EXAMPLE = '{"thread": "design", "sender": "coder", "content": "hello"}'
_TYPES = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}


class BadLine(Exception):
    """A line that cannot become a message.

    Attributes:
        number: Of the line, from 1.
        why: What is wrong with it, and what would be right.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number
        self.why = why


class Entries:
    """The messages in a file, thread by thread.

    Nothing of them is kept in memory but where they are: 24 bytes for each stretch of lines of
    one thread.
    """

    def __init__(self, file: IO[bytes], *, max_content_bytes: int) -> None:
        self._file = file
        self._max_content_bytes = max_content_bytes
        self._stretches: dict[str, array[int]] = {}  # number of the first line, start, end; …
        #: How many messages `index` found.
        self.count = 0

    def index(self) -> Iterator[int]:
        """Reads and checks the file from where it stands; yields each line's size in bytes.

        Raises:
            BadLine: The first line that is not what it should be.
        """
        number, end = 0, self._file.tell()
        while line := self._file.readline(_LONGEST_LINE + 1):
            number, start, end = number + 1, end, end + len(line)
            yield len(line)
            if not line.strip():
                continue
            entry = self._parse(line, number)
            stretches = self._stretches.setdefault(entry.thread, array("Q"))
            if stretches and stretches[-1] == start:
                stretches[-1] = end
            else:
                stretches.extend((number, start, end))
            self.count += 1

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def threads(self) -> list[str]:
        """The threads that `index` found, in the order of their first lines."""
        return list(self._stretches)

    def first_line(self, thread: str) -> int:
        """The number of a thread's first line."""
        return self._stretches[thread][0]

    def of(self, thread: str) -> Iterator[tuple[int, Message]]:
        """A thread's messages in the file's order, each with its line's number.

        Raises:
            BadLine: The file is not any more what it was when `index` read it.
        """
        stretches = self._stretches[thread]
        for at in range(0, len(stretches), 3):
            number, position, end = stretches[at : at + 3]
            while position < end:
                self._file.seek(position)  # others read here, too
                line = self._file.readline(_LONGEST_LINE + 1)
                entry: Message | None
                try:
                    entry = self._parse(line, number)
                except BadLine:
                    entry = None  # which it was not
                if entry is None or entry.thread != thread:
                    raise BadLine(number, "the file was changed while it was imported")
                yield number, entry
                number, position = number + 1, position + len(line)

    def _parse(self, line: bytes, number: int) -> Message:
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError("it is longer than any message can be")  # noqa: TRY301
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            entry = _entry(line)
            size, most = len(entry.content.encode()), self._max_content_bytes
            if most and size > most:
                raise ValueError(  # noqa: TRY301
                    f'"content" has {size:,} bytes; this server takes {most:,}'
                )
        except ValueError as error:
            raise BadLine(number, str(error)) from None
        return entry


class Seqs:
    """Where the messages of a thread went: from their seq in the file to their seq here.

    Kept as stretches that moved alike, which are few: one if nothing was in between.
    """

    def __init__(self) -> None:
        self._old: list[int] = []
        self._new: list[tuple[int, int]] = []  # where the stretch begins here, its length

    def add(self, old: int, new: int) -> None:
        """What was `old` is `new` now; 0 says nothing."""
        if not old:
            return
        if self._old and old < self._old[-1] + self._new[-1][1]:
            self._old, self._new = [], []  # not ascending: the seqs of another history
        if self._old:
            (began, length) = self._new[-1]
            if (old, new) == (self._old[-1] + length, began + length):
                self._new[-1] = (began, length + 1)
                return
        self._old.append(old)
        self._new.append((new, 1))

    def new(self, old: int) -> int:
        """What `old` is now; 0 = it was not in the file before."""
        at = bisect_right(self._old, old) - 1
        if at < 0:
            return 0
        began, length = self._new[at]
        beyond = old - self._old[at]
        return began + beyond if beyond < length else 0


def _entry(line: bytes) -> Message:
    """The message that a line describes; ValueError if it describes none."""
    from google.protobuf.json_format import ParseDict, ParseError  # see documents.py

    found = _object(line)
    thread, sender = _text(found, "thread"), _text(found, "sender")
    content = _text(found, "content", needed=not found.get("attachments"))
    if not THREAD.fullmatch(thread):
        raise ValueError(f'"thread" is {thread!r}: names have {THREAD_RULE}; rename it')
    if not AGENT.fullmatch(sender):
        raise ValueError(
            f'"sender" is {sender!r}: names have {AGENT_RULE}; rename it{such_as(sender)}'
        )
    if sender in NOT_SENDERS:
        raise ValueError(f'"sender" is {sender}, which nobody can be posted for; rename it')
    if not content and not found.get("attachments"):
        raise ValueError('"content" is empty: it must not be, unless there are "attachments"')
    entry = bus_client.Message(thread=thread, sender=sender, content=content)
    details = {name: found[name] for name in _DETAILS if name in found}
    if details:
        try:
            ParseDict(details, entry)
        except (ParseError, UnicodeEncodeError) as error:
            raise ValueError(str(error).rstrip(".")) from None
    return entry


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        why = f"{error.msg}, column {error.colno}"
        raise ValueError(f"it is not JSON ({why}); it should be like {_EXAMPLE}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:  # Python reads no number of more digits
        most = f"{sys.get_int_max_str_digits():,}"
        raise ValueError(f"it has a number of more than {most} digits") from None
    if not isinstance(found, dict):
        raise ValueError(f"it is no JSON object; it should be like {_EXAMPLE}")  # noqa: TRY004
    return found


def _text(found: dict[str, Any], name: str, *, needed: bool = True) -> str:
    if name not in found:
        if needed:
            raise ValueError(f'it has no "{name}"; it should be like {_EXAMPLE}')
        return ""
    value = found[name]
    if not isinstance(value, str):
        kind = _TYPES.get(type(value), "a number")
        raise ValueError(f'"{name}" is {kind}; it must be a text')  # noqa: TRY004
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(f'"{name}" has half a character ({half}); mend or remove it') from None
    return value
