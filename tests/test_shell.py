"""Commands that run in the tests' process have the same results as processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

INTERRUPTED = (
    "tests/test_sdk_sync_processes.py::test_an_uncaught_interrupt_ends_the_program_as_usual"
)


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["wait", "--help"],
        ["thread", "list", "--prefix", "no-such-thread"],
        ["read", "no-such-thread"],
        ["read", "no-such-thread", "--json"],
        ["psot"],
        ["read", "--json"],
        ["proto", "--out", "/proc/protos"],
        ["agents", "--server", "127.0.0.1:1", "--timeout", "0.1"],
    ],
    ids=" ".join,
)
def test_a_command_in_this_process_behaves_as_in_its_own(
    shell: Shell, arguments: list[str]
) -> None:
    assert shell.run(*arguments) == shell.run_process(*arguments)


def test_a_command_has_its_own_streams_and_environment_and_does_not_change_ours(
    shell: Shell, name: str
) -> None:
    before = (dict(os.environ), sys.stdin, sys.stdout, sys.stderr)
    assert shell.run("post", "-", stdin="é\n", env={"THREADBUS_THREAD": name}).code == 0
    assert (dict(os.environ), sys.stdin, sys.stdout, sys.stderr) == before
    (message,) = shell.ok("read", name, "--json").json["messages"]
    assert message["content"] == "é"


async def test_a_command_run_from_a_coroutine_has_a_process_of_its_own(shell: Shell) -> None:
    assert shell.run("thread", "list", "--prefix", "no-such-thread").code == 0


@pytest.mark.slow
def test_children_can_be_interrupted_where_sigint_is_ignored() -> None:
    run = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", INTERRUPTED]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *run],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
    )
    assert "1 passed" in done.stdout
