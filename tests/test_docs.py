"""What README and docs say is true: their snippets run, and the tests they name exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import ServerProcess

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

#: Commands that other tests run, or that would run this one.
ELSEWHERE = ("scripts/demo", "scripts/test")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Each `$ command` of the README with the lines shown below it."""
    for block in _blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            if command not in ELSEWHERE:
                yield command, shown


def _matches(shown: list[str], printed: str) -> bool:
    """Whether `printed` is what is shown, where `…` stands for anything."""
    pattern = "\n".join(".*".join(re.escape(piece) for piece in line.split("…")) for line in shown)
    return re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL) is not None


@pytest.mark.slow
def test_the_readmes_commands_print_what_it_shows(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    commands = list(_commands())
    assert commands[0][0] == "threadbus serve"
    with ServerProcess(tmp_path / "threadbus.db") as server:
        # The same line, but for a port that is free and a file in a folder of the test's own.
        shown = commands[0][1][0].replace("127.0.0.1:7420", server.address)
        assert server.announcement == shown.replace("threadbus.db", str(server.db))
        environment["THREADBUS_SERVER"] = server.address
        for command, lines in commands[1:]:
            done = subprocess.run(
                shlex.split(command),
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env=environment,
                timeout=60,
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
            assert _matches(lines, done.stdout), f"{command} printed {done.stdout!r}"
        (snippet,) = _blocks("python")
        script = tmp_path / "snippet.py"
        script.write_text(snippet.replace("127.0.0.1:7420", server.address), "utf-8")
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "2 reviewer looks good"


def test_the_readme_is_short() -> None:
    assert len(README.split()) < 800


def test_the_links_lead_somewhere() -> None:
    clients = (ROOT / "clients").glob("*/README.md")
    suite = ROOT / "tests/conformance/README.md"
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *clients, suite]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_test_that_the_guarantees_name_exists() -> None:
    existing = {
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    guarantees = (ROOT / "docs/guarantees.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+\.py::\w+)`", guarantees))
    assert len(named) > 20
    assert not named - existing
