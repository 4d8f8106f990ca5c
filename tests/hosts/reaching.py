"""How a model reaches a tool: hosts offer some directly, and others through tools of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.hosts.prompts import Prompt, Tool

#: Called before a tool can be: Claude Code's brings it into the next prompt, Qwen Code's shows how
#: to call it with _CALLER.
_SEARCHES = ("ToolSearch", "tool_search")
_CALLER = "tool_call"
#: Codex's, for JavaScript that calls tools.
_SHELL = "exec"
#: What the script returns if there is no such tool.
NO_TOOL = "There is no such tool."
_JAVASCRIPT = """\
const tool = ALL_TOOLS.find(({name}) => name.endsWith(%s));
if (tool) for (const part of (await tools[tool.name](%s)).content) text(part.text);
else text(%s);"""


@dataclass(frozen=True, slots=True)
class Reach:
    """A call of a tool that the host offers."""

    tool: Tool
    arguments: Mapping[str, Any] = field(default_factory=dict)
    search: bool = False
    """The tool that was wanted has not been called: the next prompt says how to."""


def reach(prompt: Prompt, name: str, arguments: Mapping[str, Any]) -> Reach | None:
    """Returns the next call on the way to the tool `name`; None if the host does not offer it."""
    if tool := prompt.tool(name):
        return Reach(tool, arguments)
    if (shell := prompt.tool(_SHELL)) and shell.freeform:
        words = (json.dumps(word) for word in (name, dict(arguments), NO_TOOL))
        return Reach(shell, {"input": _JAVASCRIPT % tuple(words)})
    if caller := prompt.tool(_CALLER):
        for result in prompt.results:
            if found := re.search(rf'"name":\s*"(\w*{name})"', result):
                return Reach(caller, {"name": found[1], "arguments": dict(arguments)})
    calls = [piece.text for piece in prompt.pieces if piece.role == "call"]
    for search in _SEARCHES:
        searched = any(call.startswith(search) and name in call for call in calls)
        if not searched and (tool := prompt.tool(search)):
            return Reach(tool, {"query": name}, search=True)
    return None
