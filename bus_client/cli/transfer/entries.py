"""Reads messages to import from JSON lines, in a file of any size."""

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
from bus_client.cli.names import NOT_SENDERS, suggestion
from threadbus.names import AGENT, AGENT_RULE, THREAD, THREAD_RULE

if TYPE_CHECKING:
    from bus_client import Message

#: Maximum bytes of a line. The largest message is shorter, even with every character escaped.
_LONGEST_LINE = 32 * 1024 * 1024

# Fields of a line besides thread, sender and content. `seq` and `kind` are those of the message
# that was exported.
_DETAILS = (
    "seq",
    "kind",
    "reply_to",
    "mentions",
    "handoff_to",
    "priority",
    "wakes",
    "labels",
    "attachments",
    "traceparent",
)
_EXAMPLE = '{"thread": "design", "sender": "coder", "content": "hello"}'
_TYPES = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}


class BadLine(Exception):
    """A line that cannot be imported.

    Attributes:
        number: The number of the line, from 1.
        why: What is wrong with the line, and how to correct it.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number
        self.why = why


class Entries:
    """The messages of a file, by thread.

    Keeps only their offsets in memory: 24 bytes for each run of consecutive lines of one thread.

    Attributes:
        count: The number of messages that index() has found.
    """

    def __init__(self, file: IO[bytes], *, max_content_bytes: int) -> None:
        self._file = file
        self._max_content_bytes = max_content_bytes
        #: By thread, for each run: the number of its first line, and its start and end offsets.
        self._runs: dict[str, array[int]] = {}
        self.count = 0

    def index(self) -> Iterator[int]:
        """Yields each line's size in bytes, while checking and indexing the file.

        Begins at the file's current offset.

        Raises:
            BadLine: A line is not valid. It is the first such line.
        """
        number, end = 0, self._file.tell()
        while line := self._file.readline(_LONGEST_LINE + 1):
            number, start, end = number + 1, end, end + len(line)
            yield len(line)
            if not line.strip():
                continue
            entry = self._parse(line, number)
            runs = self._runs.setdefault(entry.thread, array("Q"))
            if runs and runs[-1] == start:
                runs[-1] = end
            else:
                runs.extend((number, start, end))
            self.count += 1

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def threads(self) -> list[str]:
        """The threads that index() has found, in the order of their first lines."""
        return list(self._runs)

    def first_line(self, thread: str) -> int:
        """Returns the number of a thread's first line."""
        return self._runs[thread][0]

    def of(self, thread: str) -> Iterator[tuple[int, Message]]:
        """Yields a thread's messages in the order of the file, each after its line number.

        Several threads may be read alternately.

        Raises:
            BadLine: The file has changed since index() read it.
        """
        runs = self._runs[thread]
        for at in range(0, len(runs), 3):
            number, position, end = runs[at : at + 3]
            while position < end:
                self._file.seek(position)  # another thread may have been read in the meantime
                line = self._file.readline(_LONGEST_LINE + 1)
                entry: Message | None
                try:
                    entry = self._parse(line, number)
                except BadLine:
                    entry = None  # the line was valid when index() read it
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
                    f'"content" has {size:,} bytes; this server takes at most {most:,}'
                )
        except ValueError as error:
            raise BadLine(number, str(error)) from None
        return entry


class SeqMap:
    """A map from the seqs of one thread in the file to its seqs on the server.

    Stores runs of consecutive seqs. There are few: a new run begins only where the file omits seqs,
    or somebody else has posted to the thread.
    """

    def __init__(self) -> None:
        self._old: list[int] = []  # the first seq of each run, in the file
        self._new: list[tuple[int, int]] = []  # each run's first seq on the server, and its length

    def add(self, old: int, new: int) -> None:
        """Map `old` to `new`. No-op if `old` is 0: the line has no seq.

        If `old` is not above all earlier ones, those are dropped: the file continues with another
        history of the thread.
        """
        if not old:
            return
        if self._old and old < self._old[-1] + self._new[-1][1]:
            self._old, self._new = [], []
        if self._old:
            (began, length) = self._new[-1]
            if (old, new) == (self._old[-1] + length, began + length):
                self._new[-1] = (began, length + 1)
                return
        self._old.append(old)
        self._new.append((new, 1))

    def new(self, old: int) -> int:
        """Returns the seq on the server for `old`; 0 if `old` is not in the map."""
        at = bisect_right(self._old, old) - 1
        if at < 0:
            return 0
        began, length = self._new[at]
        beyond = old - self._old[at]
        return began + beyond if beyond < length else 0


def _entry(line: bytes) -> Message:
    """Returns the message in a line. Raises ValueError if the line is not valid."""
    # Imported only when needed: --help must be fast.
    from google.protobuf.json_format import ParseDict, ParseError

    found = _object(line)
    thread, sender = _text(found, "thread"), _text(found, "sender")
    content = _text(found, "content", needed=not found.get("attachments"))
    if not THREAD.fullmatch(thread):
        raise ValueError(f'"thread" is {thread!r}, but names are {THREAD_RULE}; rename it')
    if not AGENT.fullmatch(sender):
        raise ValueError(
            f'"sender" is {sender!r}, but names are {AGENT_RULE}; rename it{suggestion(sender)}'
        )
    if not content and not found.get("attachments"):
        raise ValueError('"content" is empty, which is valid only with "attachments"')
    entry = bus_client.Message(thread=thread, sender=sender, content=content)
    details = {name: found[name] for name in _DETAILS if name in found}
    if details:
        try:
            ParseDict(details, entry)
        except (ParseError, UnicodeEncodeError) as error:
            raise ValueError(str(error).rstrip(".")) from None
    if sender in NOT_SENDERS and is_imported(entry):
        raise ValueError(f'"sender" is {sender}, a reserved name; rename it')
    return entry


def is_imported(entry: Message) -> bool:
    """Returns whether an entry is a message: neither an edit, nor from or about the server."""
    return entry.kind in (
        bus_client.MessageKind.MESSAGE_KIND_UNSPECIFIED,
        bus_client.MessageKind.MESSAGE_KIND_CHAT,
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode().rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        why = f"{error.msg}, column {error.colno}"
        raise ValueError(f"it is not JSON ({why}); expected a line like {_EXAMPLE}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:  # Python limits the number of digits
        most = f"{sys.get_int_max_str_digits():,}"
        raise ValueError(f"it has a number of more than {most} digits") from None
    if not isinstance(found, dict):
        raise ValueError(f"it is not a JSON object; expected a line like {_EXAMPLE}")  # noqa: TRY004
    return found


def _text(found: dict[str, Any], name: str, *, needed: bool = True) -> str:
    if name not in found:
        if needed:
            raise ValueError(f'it has no "{name}"; expected a line like {_EXAMPLE}')
        return ""
    value = found[name]
    if not isinstance(value, str):
        kind = _TYPES.get(type(value), "a number")
        raise ValueError(f'"{name}" is {kind}; it must be a string')  # noqa: TRY004
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise ValueError(
            f'"{name}" has an unpaired surrogate ({half}); correct or remove it'
        ) from None
    return value
