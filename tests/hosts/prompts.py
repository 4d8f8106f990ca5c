"""What a model is shown and what it replies, whichever API carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a host offers to the model."""

    name: str
    """As the host calls it, such as `mcp__threadbus__bus_post`."""
    namespace: str = ""
    """Where the API names groups of tools: the tool's group."""
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The JSON schema of its arguments."""
    freeform: bool = False
    """It takes a text instead of arguments."""

    def means(self, name: str) -> bool:
        """Returns whether this is the tool `name`, with whatever the host puts before that."""
        return self.name.endswith(name) and not self.name.removesuffix(name)[-1:].isalnum()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt."""

    role: str
    """`system`, `developer`, `user` or `assistant`; `call` for the model's own calls of tools, and
    `tool` for their results."""
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to the model."""

    api: str
    """`anthropic`, `chat`, `responses` or `gemini`."""
    model: str
    stream: bool
    tools: tuple[Tool, ...]
    pieces: tuple[Piece, ...]

    @property
    def results(self) -> list[str]:
        """The results of all calls of tools so far, as the host shows them to the model."""
        return [piece.text for piece in self.pieces if piece.role == "tool"]

    def tool(self, name: str) -> Tool | None:
        """Returns the tool that the host offers for `name`; None if it offers none."""
        return next((tool for tool in self.tools if tool.means(name)), None)

    def roles(self, text: str) -> list[str]:
        """Returns the role of each piece that contains `text`."""
        return [piece.role for piece in self.pieces if text in piece.text]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model replies: a text, or a call of a tool."""

    number: int
    """Distinguishes the replies of a model; ids are made from it."""
    text: str = ""
    tool: Tool | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Those of a freeform tool are `{"input": TEXT}`."""
