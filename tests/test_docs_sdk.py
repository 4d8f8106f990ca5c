"""docs/sdk.md is true: its snippets run in order, and print what it shows."""

import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import bus_client
from tests.doc_examples import at_the_prompt, page, program, run_python
from tests.serving import ServerProcess

PAGE = "docs/sdk.md"


@pytest.mark.usefixtures("chosen_store")
@pytest.mark.slow
async def test_the_snippets_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    namespace: dict[str, Any] = {}
    blocks = at_the_prompt(PAGE)
    assert len(blocks) > 15
    with ServerProcess(tmp_path / "threadbus.db") as server:
        for block in blocks:
            await block.at(server.address).run(namespace)
            assert capsys.readouterr().out == block.shown, f"{PAGE}, line {block.line}"
        script = program(PAGE, 'agent="scribe"').at(server.address)
        assert run_python("-c", script.text, cwd=tmp_path) == script.shown


@pytest.mark.slow
def test_the_test_on_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_shown.py").write_text(program(PAGE, "def test_").text, "utf-8")
    plain = ["-p", "no:asyncio", "-p", "no:timeout", "-p", "no:cacheprovider"]
    assert "1 passed" in run_python("-m", "pytest", "-q", *plain, cwd=tmp_path)


def test_every_error_is_in_its_table() -> None:
    whole = page(PAGE)
    table = whole[whole.index("## Errors") : whole.index("## Without asyncio")]
    for name in bus_client.__all__:
        exported = getattr(bus_client, name)
        if inspect.isclass(exported) and issubclass(exported, bus_client.BusError):
            assert f"`{name}`" in table
    for parent, children in re.findall(r"^\| `(\w+)`: ([^|]+)", table, re.M):
        for child in re.findall(r"`(\w+)`", children):
            assert issubclass(getattr(bus_client, child), getattr(bus_client, parent))


def test_the_snippets_can_be_pasted() -> None:
    """At the prompt, a blank line ends a block, and may stand nowhere else."""
    for snippet in at_the_prompt(PAGE):
        lines = snippet.text.splitlines()
        for before, line in pairwise(lines):
            dedented = before.startswith(" ") and line and not line.startswith((" ", ")", "}"))
            continued = re.match(r"(except|else|elif|finally)\b", line)
            assert not dedented or continued, f"{PAGE}, after {before!r}"
