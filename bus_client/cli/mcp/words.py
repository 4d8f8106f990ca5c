"""Messages, people, requests and errors as text for a model.

A line that begins a message has its number after a # at the start, behind the thread's name if
several are shown; all other lines of a message are indented, so that none can look like the
beginning of another. Sizes are in bytes of UTF-8: no host counts a text as longer than that.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.people import presence_name
from bus_client.cli.text import count, safe, safe_lines
from bus_client.cli.transcript import state_name

if TYPE_CHECKING:
    from bus_client import BusError, Message, Participant, Thread

#: Hosts cut or hide longer results: one of 12 kB loses its middle in Codex.
MAX_RESULT = 8_000
#: Of one message, unless it is read alone.
MAX_TEXT = 3_000
_MOST_PEOPLE, _MOST_NAMES = 20, 8  # in a line
_MOST_NOTES = 3
_MOST_FILES, _LONGEST_NAME = 8, 100  # of a message; bytes of a file's name
_LONGEST_HEAD = 2_000  # bytes; of a server that keeps its limits, none is as long
_LONGEST_TOPIC, _LONGEST_ERROR = 1_000, 2_000  # bytes, as shown
_LONGEST_CLUSTER = 32  # characters that are kept together
_MARKS = ("Mn", "Mc", "Me", "Cf")  # Unicode's categories of what changes the character before it


def message_text(
    message: Message,
    *,
    reader: str,
    with_thread: bool = False,
    offset: int = 0,
    most: int = MAX_TEXT,
) -> str:
    """Returns a message, such as `#42 coder @reviewer re #40: text`.

    Args:
        message: The message. Its text may be cut off by the server.
        reader: The name of the agent that reads it.
        with_thread: Begin with the thread's name.
        offset: The bytes of the text to leave out.
        most: The bytes of the text to show, as it is shown; the rest is left out, which is said.
    """
    head = _cut(" ".join(_head(message, reader, with_thread=with_thread)), _LONGEST_HEAD)
    whole = message.content.encode()
    text = whole[offset:].decode(errors="ignore")
    shown, cut = _fitting(text, most)
    lines = [f"{head}: {shown}" if shown else head]
    size, end = max(message.content_size, len(whole)), offset + len(cut.encode())
    if end < size:
        lines.append(
            f"  … cut; bus_read seq={message.seq} offset={end} for the rest, to {size:,} bytes"
        )
    for file in message.attachments[:_MOST_FILES]:
        name = _cut(safe(file.filename or file.url or "without a name"), _LONGEST_NAME)
        lines.append(f"  [file {name}, {file.size:,} bytes, not shown]")
    if more := len(message.attachments[_MOST_FILES:]):
        lines.append(f"  [{count(more, 'more file')}, not shown]")
    return "\n".join(lines)


def _head(message: Message, reader: str, *, with_thread: bool) -> Iterator[str]:
    kinds, kind = bus_client.MessageKind, message.kind
    if with_thread:
        yield safe(message.thread)
    yield f"#{message.seq}"
    if kind == kinds.MESSAGE_KIND_NOTICE:
        yield "notice of the bus"  # not what an agent named "notice" posts
        return
    if kind == kinds.MESSAGE_KIND_THREAD:
        yield "thread changed by"
    yield safe(message.sender)
    if message.sender_kind == bus_client.AgentKind.AGENT_KIND_HUMAN:
        yield "(human)"
    if message.posted_by:
        yield f"(posted by {safe(message.posted_by)})"
    asked = list(message.expect_reply.agents)
    if mentions := [name for name in message.mentions if name not in asked]:
        yield _names(mentions, "@", " ")
    if message.handoff_to:
        yield f"hands off to {safe(message.handoff_to)}"
    if reader in asked:
        yield f"asks you (answer with reply_to={message.seq})"
        asked.remove(reader)
    if asked:
        yield f"asks {_names(asked)}"
    if message.reply_to:
        yield f"re #{message.reply_to}"
    if kind == kinds.MESSAGE_KIND_EDIT:
        yield f"edit of #{message.edit_of}"
    elif message.edit_seq:
        yield f"(edited in #{message.edit_seq})"
    priorities = bus_client.Priority
    if message.priority == priorities.PRIORITY_URGENT:
        yield "urgent"
    elif message.priority == priorities.PRIORITY_HIGH:
        yield "high priority"


def _names(names: Sequence[str], before: str = "", between: str = ", ") -> str:
    named = between.join(f"{before}{safe(name)}" for name in names[:_MOST_NAMES])
    return f"{named} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else named


def _fitting(text: str, most: int) -> tuple[str, str]:
    """Returns the beginning of a text that takes `most` bytes when shown: as shown, and itself."""
    shown = _indented(text)
    if len(shown.encode()) <= most:
        return shown, text
    low, high = 0, min(len(text), most)  # the first always fits
    while low < high:
        middle = (low + high + 1) // 2
        if len(_indented(text[:middle]).encode()) <= most:
            low = middle
        else:
            high = middle - 1
    cut = low
    while cut > max(low - _LONGEST_CLUSTER, 1) and _continues(text, cut):
        cut -= 1
    return _indented(text[:cut]), text[:cut]


def _continues(text: str, place: int) -> bool:
    """Returns whether a character is shown together with the one before it, as in an emoji."""
    return text[place - 1] == "\u200d" or unicodedata.category(text[place]) in _MARKS


def _indented(text: str) -> str:
    return "\n  ".join(safe_lines(text))


def person(found: Participant) -> str:
    """Returns a participant, such as `reviewer waiting (read #6)`."""
    human = found.kind == bus_client.AgentKind.AGENT_KIND_HUMAN
    name = f"{safe(found.agent)}{' (human)' if human else ''}"
    return f"{name} {presence_name(found.presence)} (read #{found.read_seq})"


def people(participants: Sequence[Participant]) -> str:
    """Returns participants in a line: at most 20, who is present first, and how many more."""
    # In the order of Presence: waiting, working, … offline; and last who was never seen, 0.
    present = sorted(participants, key=lambda found: found.presence or math.inf)
    named = [person(found) for found in present[:_MOST_PEOPLE]]
    more = len(participants) - len(named)
    return ", ".join([*named, f"{more} more"] if more else named)


def thread_text(thread: Thread, *, most: int = _LONGEST_TOPIC) -> str:
    """Returns a thread, such as `design, open, newest #42: the topic`.

    Args:
        thread: The thread.
        most: The bytes of the topic to show, as it is shown.
    """
    stage = f", stage {safe(thread.stage)}" if thread.stage else ""
    topic = f": {_cut(safe(thread.topic), most)}" if thread.topic else ""
    return f"{safe(thread.name)}, {state_name(thread)}{stage}, newest #{thread.head_seq}{topic}"


def _cut(line: str, most: int) -> str:
    whole = line.encode()
    return line if len(whole) <= most else f"{whole[:most].decode(errors='ignore')} …"


def oldest_fitting(texts: Iterable[str], most: int) -> list[str]:
    """Returns as many of the first texts as take `most` bytes, each with a line's end."""
    fitting, size = [], 0
    for text in texts:
        size += len(text.encode()) + 1
        if size > most:
            break
        fitting.append(text)
    return fitting


def newest_fitting(texts: Sequence[str], most: int) -> list[str]:
    """Returns as many of the last texts as take `most` bytes, each with a line's end, in order."""
    return oldest_fitting(reversed(texts), most)[::-1]


def bounded(lines: Iterable[str], most: int = MAX_RESULT) -> str:
    """Returns the lines as a text of at most `most` bytes; says so if some are left out."""
    kept, size = [], 0
    for line in lines:
        size += len(line.encode()) + 1
        if size > most - 50:
            kept.append("… and more that is not shown")
            break
        kept.append(line)
    return "\n".join(kept)


def some_of(lines: Sequence[str]) -> list[str]:
    """Returns the first three lines, and how many more there are."""
    more = len(lines) - _MOST_NOTES
    return [*lines[:_MOST_NOTES], *([f"… and so in {count(more, 'more thread')}"] * (more > 0))]


#: What to do next, by the SDK's exception, or the nearest of its base classes.
_NEXT = {
    "BusError": "",
    "InvalidArgument": "Correct it and call the tool again.",
    "CredentialsError": "Tell your user.",
    "MessageTooLarge": "Post a shorter text, or say where the rest is.",
    "ContentBlocked": "Post it without the secret.",
    "Unauthenticated": "Tell your user to store a valid token with threadbus login.",
    "AccessDenied": "Tell your user if you need this.",
    "ThreadNotFound": "bus_join creates it; bus_who lists the threads.",
    "MessageNotFound": "bus_read shows the newest messages and their numbers.",
    "AgentNotFound": "bus_who shows who is there; an agent is known once its host has started.",
    "AgentExists": "Tell your user to configure another name (threadbus mcp --as NAME).",
    "SeqConflict": "Call bus_wait or bus_read for what is new, then decide again.",
    "ExpectedSeqRequired": "Call bus_read for the newest number, and pass it as expect_seq.",
    "ThreadClosed": "Stop waiting on it and tell your user.",
    "CursorInvalid": "Call bus_join again: the thread was replaced or is shorter.",
    "CursorLost": "Call bus_wait again: it continues from there.",
    "QuotaExceeded": "Tell your user.",
    "StorageFull": "Tell your user that the bus's disk is full.",
    "Unavailable": "Call it again in a minute; tell your user if it stays so.",
    "Unreachable": "Go on without the bus, try again later, and tell your user if it stays so.",
    "TlsFailed": "Tell your user.",
    "InternalError": "Tell your user.",
    "ProtocolError": "Tell your user.",
    "OutcomeUnknown": "Call bus_read for the newest messages before you repeat it.",
}


#: The arguments of tools, by the fields that they are sent in, where the names differ.
_ARGUMENTS = {
    "content": "text",
    "expect_reply.within": "within_s",
    "expected_last_seq": "expect_seq",
}


def error_text(error: BusError) -> str:
    """Returns what went wrong, and what to call next, in two sentences."""
    names = (kind.__name__ for kind in type(error).__mro__)
    next_step = next(_NEXT[name] for name in names if name in _NEXT)
    message = _cut(safe(error.message[:1_000]), _LONGEST_ERROR).rstrip(". ")
    invalid = isinstance(error, bus_client.InvalidArgument)  # begins with the name of a field
    first, separator, rest = message.partition(":" if invalid else " ")
    if invalid or first in _ARGUMENTS:
        message = _ARGUMENTS.get(first, first) + separator + rest
    elif first.isalpha():  # not an address
        message = message[:1].upper() + message[1:]
    return f"{message}. {next_step}".rstrip()
