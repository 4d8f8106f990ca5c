"""`threadbus post`."""

import base64
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.callers import operator, operator_token_file, register
from tests.serving import AgentStub, ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def _only_message(shell: Shell, thread: str) -> dict[str, Any]:
    (message,) = shell.ok("read", thread, "--json").json["messages"]
    return dict(message)


def test_post_creates_the_thread_and_prints_where_it_posted(shell: Shell, name: str) -> None:
    assert shell.ok("post", name, "hello", "--as", f"{name}-coder").out == f"{name} #1\n"
    assert shell.ok("post", name, "again").out == f"{name} #2 · {name}-coder idle\n"
    messages = shell.ok("read", name, "--json").json["messages"]
    said = [(message["sender"], message["content"]) for message in messages]
    assert said == [(f"{name}-coder", "hello"), ("anonymous", "again")]


def test_post_prints_json_on_request(shell: Shell, name: str) -> None:
    posted = shell.ok("post", name, "hello", "--json").json
    assert (posted["thread"], posted["seq"], posted["last_seq"]) == (name, 1, 1)
    assert posted["deduplicated"] is False
    assert posted["create_time"].endswith("Z")


@pytest.mark.parametrize(
    ("stdin", "content"),
    [
        (b"one line\n", "one line"),
        (b"no newline", "no newline"),
        (b"two\n\n", "two\n"),
        (b"  \t spaces\r\nand \xc3\xa9\r\n", "  \t spaces\r\nand é\r"),
        (b"a" * 1024 * 1024, "a" * 1024 * 1024),
    ],
    ids=["line", "bare", "two newlines", "bytes", "1 MiB"],
)
def test_a_dash_posts_stdin_without_its_last_newline(
    shell: Shell, name: str, stdin: bytes, content: str
) -> None:
    shell.ok("post", name, "-", stdin=stdin)
    assert _only_message(shell, name)["content"] == content


def test_stdin_that_is_not_utf_8_is_refused(shell: Shell, name: str) -> None:
    done = shell.run("post", name, "-", stdin=b"caf\xe9")
    assert done.code == 2
    assert "(byte 4)" in done.err


def test_empty_stdin_is_refused(shell: Shell, name: str) -> None:
    assert shell.run("post", name, "-", stdin=b"\n").code == 2


def test_registered_names_in_the_text_are_mentioned(shell: Shell, name: str) -> None:
    for agent in ("a", "b.c", "d"):
        shell.ok("register", f"{name}-{agent}")
    text = (
        f"@{name}-a, @{name}-b.c. and (@{name}-a), not @{name}-nobody, @all, me@{name}-d "
        f"or @{name}-dX"
    )
    assert shell.run("post", name, text).code == 0
    message = _only_message(shell, name)
    assert message["content"] == text
    assert message["mentions"] == [f"{name}-a", f"{name}-b.c"]


def test_names_in_code_are_not_mentions(shell: Shell, name: str) -> None:
    for agent in "abcde":
        shell.ok("register", f"{name}-{agent}")
    text = (
        f"`@{name}-a` and ``a ` @{name}-a``, but @{name}-b\n"
        f"```python\n@{name}-a.route\n`\n@{name}-a\n```\nthen @{name}-c\n"
        f"~~~\n@{name}-a\n```\n@{name}-a\n~~~\nand a `lone backtick, @{name}-d\n\n"
        f"```one line``` for @{name}-e\n```\nno end: @{name}-a"
    )
    shell.ok("post", name, text)
    assert _only_message(shell, name)["mentions"] == [f"{name}-{agent}" for agent in "bcde"]


def test_names_are_not_looked_for_on_request(shell: Shell, name: str) -> None:
    for agent in "ab":
        shell.ok("register", f"{name}-{agent}")
    done = shell.ok(
        "post", name, f"@{name}-a @{name}-nobody", "--no-mentions", "--mention", f"{name}-b"
    )
    assert "not a registered agent" not in done.err
    assert _only_message(shell, name)["mentions"] == [f"{name}-b"]


async def test_names_for_which_there_is_no_room_are_reported(
    shell: Shell, agents: AgentStub, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(35)]
    for agent in names:
        await register(agents, agent)
    done = shell.run("post", name, " ".join(f"@{agent}" for agent in (*names, *names)))
    limit = "mention nobody: a message has at most 32 mentions."
    assert f"@{name}-32 and 2 more names {limit}\n" in done.err
    assert _only_message(shell, name)["mentions"] == names[:32]


def test_an_explicit_mention_comes_first_and_must_be_registered(shell: Shell, name: str) -> None:
    for agent in ("a", "b"):
        shell.ok("register", f"{name}-{agent}")
    shell.ok("post", name, f"@{name}-a", "--mention", f"@{name}-b", "--mention", f"{name}-a")
    assert _only_message(shell, name)["mentions"] == [f"{name}-b", f"{name}-a"]
    done = shell.run("post", name, "hello", "--mention", f"{name}-nobody", "--json")
    assert (done.code, done.error["reason"]) == (1, "AGENT_NOT_FOUND")


def test_every_option_arrives(shell: Shell, name: str, tmp_path: Path) -> None:
    shell.ok("register", f"{name}-next")
    shell.ok("post", name, "first")
    patch = tmp_path / "fix.json"
    patch.write_bytes(b'{"\x00": 1}')
    options = ["--reply-to", "1", "--handoff", f"{name}-next", "--priority", "urgent", "--quiet"]
    options += ["--label", "kind=fix", "--label", "x=a=b", "--attach", str(patch)]
    options += ["--expect", "1", "--based-on", "1", "--request-id", "r-1"]
    shell.ok("post", name, *options, "--as", f"{name}-me")
    _, message = map(json.loads, shell.ok("export", name).out.splitlines())
    del message["create_time"]
    assert message == {
        "thread": name,
        "seq": 2,
        "sender": f"{name}-me",
        "sender_kind": "AGENT_KIND_AGENT",
        "kind": "MESSAGE_KIND_CHAT",
        "reply_to": 1,
        "handoff_to": f"{name}-next",
        "priority": "PRIORITY_URGENT",
        "wakes": "WAKE_ADDRESSED",
        "labels": {"kind": "fix", "x": "a=b"},
        "attachments": [
            {
                "filename": "fix.json",
                "media_type": "application/json",
                "raw": base64.b64encode(b'{"\x00": 1}').decode(),
                "size": 8,
            }
        ],
        "request_id": "r-1",
        "based_on_seq": 1,
    }


def test_the_same_request_id_posts_once(shell: Shell, name: str) -> None:
    post = ["post", name, "hello", "--request-id", "r-1"]
    assert shell.ok(*post).out == f"{name} #1\n"
    again = shell.run(*post)
    assert (again.code, again.out) == (0, f"{name} #1\n")
    assert "before" in again.err
    assert shell.ok(*post, "--json").json["deduplicated"] is True
    other = shell.run("post", name, "something else", "--request-id", "r-1")
    assert other.code == 5
    assert "#1" in other.err


def test_an_expectation_that_does_not_hold_is_a_conflict(shell: Shell, name: str) -> None:
    assert shell.ok("post", name, "hello", "--expect", "0").out == f"{name} #1\n"
    done = shell.run("post", name, "hello", "--expect", "0", "--json")
    assert (done.code, done.error["reason"]) == (5, "SEQ_CONFLICT")
    assert "--expect 1" in done.error["hint"]


@pytest.mark.parametrize("option", ["--reply-to", "--expect", "--based-on"])
def test_a_reply_in_a_missing_thread_does_not_create_it(
    shell: Shell, name: str, option: str
) -> None:
    done = shell.run("post", name, "hello", option, "3", "--json")
    assert (done.code, done.error["reason"]) == (1, "THREAD_NOT_FOUND")
    assert shell.run("thread", "show", name).code == 1


def test_the_thread_may_come_from_the_environment(shell: Shell, name: str) -> None:
    usual = {"THREADBUS_THREAD": name, "THREADBUS_AGENT": f"{name}-me"}
    assert shell.run("post", "hello", env=usual).out == f"{name} #1\n"
    assert shell.run("post", "-", stdin="from stdin", env=usual).out == f"{name} #2\n"
    assert shell.run("post", f"{name}-other", "hello", env=usual).out == f"{name}-other #1\n"
    messages = shell.run("read", "--json", env=usual).json["messages"]
    assert [message["content"] for message in messages] == ["hello", "from stdin"]
    assert {message["sender"] for message in messages} == {f"{name}-me"}


def test_only_an_operator_posts_on_behalf_of_another(
    shell: Shell, server: ServerProcess, name: str
) -> None:
    post = ["post", name, "hello", "--on-behalf-of", f"{name}-other"]
    assert shell.run(*post).code == 6
    token = {"THREADBUS_TOKEN": operator(server).token}
    assert shell.run(*post, env=token).code == 0
    assert shell.run(*post, "--token-file", str(operator_token_file(server.db))).code == 0
    messages = shell.ok("read", name, "--json").json["messages"]
    assert {(message["sender"], message["posted_by"]) for message in messages} == {
        (f"{name}-other", "operator")
    }


def test_an_operators_post_mentions_only_registered_agents(
    shell: Shell, server: ServerProcess, name: str
) -> None:
    shell.ok("register", f"{name}-a")
    text = f"@{name}-a and @{name}-nobody"
    done = shell.run("post", name, text, env={"THREADBUS_TOKEN": operator(server).token})
    assert done.code == 0
    assert _only_message(shell, name)["mentions"] == [f"{name}-a"]


@pytest.mark.slow
def test_names_in_the_text_are_found_case_insensitively(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    capital = name.capitalize()
    posted = shell.run("post", f"{name}-x", f"@{capital}: look. @{name.upper()} @{name}? @{name}.")
    assert posted.out == f"{name}-x #1 · {name} idle\n"
    assert "registered agent" not in posted.err
    shown = shell.ok("read", f"{name}-x", "--json").json["messages"][0]
    assert shown["mentions"] == [name]
    assert "(" not in shell.ok("read", f"{name}-x").out, "the text says it already"
    done = shell.run("post", f"{name}-x", "@Nobody-At-All, @nobody-at-all")
    assert done.err == "@Nobody-At-All is not a registered agent; it mentions nobody.\n"


def test_an_unknown_name_is_reported(shell: Shell, name: str) -> None:
    done = shell.run("post", name, f"hello @{name}-nobody, and mail me@example.org")
    assert (done.code, done.out) == (0, f"{name} #1\n")
    told, *_ = done.err.splitlines()
    assert told == f"@{name}-nobody is not a registered agent; it mentions nobody."


def test_a_single_interrupt_ends_reading_from_a_terminal(shell: Shell, name: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bus_client.cli", "post", name, "-"]
    with subprocess.Popen(
        command, stdin=theirs, stderr=subprocess.PIPE, text=True, env=shell.environment()
    ) as process:
        assert process.stderr is not None
        assert (
            process.stderr.readline() == "Reading the message from the terminal; Ctrl-D ends it.\n"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
    for end in (ours, theirs):
        os.close(end)
