"""`threadbus demo`."""

import signal
from pathlib import Path

import pytest

from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo makes its temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def _processes_with(text: str) -> list[str]:
    """The command lines of running processes that have `text` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it has just ended
        if text in command:
            found.append(command)
    return found


def test_the_demo_tells_a_conversation_that_survives_a_kill(shell: Shell, temporary: Path) -> None:
    done = shell.run("demo", "--pace", "0", env={"TMPDIR": str(temporary)})
    assert (done.code, done.err) == (0, "")
    lines = [line for line in done.out.splitlines() if line.lstrip().startswith("#")]
    assert [line.split()[0] for line in lines] == [f"#{seq}" for seq in range(1, 11)]
    assert "kill -9" in done.out
    assert "goes on with #5" in done.out
    assert "each once and in order" in done.out
    assert "threadbus serve" in done.out


def test_the_demo_leaves_nothing_behind(shell: Shell, temporary: Path) -> None:
    env = {"TMPDIR": str(temporary), "THREADBUS_TOKEN": "x" * 32, "THREADBUS_AUTH": "required"}
    done = shell.run("demo", "--pace", "0", "--json", env=env)
    assert done.code == 0
    assert len(done.json["messages"]) == 10
    assert not list(temporary.iterdir())
    assert not (shell.home / "data").exists()
    assert not _processes_with(str(temporary))


def test_a_demo_that_is_interrupted_leaves_nothing_behind(shell: Shell, temporary: Path) -> None:
    with shell.start("demo", env={"TMPDIR": str(temporary)}) as demo:
        assert demo.stdout is not None
        while "coder" not in (line := demo.stdout.readline()):
            assert line
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (130, "")
    assert not list(temporary.iterdir())
    assert not _processes_with(str(temporary))


def test_a_demo_without_a_server_says_what_is_missing(shell: Shell, tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('no aiosqlite', name='aiosqlite')"
    (tmp_path / "aiosqlite.py").write_text(missing)
    done = shell.run("demo", env={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.out) == (1, "")
    assert "pip install" in done.err
    assert "Traceback" not in done.err
