"""The examples in README and docs: commands and programs, and what these print."""

import ast
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: The server that the pages name.
ADDRESS = "127.0.0.1:7420"

#: The `my-model` of docs/shell.md: prints the last message's content in capitals.
MODEL = """#!/bin/sh
tr a-z A-Z | sed 's/.*"CONTENT": "\\([^"]*\\)".*/\\1/'
"""

#: Commands that other tests run, or that would run this one.
_ELSEWHERE = ("scripts/demo", "scripts/test", "threadbus serve")


def page(name: str) -> str:
    """Returns the text of a page, such as `docs/sdk.md`."""
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Returns a page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Returns each `$ command` of a page with the lines shown below it."""
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            if not command.startswith(_ELSEWHERE):
                yield command, shown


def matches(shown: list[str], printed: str) -> bool:
    """Returns whether `printed` is what is shown, where `…` stands for anything."""
    pattern = "\n".join(".*".join(re.escape(piece) for piece in line.split("…")) for line in shown)
    return re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block of Python, the line of the page that it starts at, and what is shown below it."""

    page: str
    line: int
    text: str
    shown: str

    def at(self, address: str) -> "Snippet":
        """Returns the same for a server at another address."""
        return Snippet(self.page, self.line, self.text.replace(ADDRESS, address), self.shown)

    async def run(self, namespace: dict[str, Any]) -> None:
        """Run it as the asyncio prompt does, which awaits at top level."""
        code = compile(
            "\n" * self.line + self.text,  # so that errors name the line of the page
            self.page,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        running = types.FunctionType(code, namespace)()
        if inspect.iscoroutine(running):
            await running


def snippets(name: str) -> list[Snippet]:
    """Returns all Python of a page."""
    text = page(name)
    found = re.finditer(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", text, re.M | re.S)
    return [Snippet(name, text.count("\n", 0, m.start(1)), m[1], m[2] or "") for m in found]


def at_the_prompt(name: str) -> list[Snippet]:
    """Returns those that follow on one another at the prompt of `python -m asyncio`."""
    return [snippet for snippet in snippets(name) if "bus_client.sync" not in snippet.text]


def program(name: str, containing: str) -> Snippet:
    """Returns the one that is a program of its own."""
    (found,) = (snippet for snippet in snippets(name) if containing in snippet.text)
    return found


def run_python(*arguments: str, cwd: Path) -> str:
    """Run Python; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
