"""Threads as Markdown, to be read as it is or rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bus_client.cli.text import safe, safe_lines
from bus_client.cli.transcript import UNKNOWN_TIME, moment, remarks

if TYPE_CHECKING:
    from bus_client import Message, Thread


def heading(thread: Thread) -> Iterator[str]:
    """A thread's name and topic."""
    yield f"# {safe(thread.name)}"
    yield ""
    if thread.topic:
        yield _plain(thread.topic)
        yield ""


def section(message: Message) -> Iterator[str]:
    """A message: who, where, when, and what was said as a quotation.

    A quotation ends all that is begun in it: a code fence that is left open, a list, a heading
    cannot reach into the next message.
    """
    time = moment(message.create_time)
    when = f"{time:%Y-%m-%d %H:%M:%S} UTC" if time is not None else UNKNOWN_TIME
    about = [f"**{_plain(message.sender)}** #{message.seq}", when]
    about += [_plain(remark) for remark in remarks(message)]
    yield " · ".join(about)
    yield ""
    if message.content:
        for line in safe_lines(message.content):
            yield f"> {line}" if line else ">"
        yield ""


def _plain(text: str) -> str:
    """The text in one line, none of it taken for Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|~&!])", r"\\\1", safe(text))
