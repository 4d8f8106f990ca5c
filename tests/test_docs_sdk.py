"""What docs/sdk.md says is true: its snippets run in order, and print what it shows."""

import ast
import inspect
import re
import subprocess
import sys
import types
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bus_client
from tests.serving import ServerProcess

PAGE = (Path(__file__).parent.parent / "docs/sdk.md").read_text("utf-8")
ADDRESS = "127.0.0.1:7420"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block of Python, the line of the page that it begins at, and what is shown below it."""

    line: int
    text: str
    shown: str


def snippets() -> list[Snippet]:
    """All of the page."""
    found = re.finditer(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", PAGE, re.M | re.S)
    return [Snippet(PAGE.count("\n", 0, m.start(1)), m[1], m[2] or "") for m in found]


def at_the_prompt() -> list[Snippet]:
    """Those that follow on one another at the prompt of `python -m asyncio`."""
    return [snippet for snippet in snippets() if "bus_client.sync" not in snippet.text]


def program(containing: str) -> Snippet:
    """The one that is a program of its own."""
    (found,) = (snippet for snippet in snippets() if containing in snippet.text)
    return found


async def run(snippet: Snippet, namespace: dict[str, Any]) -> None:
    """Do as the prompt does, which awaits what is awaited outside of any function."""
    code = compile(
        "\n" * snippet.line + snippet.text,  # so that errors name the line of the page
        "docs/sdk.md",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    running = types.FunctionType(code, namespace)()
    if inspect.iscoroutine(running):
        await running


def run_process(*arguments: str, cwd: Path) -> str:
    """Run Python; what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
async def test_the_snippets_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    namespace: dict[str, Any] = {}
    blocks = at_the_prompt()
    assert len(blocks) > 15
    with ServerProcess(tmp_path / "threadbus.db") as server:
        for block in blocks:
            here = block.text.replace(ADDRESS, server.address)
            await run(Snippet(block.line, here, block.shown), namespace)
            assert capsys.readouterr().out == block.shown, f"docs/sdk.md, line {block.line}"
        script = program('agent="scribe"')
        printed = run_process("-c", script.text.replace(ADDRESS, server.address), cwd=tmp_path)
        assert printed == script.shown


@pytest.mark.slow
def test_the_test_that_it_shows_passes(tmp_path: Path) -> None:
    (tmp_path / "test_shown.py").write_text(program("def test_").text, "utf-8")
    plain = ["-p", "no:asyncio", "-p", "no:timeout", "-p", "no:cacheprovider"]
    assert "1 passed" in run_process("-m", "pytest", "-q", *plain, cwd=tmp_path)


def test_every_error_is_in_its_table() -> None:
    table = PAGE[PAGE.index("## Errors") : PAGE.index("## Without asyncio")]
    for name in bus_client.__all__:
        exported = getattr(bus_client, name)
        if inspect.isclass(exported) and issubclass(exported, bus_client.BusError):
            assert f"`{name}`" in table
    for parent, children in re.findall(r"^\| `(\w+)`(?::|, of it) ([^|]+)", table, re.M):
        for child in re.findall(r"`(\w+)`", children):
            assert issubclass(getattr(bus_client, child), getattr(bus_client, parent))


def test_what_it_shows_can_be_pasted() -> None:
    """A blank line ends a block at the prompt, and only there."""
    for snippet in at_the_prompt():
        lines = snippet.text.splitlines()
        for before, line in pairwise(lines):
            dedented = before.startswith(" ") and line and not line.startswith((" ", ")", "}"))
            continued = re.match(r"(except|else|elif|finally)\b", line)
            assert not dedented or continued, f"docs/sdk.md, after {before!r}"
