"""`threadbus top`, on a terminal and in a pipe."""

import asyncio
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.script import scripted
from tests.serving import ServerProcess
from tests.shell import Shell
from tests.terminal import Terminal, on_terminal

pytestmark = pytest.mark.slow

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
FAST = ("top", "--interval", "0.1")


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def assert_restored(terminal: Terminal, modes: list[object]) -> None:
    """Check that the terminal is as it was before the command."""
    assert terminal.written.endswith(b"\x1b[?7h\x1b[?25h" + LEAVE)
    assert terminal.written.count(ENTER) == terminal.written.count(LEAVE)
    assert terminal.modes() == modes


async def test_top_is_live_fits_any_size_and_leaves_with_q(shell: Shell, name: str) -> None:
    with on_terminal(shell, *FAST) as terminal:
        modes = terminal.modes()
        await terminal.until(f"at {shell.server} · ", "delivered", "wake-ups", "process")
        assert terminal.modes() != modes
        post = await asyncio.to_thread(shell.run, "post", name, "hello")
        assert post.code == 0
        await terminal.until("last  thread", f"#1  {name}")
        terminal.resize(38, 60)
        await terminal.until(f"\n{'':10}delivered", f"#1  {name[: 38 - 31]}")
        assert max(map(len, terminal.lines)) <= 38
        terminal.resize(100, 4)
        await terminal.until("messages")
        assert "commits" not in terminal.text
        assert terminal.lines[0].startswith(terminal.text.split(" at ")[0])
        terminal.type("x\x1b[A\x1bOq")  # other keys do nothing
        await terminal.until("messages")
        terminal.type("q")
        assert await terminal.code() == 0
        assert_restored(terminal, modes)


@pytest.mark.parametrize("plain", [False, True])
async def test_ctrl_c_leaves_and_colours_can_be_turned_off(shell: Shell, plain: bool) -> None:
    with on_terminal(shell, *FAST, env={"NO_COLOR": "1"} if plain else {}) as terminal:
        modes = terminal.modes()
        await terminal.until("process")
        terminal.type("\x03")
        assert await terminal.code() == 128 + signal.SIGINT
        assert_restored(terminal, modes)
        assert bool(re.search(rb"\x1b\[[0-9;]*m", terminal.written)) is not plain


async def test_ctrl_z_gives_the_terminal_back_until_top_is_continued(shell: Shell) -> None:
    with on_terminal(shell, *FAST) as terminal:
        modes = terminal.modes()
        await terminal.until("process")
        terminal.type("\x1a")
        await terminal.until_stopped()
        assert_restored(terminal, modes)
        terminal.screen.reset()
        terminal.process.send_signal(signal.SIGCONT)
        await terminal.until("process")
        terminal.process.terminate()
        assert await terminal.code() == 128 + signal.SIGTERM
        assert_restored(terminal, modes)


async def test_a_refusal_is_told_on_the_restored_terminal(tmp_path: Path) -> None:
    async with scripted() as script:  # answers as a server that knows no GetStatus
        with on_terminal(Shell(script.address, tmp_path), *FAST) as terminal:
            modes = terminal.modes()
            assert await terminal.code() == 1
            _, _, after = terminal.written.rpartition(LEAVE)
            assert b"is older than this program" in after
            assert terminal.modes() == modes


@pytest.mark.own_server
async def test_top_goes_on_through_a_restart(shell: Shell, server: ServerProcess) -> None:
    short = (*FAST, "--timeout", "0.5")
    with on_terminal(shell, *short) as terminal, shell.start(*short) as piped:
        await terminal.until("process")
        await asyncio.to_thread(_line, piped)
        server.kill()
        await terminal.until("unreachable for ", ", retrying", "process")
        assert piped.stderr is not None
        said = [await asyncio.to_thread(piped.stderr.readline) for _ in range(2)]
        assert said[1] == "  top keeps trying.\n"
        await asyncio.to_thread(server.start)
        await terminal.until_not("unreachable")
        while not (await asyncio.to_thread(_line, piped)).startswith("process"):
            pass
        terminal.type("q")
        assert await terminal.code() == 0


async def test_in_a_pipe_it_prints_until_its_reader_has_gone(shell: Shell) -> None:
    with shell.start(*FAST) as plain, shell.start(*FAST, "--json") as exact:
        printed = [await asyncio.to_thread(_line, plain) for _ in range(40)]
        assert sum(line.startswith("messages ") for line in printed) > 1
        assert "\x1b" not in "".join(printed)
        for _ in range(2):
            assert json.loads(await asyncio.to_thread(_line, exact))["window"]
        for process in (plain, exact):
            assert process.stdout is not None
            process.stdout.close()
            assert await asyncio.to_thread(process.wait, 20) == 128 + signal.SIGPIPE


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()
