"""The command line continues the trace of the environment variable TRACEPARENT."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.callers import operator_token_file
from tests.json_lines import line
from tests.serving import ServerProcess
from tests.shell import Shell
from tests.test_traceparents import FIRST, SECOND

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def traceparents(shell: Shell, thread: str) -> list[str]:
    """Returns those of a thread's messages."""
    messages = shell.ok("read", thread, "--json").json["messages"]
    return [message.get("traceparent", "") for message in messages]


def test_whatever_a_command_appends_has_the_traceparent_of_its_environment(
    shell: Shell, name: str
) -> None:
    coder, reviewer = f"{name}-coder", f"{name}-reviewer"
    shell.ok("register", reviewer)
    traced = partial(shell.ok, env={"TRACEPARENT": FIRST})
    traced("post", name, "hello", "--as", coder)
    traced("post", name, "ready?", "--mention", reviewer, "--ask", "--as", coder)
    traced("post", name, "yes", "--reply-to", "2", "--as", reviewer)
    traced("post", name, "hello!", "--edit", "1", "--as", coder)
    traced("thread", "update", name, "--topic", "new", "--as", coder)
    traced("thread", "close", name, "--as", coder)
    traced("thread", "open", name, "--as", coder)
    shell.ok("post", name, "of another", "--as", coder, env={"TRACEPARENT": SECOND})
    shell.ok("post", name, "of none", "--as", coder)
    assert traceparents(shell, name) == [FIRST] * 7 + [SECOND, ""]


@pytest.mark.parametrize("sent", ["", "none", FIRST.upper(), f"{FIRST}\n", f"01{FIRST[2:]}"])
def test_one_that_is_not_valid_is_ignored(shell: Shell, name: str, sent: str) -> None:
    shell.ok("post", name, "hello", "--as", f"{name}-coder", env={"TRACEPARENT": sent})
    assert traceparents(shell, name) == [""]


def test_wait_and_tail_print_the_traceparent_of_a_message(shell: Shell, name: str) -> None:
    shell.ok("join", name, "--as", f"{name}-reviewer")
    shell.ok("post", name, "hello", "--as", f"{name}-coder", env={"TRACEPARENT": FIRST})
    (waited,) = shell.ok("wait", name, "--json", "--as", f"{name}-reviewer").json["messages"]
    shell.ok("thread", "close", name, "--as", f"{name}-reviewer")
    tailed = [json.loads(each) for each in shell.ok("tail", name, "--json").out.splitlines()]
    assert waited["traceparent"] == tailed[0]["traceparent"] == FIRST
    assert "traceparent" not in tailed[1]


def test_an_import_keeps_the_traceparents_of_the_file(
    server: ServerProcess, shell: Shell, name: str
) -> None:
    token = f"--token-file={operator_token_file(server.db)}"
    lines = [line(name, "a", "0"), line(name, "a", "1", traceparent=SECOND), line(name, "a", "2")]
    shell.ok("import", "-", token, stdin="".join(lines), env={"TRACEPARENT": FIRST})
    assert traceparents(shell, name) == ["", SECOND, ""]
