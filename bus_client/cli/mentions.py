"""Finds the agents that a text mentions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import bus_client
from threadbus.limits import MAX_MENTIONS
from threadbus.names import AGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bus_client import BusClient

# `@name`, but not in an address such as me@example.org. Names are lower case, but people and
# keyboards capitalise the first word of a sentence.
_AT_NAME = re.compile(rf"(?<![\w.@+%-])@((?ai:{AGENT.pattern}))(?!\w)")
# Code as in Markdown, between two fences, or after the last one.
_FENCED = re.compile(
    r"^[ ]{0,3}(?P<fence>(?P<mark>[`~])(?P=mark){2,})[^\n`]*$"
    r"(?:.*?^[ ]{0,3}(?P=fence)(?P=mark)*[ \t]*$|.*)",
    re.MULTILINE | re.DOTALL,
)
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_MAX_LOOKUPS = 100  # names in one text to look up


def names_in(text: str) -> list[str]:
    """Returns the different names after an `@` in a text, as typed, without those in code."""
    paragraphs = _PARAGRAPH_END.split(_FENCED.sub("\n\n", text))
    prose = "\n".join(map(_without_inline_code, paragraphs))
    typed: dict[str, str] = {}
    for as_typed in _AT_NAME.findall(prose):
        typed.setdefault(as_typed.lower(), as_typed)
    return list(typed.values())


def _without_inline_code(paragraph: str) -> str:
    """Returns the text without what is between two equal runs of backticks, as in Markdown."""
    runs = list(re.finditer("`+", paragraph))
    following: dict[str, int] = {}
    ends: list[int | None] = [None] * len(runs)  # for each run, the next one that is equal
    for index in reversed(range(len(runs))):
        ends[index] = following.get(runs[index][0])
        following[runs[index][0]] = index
    parts, start, index = [], 0, 0
    while index < len(runs):
        end = ends[index]
        if end is not None:
            parts.append(paragraph[start : runs[index].start()])
            start, index = runs[end].end(), end
        index += 1
    return " ".join((*parts, paragraph[start:]))


async def mentioned_agents(
    bus: BusClient, text: str, mentions: Sequence[str], *, note: Callable[[str], None]
) -> list[str]:
    """Returns the registered agents that `text` mentions, except those in `mentions`.

    Looks up the first 100 names, until there are as many mentions as a message can have. Calls
    `note` with a sentence about each name that is not registered, and one about those left out.

    Raises:
        BusError: An agent could not be looked up.
    """
    found: list[str] = []
    left_out: list[str] = []
    for number, as_typed in enumerate(names_in(text)):
        name = as_typed.lower()
        # Try the name, then the name without trailing punctuation.
        candidates = name, name.rstrip("._-")
        if any(each in mentions or each in found for each in candidates):
            continue
        if number >= _MAX_LOOKUPS or len(found) + len(mentions) >= MAX_MENTIONS:
            left_out.append(f"@{as_typed}")
            continue
        for candidate in candidates:
            if await _is_registered(bus, candidate):
                if candidate not in (*mentions, *found):
                    found.append(candidate)
                break
        else:
            note(f"@{as_typed} is not a registered agent; it mentions nobody.")
    if left_out:
        others = f" and {len(left_out) - 1} more names" if len(left_out) > 1 else ""
        note(
            f"{left_out[0]}{others} mention nobody: a message has at most {MAX_MENTIONS} mentions."
        )
    return found


async def _is_registered(bus: BusClient, name: str) -> bool:
    try:
        await bus.get_agent(name)
    except (bus_client.AgentNotFound, bus_client.InvalidArgument):
        return False
    return True
