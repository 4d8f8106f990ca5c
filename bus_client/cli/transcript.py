"""Formats messages and threads as human-readable lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.documents import is_cut
from bus_client.cli.text import safe, safe_lines

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from bus_client import Agent, Message, Thread, ThreadHandle

#: Shown for a time that is not valid.
UNKNOWN_TIME = "unknown time"
_WIDEST = 20  # characters; longer texts break the alignment of a column


class Transcript:
    """Messages as lines with aligned columns: `#12 coder 14:03:22  text`.

    Columns grow with the messages.

    Args:
        colour: Style the lines for a terminal.
        live: Begin with wider columns, for messages that come later.
        several_threads: Begin each line with the thread's name.
    """

    def __init__(self, *, colour: bool, live: bool = False, several_threads: bool = False) -> None:
        self._colour = colour
        self._several_threads = several_threads
        # Widths of the columns so far.
        self._thread = 0
        self._seq, self._sender = (3, 8) if live else (0, 0)

    def lines(
        self,
        messages: Iterable[Message],
        paths: Mapping[tuple[str, int], Sequence[str]] = MappingProxyType({}),
    ) -> Iterator[str]:
        """Yields the lines of the messages, aligned with each other and with earlier ones.

        `paths`: where attachments were saved, as take_files() returns them.
        """
        messages = list(messages)
        for message in messages:
            self._widen(message)
        for message in messages:
            yield from self._lines(message, paths.get((message.thread, message.seq), ()))

    def _widen(self, message: Message) -> None:
        if self._several_threads:
            self._thread = max(self._thread, min(len(safe(message.thread)), _WIDEST))
        self._seq = max(self._seq, len(str(message.seq)) + 1)
        self._sender = max(self._sender, min(len(safe(message.sender)), _WIDEST))

    def _lines(self, message: Message, paths: Sequence[str]) -> Iterator[str]:
        thread = f"{safe(message.thread):{self._thread}} " if self._several_threads else ""
        place = f"{thread}{f'#{message.seq}':>{self._seq}}"
        sender = f"{safe(message.sender):{self._sender}}"
        time = local_time(message.create_time)
        indent = " " * len(f"{place} {sender} {time}  ")
        also = f"({', '.join(map(safe, found))}) " if (found := remarks(message, paths)) else ""
        first, *rest = safe_lines(also + message.content)
        yield f"{self._dim(place)} {self._bold(sender)} {self._dim(time)}  {first}".rstrip()
        if is_cut(message):
            shown, size = len(message.content.encode()), message.content_size
            whole = f"threadbus read {safe(message.thread)} --seq {message.seq}"
            rest.append(f"… cut off after {shown:,} of {size:,} bytes; whole: {whole}")
        for line in rest:
            yield f"{indent}{line}".rstrip()

    def _dim(self, text: str) -> str:
        return click.style(text, dim=True) if self._colour else text

    def _bold(self, text: str) -> str:
        return click.style(text, bold=True) if self._colour else text


def thread_lines(threads: Iterable[Thread]) -> Iterator[str]:
    """Yields a line for each thread: name, state, newest seq and its time, settings, topic."""
    rows = [
        (
            safe(thread.name),
            state_name(thread),
            f"#{thread.head_seq}",
            local_time(thread.update_time),
            safe(" ".join((*_settings(thread), thread.topic))),
        )
        for thread in threads
    ]
    return aligned(rows)


def describe_new_thread(thread: ThreadHandle, *, seen: bool = True) -> str:
    """Returns a note on a new thread, such as `new thread Design; there is also design`.

    Args:
        thread: The thread; `similar` has the names of those that differ only by case.
        seen: Whether any agent will see what is posted there.
    """
    name = "" if not (seen or thread.similar) else f" {safe(thread.name)}"
    also = f"; there is also {', '.join(map(safe, thread.similar))}" if thread.similar else ""
    return f"new thread{name}{also}" + ("" if seen else "; nobody will see this yet")


def _settings(thread: Thread) -> Iterator[str]:
    """Yields the stage, if it is set, and the mode, if it is strict: `[review]`, `[strict]`."""
    if thread.stage:
        yield f"[{thread.stage}]"
    if thread.sync_mode == bus_client.SyncMode.SYNC_MODE_STRICT:
        yield "[strict]"


def state_name(thread: Thread) -> str:
    """Returns `open`, `closed` or `archived`; the number of a state unknown to this version."""
    if thread.state not in bus_client.ThreadState.values():
        return str(thread.state)
    return bus_client.ThreadState.Name(thread.state).removeprefix("THREAD_STATE_").lower()


def kind_name(agent: Agent) -> str:
    """Returns a kind such as `agent` or `human`; the number of one unknown to this version."""
    if agent.kind not in bus_client.AgentKind.values():
        return str(agent.kind)
    return bus_client.AgentKind.Name(agent.kind).removeprefix("AGENT_KIND_").lower()


def to_utc(time: Timestamp) -> datetime | None:
    """Returns the time in UTC; None if it is outside the years 1 to 9999."""
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def local_time(time: Timestamp) -> str:
    """Returns the time in the local zone, with the date unless it is today's.

    For a time that is not valid: `unknown time`.
    """
    try:
        local = time.ToDatetime(tzinfo=UTC).astimezone()
    except (ValueError, OverflowError):  # the latter near the first and last year, in some zones
        return UNKNOWN_TIME
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Returns a time in the largest unit in which it is whole, such as `90 s` or `10 min`."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


def remarks(message: Message, paths: Sequence[str] = ()) -> list[str]:
    """Returns a message's details, such as `edit of #3` or `re #2`; unsafe characters are kept.

    `paths`: where its attachments were saved, as take_files() returns them.
    """
    found = []
    if message.kind == bus_client.MessageKind.MESSAGE_KIND_EDIT:
        found.append(f"edit of #{message.edit_of}")
    elif message.kind == bus_client.MessageKind.MESSAGE_KIND_NOTICE:
        found.append("notice")
    elif message.kind != bus_client.MessageKind.MESSAGE_KIND_CHAT:
        found.append("thread")
    if message.edit_seq:
        found.append(f"edited in #{message.edit_seq}")
    if message.priority not in (
        bus_client.Priority.PRIORITY_UNSPECIFIED,
        bus_client.Priority.PRIORITY_NORMAL,
    ):
        known = message.priority in bus_client.Priority.values()
        name = bus_client.Priority.Name(message.priority) if known else str(message.priority)
        found.append(name.removeprefix("PRIORITY_").lower())
    if message.posted_by:
        found.append(f"by {message.posted_by}")
    if message.reply_to:
        found.append(f"re #{message.reply_to}")
    if message.handoff_to:
        found.append(f"→ {message.handoff_to}")
    asked = message.expect_reply.agents
    if asked:
        within = message.expect_reply.within.seconds + message.expect_reply.within.nanos / 1e9
        found.append(f"asks {', '.join(asked)}{f' within {span(within)}' if within > 0 else ''}")
    text = message.content.lower()
    unseen = [name for name in message.mentions if f"@{name}" not in text and name not in asked]
    found += [f"@{name}" for name in unseen]
    found += [f"{key}={value}" for key, value in sorted(message.labels.items())]
    for file, path in zip_longest(message.attachments, paths[: len(message.attachments)]):
        found.append(f"file {path or file.filename or file.url or '?'}")
    return found


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yields the rows as lines with aligned columns. Rows must have equally many cells."""
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
