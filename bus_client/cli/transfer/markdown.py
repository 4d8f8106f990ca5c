"""Formats threads as Markdown that is readable both as text and rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bus_client.cli.requests import outcome
from bus_client.cli.text import safe, safe_lines
from bus_client.cli.transcript import UNKNOWN_TIME, remarks, to_utc

if TYPE_CHECKING:
    from bus_client import Message, Request, Thread


def heading(thread: Thread) -> Iterator[str]:
    """Yields the lines of a thread's heading: its name and topic."""
    yield f"# {safe(thread.name)}"
    yield ""
    if thread.topic:
        yield _plain(thread.topic)
        yield ""


def section(message: Message, requests: Sequence[Request], paths: Sequence[str]) -> Iterator[str]:
    """Yields the lines of a message: sender, seq, time and details, then its content as a quote.

    `requests`: those that it made. `paths`: where its attachments were saved.

    The end of a quote ends everything that was opened in it, so that an open code fence, a list or
    a heading cannot affect the next message.
    """
    time = to_utc(message.create_time)
    when = f"{time:%Y-%m-%d %H:%M:%S} UTC" if time is not None else UNKNOWN_TIME
    about = [f"**{_plain(message.sender)}** #{message.seq}", when]
    about += [_plain(remark) for remark in remarks(message, paths)]
    about += [_plain(f"{each.agent}: {outcome(each) or 'not answered'}") for each in requests]
    yield " · ".join(about)
    yield ""
    if message.content:
        for line in safe_lines(message.content):
            yield f"> {line}" if line else ">"
        yield ""


def _plain(text: str) -> str:
    """Returns the text as one line, with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>#|~&!])", r"\\\1", safe(text))
