"""`threadbus wait --mine` without a thread, and `threadbus tail --all`."""

import json
import signal
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.callers import operator_token_file
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def me(shell: Shell, name: str) -> str:
    """A registered agent, which takes part in no thread."""
    return shell.ok("register", f"{name}-me").out.rstrip()


def mine(shell: Shell, me: str, *options: str) -> list[tuple[str, str]]:
    """Returns the thread and content of each message that a wait of the agent prints."""
    done = shell.run("wait", "--mine", "--as", me, "--timeout", "0", "--json", *options)
    assert (done.code, done.err) == (0 if done.json["messages"] else 3, "")
    return sorted((each["thread"], each["content"]) for each in done.json["messages"])


def unread(shell: Shell, thread: str, me: str) -> list[str]:
    done = shell.run("wait", thread, "--as", me, "--timeout", "0", "--json", "--peek")
    return [each["content"] for each in done.json["messages"]]


def test_it_prints_what_is_addressed_to_the_agent_in_any_thread_and_marks_it_as_read(
    shell: Shell, me: str, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    assert mine(shell, me) == []
    shell.ok("post", a, f"1 @{me}")
    shell.ok("post", a, "2")
    shell.ok("post", b, "3", "--handoff", me)
    assert mine(shell, me) == [(a, f"1 @{me}"), (b, "3")]
    assert mine(shell, me) == []
    assert unread(shell, a, me) == ["2"]


def test_it_shows_the_thread_of_each_message(shell: Shell, me: str, name: str) -> None:
    shell.ok("post", f"{name}.a", f"hello @{me}")
    done = shell.ok("wait", "--mine", "--as", me)
    assert done.out.split()[:3] == [f"{name}.a", "#1", "anonymous"]
    done = shell.run("wait", "--mine", "--as", me, "--timeout", "0")
    assert (done.code, done.out, done.err) == (3, "", f"Nothing new for {me}.\n")


def test_it_returns_when_a_message_comes_in_a_thread_that_is_new_to_the_agent(
    shell: Shell, me: str, name: str
) -> None:
    call = ("wait", "--mine", "--as", me, "--timeout", "25", "--json")
    with shell.start(*call) as waiting:
        shell.ok("post", name, "for all")
        shell.ok("post", name, f"at last @{me}")
        out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, err) == (0, "")
    (message,) = json.loads(out)["messages"]
    assert (message["thread"], message["content"]) == (name, f"at last @{me}")
    agents = shell.ok("agents", "--json").json["agents"]
    assert [each["presence"] for each in agents if each["name"] == me] == ["PRESENCE_WORKING"]


def test_a_peek_marks_nothing_as_read(shell: Shell, me: str, name: str) -> None:
    shell.ok("post", name, f"1 @{me}")
    for _ in range(2):
        assert mine(shell, me, "--peek") == [(name, f"1 @{me}")]
    assert len(mine(shell, me)) == 1
    assert mine(shell, me, "--peek") == []


def test_min_and_max_count_the_messages_of_all_threads(shell: Shell, me: str, name: str) -> None:
    for thread in (f"{name}.a", f"{name}.b"):
        for number in (1, 2):
            shell.ok("post", thread, f"{number} @{me}")
    first = mine(shell, me, "--max", "3", "--min", "2")
    assert (len(first), len(mine(shell, me))) == (3, 1)
    shell.ok("post", name, f"5 @{me}")
    call = ("wait", "--mine", "--as", me, "--min", "2", "--timeout", "0.1", "--json")
    done = shell.ok(*call).json
    assert (len(done["messages"]), done["timed_out"], "cursor" in done) == (1, True, False)


def test_files_of_several_threads_are_saved_apart(
    shell: Shell, me: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    for thread in (f"{name}.a", f"{name}.b"):
        file.write_text(thread)
        shell.ok("post", thread, f"@{me}", "--attach", str(file))
    call = ("wait", "--mine", "--as", me, "--json", "--with-files", str(tmp_path / "saved"))
    for message in shell.ok(*call, "--peek", "--min", "2").json["messages"]:
        (saved,) = message["attachments"]
        assert Path(saved["path"]).read_text() == message["thread"]
        assert "raw" not in saved
    long = shell.ok("wait", "--mine", "--as", me, "--json", "--min", "2", "--max-chars", "1").json
    assert all(each["content_truncated"] for each in long["messages"])


def test_a_thread_that_is_named_is_the_only_one(shell: Shell, me: str, name: str) -> None:
    for thread in (f"{name}.a", f"{name}.b"):
        shell.ok("post", thread, f"@{me}")
    call = ("wait", "--mine", "--as", me, "--json", "--peek")
    for named in (
        shell.ok(*call, f"{name}.a"),
        shell.run(*call, env={"THREADBUS_THREAD": f"{name}.a"}),
    ):
        assert [each["thread"] for each in named.json["messages"]] == [f"{name}.a"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--mine",), "Missing agent"),
        (("--as", "x"), "Missing THREAD"),
        (("--as", "x", "--mine", "--after", "0"), "--after needs a THREAD"),
        (("--as", "x", "--mine", "--cursor", "hooks"), "--cursor needs a THREAD"),
        (("--as", "x", "--mine", "--own"), "--own needs a THREAD"),
    ],
)
def test_options_about_one_thread_need_a_thread(
    shell: Shell, options: tuple[str, ...], why: str
) -> None:
    done = shell.run("wait", *options)
    assert (done.code, done.out) == (2, "")
    assert why in done.err


def message(tail: Popen[str]) -> dict[str, Any]:
    assert tail.stdout is not None
    return dict(json.loads(tail.stdout.readline()))


def test_tail_prints_what_comes_in_any_thread_of_the_agent(
    shell: Shell, me: str, name: str
) -> None:
    a, b = f"{name}.a", f"{name}.b"
    shell.ok("post", a, f"1 @{me}")
    shell.ok("post", f"{name}.c", "not a participant")
    with shell.start("tail", "--all", "--as", me, "--last", "1", "--json") as tail:
        assert message(tail)["content"] == f"1 @{me}"
        shell.ok("post", a, "own", "--as", me)
        assert message(tail)["content"] == "own"
        shell.ok("thread", "close", a)
        assert message(tail)["kind"] == "MESSAGE_KIND_THREAD"
        shell.ok("post", b, f"2 @{me}")
        assert (found := message(tail))["content"] == f"2 @{me}"
        assert found["thread"] == b
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 130
    assert mine(shell, me) == [(a, f"1 @{me}"), (b, f"2 @{me}")]


def test_tail_of_all_threads_starts_with_the_next_message_and_shows_its_thread(
    shell: Shell, server: ServerProcess, me: str, name: str
) -> None:
    shell.ok("post", name, f"1 @{me}")
    token = str(operator_token_file(server.db))
    with shell.start("tail", "--all", "--as", me) as tail:
        while "observing" not in shell.ok("agents", "waits", "--of", me, "--token-file", token).out:
            pass
        shell.ok("agents", "goodbye", "--as", me)
        shell.ok("post", name, "2")
        assert tail.stdout is not None
        assert tail.stdout.readline().split()[:2] == [name, "#2"]
        assert me in shell.ok("agents", "--presence", "offline").out.split()
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 130


def test_tail_needs_threads_or_all(shell: Shell, me: str) -> None:
    for options, why in (
        ((), "Missing THREAD"),
        (("--all",), "Missing agent"),
        (("--all", "x", "--as", me), "not both"),
    ):
        done = shell.run("tail", *options)
        assert (done.code, done.out) == (2, "")
        assert why in done.err
