"""README and docs in a newcomer's reading order, all on one server and in one folder."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doc_examples import MODEL, at_the_prompt, blocks, commands, matches, page, program
from tests.json_lines import line
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.shell import BUSY

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Terminal:
    """A folder, and the environment of the newcomer's shell there."""

    folder: Path
    environment: Mapping[str, str]

    async def run(self, script: str) -> str:
        """Run a shell script; returns what it prints."""
        done = await self._run("sh", "-ec", script)
        assert done[0] == 0, f"{script}\n{done[1]}"
        return done[1]

    async def python(self, text: str) -> str:
        """Run a Python program; returns what it prints."""
        done = await self._run(sys.executable, "-c", text)
        assert done[0] == 0, done[1]
        return done[1]

    async def _run(self, *command: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(60):
                shown, _ = await process.communicate()
        finally:
            if process.returncode is None:  # it failed: kill what it has started
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0, BUSY.sub("", shown.decode())


@pytest.fixture
async def server(tmp_path: Path, chosen_store: None) -> AsyncIterator[ServerProcess]:
    with ServerProcess(tmp_path / "threadbus.db") as running:
        yield running


@pytest.fixture
def terminal(server: ServerProcess, tmp_path: Path) -> Terminal:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "my-model").write_text(MODEL, "utf-8")
    (programs / "my-model").chmod(0o755)
    threadbus = f'#!/bin/sh\nexec {sys.executable} -m bus_client.cli "$@"\n'
    (programs / "threadbus").write_text(threadbus, "utf-8")
    (programs / "threadbus").chmod(0o755)
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("THREADBUS")}
    own = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "THREADBUS_SERVER": server.address,
    }
    return Terminal(tmp_path, inherited | own)


@pytest.mark.sqlite
async def test_each_page_works_after_those_before_it(
    server: ServerProcess,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await readme(server, terminal)
    await shell_page(terminal)
    await sdk_page(server, terminal, monkeypatch, capsys)
    for command, _ in commands(page("docs/ghz.md")):
        await terminal.run(command)
    await running_page(server, terminal)


async def readme(server: ServerProcess, terminal: Terminal) -> None:
    """Its commands print what it shows, and its program runs."""
    text = page("README.md")
    # The same line, but with a free port and a file in the test's folder.
    listening = server.announcement.replace(server.address, "127.0.0.1:7420")
    assert f"$ threadbus serve\n{listening.replace(str(server.db), server.db.name)}\n" in text
    for command, shown in commands(text):
        printed = await terminal.run(command)
        assert matches(shown, printed), f"{command} printed {printed!r}"
    (snippet,) = blocks(text, "python")
    printed = await terminal.python(snippet.replace("127.0.0.1:7420", server.address))
    assert printed.splitlines()[-1] == "2 reviewer looks good"


async def shell_page(terminal: Terminal) -> None:
    """Its three lines respond, its loop ends with the thread, its files are imported."""
    lines, loop, _, importing = blocks(page("docs/shell.md"), "sh")
    assert (await terminal.run(lines)).startswith("design #4 · ")
    assert "TESTS PASS." in await terminal.run("threadbus read design")

    async def waits() -> bool:
        listed = await terminal.run("threadbus agents --presence waiting")
        return "reviewer" in listed.split()

    running = asyncio.create_task(terminal.run("set +e\n" + loop))
    try:
        await until_known(waits)
        await terminal.run("threadbus thread close design --as coder")
        assert (await running).endswith("reviewer offline\n")
    finally:
        running.cancel()
    for day in ("1", "2"):
        text = line("talk", "coder", f"day {day}") + line("talk", "coder", "ok")
        (terminal.folder / f"talk-{day}.jsonl").write_text(text, "utf-8")
    counts = (await terminal.run(importing)).splitlines()
    assert counts == ["2 posted, 0 were there already, in 1 thread"] * 2


async def sdk_page(
    server: ServerProcess,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its snippets print what it shows."""
    monkeypatch.chdir(terminal.folder)
    monkeypatch.setenv("XDG_DATA_HOME", terminal.environment["XDG_DATA_HOME"])
    namespace: dict[str, Any] = {}
    name = "docs/sdk.md"
    for block in at_the_prompt(name):
        await block.at(server.address).run(namespace)
        assert capsys.readouterr().out == block.shown, f"{name}, line {block.line}"
    script = program(name, 'agent="scribe"').at(server.address)
    assert await terminal.python(script.text) == script.shown


async def running_page(server: ServerProcess, terminal: Terminal) -> None:
    """Its backup is taken while the server runs, and served with a new epoch."""
    _, backup, restore = blocks(page("docs/running.md"), "sh")
    read, show = "threadbus read talk", "threadbus thread show talk --json"
    before, shown = await terminal.run(read), await terminal.run(show)
    await terminal.run(backup)
    await terminal.run("threadbus post talk 'after the backup' --as coder")
    server.stop()
    await terminal.run(restore)
    server.start()
    assert await terminal.run(read) == before
    assert epoch(await terminal.run(show)) != epoch(shown)


def epoch(shown: str) -> str:
    """Returns the epoch of the thread that `thread show` printed."""
    (found,) = [part for part in shown.split(", ") if part.startswith('"epoch"')]
    return found
