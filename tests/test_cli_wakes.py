"""`threadbus post --quiet` and `--no-wake`, and what `threadbus wait` prints of such messages."""

from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def me(shell: Shell, thread: str, name: str) -> str:
    """An agent that joined the thread, and waits."""
    shell.ok("join", thread, "--as", f"{name}-me")
    return f"{name}-me"


def contents(shell: Shell, thread: str, me: str, *options: str) -> list[str]:
    """Returns what a wait of the agent prints, which marks it as read."""
    done = shell.run("wait", thread, "--as", me, "--timeout", "0", "--json", *options)
    assert (done.code, done.err) == (0 if done.json["messages"] else 3, "")
    return [message["content"] for message in done.json["messages"]]


def wakes(shell: Shell, thread: str) -> list[str]:
    messages = shell.ok("read", thread, "--json").json["messages"]
    return [message["wakes"].removeprefix("WAKE_") for message in messages]


def test_a_post_says_whom_it_wakes(shell: Shell, thread: str) -> None:
    shell.ok("post", thread, "1")
    shell.ok("post", thread, "2", "--quiet")
    shell.ok("post", thread, "3", "--no-wake")
    shell.ok("thread", "close", thread)
    assert wakes(shell, thread) == ["ALL", "ADDRESSED", "NOBODY", "NOBODY"]


def test_quiet_messages_are_printed_with_the_next_one(shell: Shell, thread: str, me: str) -> None:
    shell.ok("post", thread, "1", "--no-wake")
    shell.ok("post", thread, "2", "--quiet")
    for _ in range(2):
        assert contents(shell, thread, me) == []
    shell.ok("post", thread, "3")
    assert contents(shell, thread, me) == ["1", "2", "3"]
    assert contents(shell, thread, me) == []


def test_a_quiet_message_wakes_the_agent_that_it_names(shell: Shell, thread: str, me: str) -> None:
    shell.ok("post", thread, "1", "--no-wake")
    shell.ok("post", thread, f"2 @{me}", "--quiet")
    assert contents(shell, thread, me) == ["1", f"2 @{me}"]
    shell.ok("post", thread, f"3 @{me}", "--no-wake")
    assert contents(shell, thread, me, "--mine") == []
    shell.ok("post", thread, f"4 @{me}", "--quiet")
    assert contents(shell, thread, me, "--mine") == [f"3 @{me}", f"4 @{me}"]


@pytest.mark.parametrize(
    "options", [("--quiet", "--no-wake"), ("--quiet", "--edit", "1"), ("--no-wake", "--edit", "1")]
)
def test_a_post_wakes_in_one_way(shell: Shell, thread: str, options: tuple[str, ...]) -> None:
    done = shell.run("post", thread, "text", *options)
    assert done.code == 2
    assert "an edit wakes as the message that it edits" in done.err
    assert shell.run("read", thread, "--json").json["messages"] == []
