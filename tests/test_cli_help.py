"""`threadbus --help` has examples, and is fast."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell import Shell

VERBS = ["serve", "demo", "register", "agents", "join", "post", "read", "wait", "tail"]
VERBS += ["import", "export", "bench", "doctor", "certs", "proto", "login", "whoami", "token"]
VERBS += ["requests", "withdraw", "mcp", "hook", "install", "console", "status", "top"]
VERBS += ["backup", "restore", "vacuum", "copy"]
THREAD_VERBS = ["create", "list", "show", "update", "leave", "open", "close", "archive", "delete"]
AGENTS_VERBS = ["list", "waits", "update", "goodbye", "rotate-token", "unregister"]
AGENTS_VERBS += ["reset-token", "kick"]
TOKEN_VERBS = ["create", "list", "revoke"]
COMMANDS = [[], ["thread"], *([verb] for verb in VERBS)]
COMMANDS += [["thread", verb] for verb in THREAD_VERBS] + [["agents", v] for v in AGENTS_VERBS]
COMMANDS += [["token", verb] for verb in TOKEN_VERBS]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("127.0.0.1:1", tmp_path)


def _listed(help_text: str, section: str) -> list[str]:
    _, _, listing = help_text.partition(f"\n{section}:\n")
    return [line.split()[0] for line in listing.splitlines() if line.startswith("  ")]


def test_help_lists_every_verb(shell: Shell) -> None:
    assert sorted(_listed(shell.ok("--help").out, "Verbs")) == sorted([*VERBS, "thread"])
    assert sorted(_listed(shell.ok("thread", "-h").out, "Commands")) == sorted(THREAD_VERBS)
    assert sorted(_listed(shell.ok("agents", "-h").out, "Commands")) == sorted(AGENTS_VERBS)
    assert sorted(_listed(shell.ok("token", "-h").out, "Commands")) == sorted(TOKEN_VERBS)


@functools.cache
def _help(*command: str) -> tuple[str, set[str]]:
    """Return the help of a command, and the modules that were imported for it."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bus_client.cli", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert told.returncode == 0
    return told.stdout, {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: list[str]) -> None:
    text, _ = _help(*command)
    examples = [line for line in text.splitlines() if line.startswith("    ")]
    assert any(" ".join(["threadbus", *command]) in line for line in examples)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_neither_grpc_nor_protobuf(command: list[str]) -> None:
    _, imported = _help(*command)
    assert "click" in imported
    heavy = {"grpc", "google.protobuf", "aiosqlite", "threadbus.v1"}
    if command != ["serve"]:
        heavy.add("bus_server")
    assert not heavy & imported


@pytest.mark.parametrize(
    "verb", ["post", "read", "wait", "tail", "join", "agents list", "export", "bench"]
)
def test_help_shows_defaults_and_environment(verb: str) -> None:
    text = " ".join(_help(*verb.split())[0].split())
    assert "default: 127.0.0.1:7420" in text
    for name in ("THREADBUS_SERVER", "THREADBUS_AGENT", "THREADBUS_TOKEN"):
        assert name in text


def test_version_prints_the_version(shell: Shell) -> None:
    assert shell.ok("--version").out.startswith("threadbus 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["psot", "design"],
        ["post"],
        ["post", "design"],
        ["post", "design", "hello", "--priority", "very"],
        ["post", "design", "hello", "--label", "no-equals-sign"],
        ["post", "design", "hello", "--attach", "no-such-file"],
        ["read", "design", "--after", "-1"],
        ["read", "design", "--after", str(2**53)],
        ["read", "design", "--limit", "0"],
        ["wait", "design", "--timeout", "nan"],
        ["wait", "design", "--min", "3", "--max", "2"],
        ["wait", "design", "--token-file", "/dev/null"],
        ["tail"],
        ["thread", "delete", "design"],
        ["thread", "update", "design"],
        ["thread", "update", "design", "--label", "a=b", "--no-labels"],
        ["thread", "leave", "design"],
        ["agents", "update"],
        ["agents", "goodbye"],
        ["agents", "rotate-token"],
        ["agents", "unregister", "reviewer"],
        ["agents", "--presence", "asleep"],
        ["import"],
        ["export"],
        ["export", "design", "--all"],
        ["export", "design", "--fields", "thread,text"],
        ["export", "design", "--fields", "thread", "--format", "markdown"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_before_any_call(shell: Shell, arguments: list[str]) -> None:
    done = shell.run(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage: threadbus" in done.err


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["psot", "design"], "post"),
        (["Thread", "list"], "thread"),
        (["thread", "lsit"], "list"),
        (["agents", "rotate"], "rotate-token"),
        (["agents", "register", "coder"], "threadbus register"),
        (["thread", "join", "design"], "threadbus join"),
        (["help", "post"], "threadbus --help"),
        (["ask", "design", "done?"], "threadbus post --ask"),
    ],
    ids=str,
)
def test_a_misspelt_verb_is_wrong_usage_and_a_similar_one_is_suggested(
    shell: Shell, arguments: list[str], suggestion: str
) -> None:
    done = shell.run(*arguments, "--json")
    assert (done.code, done.error["reason"]) == (2, "USAGE")
    assert done.error["message"].endswith(f"Did you mean {suggestion!r}?")


def test_for_a_verb_similar_to_none_nothing_is_suggested(shell: Shell) -> None:
    done = shell.run("xyzzy", "--json")
    assert (done.code, done.error["message"]) == (2, "There is no verb 'xyzzy'.")


def test_wrong_usage_is_json_on_request(shell: Shell) -> None:
    done = shell.run("read", "--json")
    assert (done.code, done.out) == (2, "")
    assert done.error == {
        "code": "INVALID_ARGUMENT",
        "reason": "USAGE",
        "message": "Missing argument 'THREAD'.",
        "hint": "See threadbus read --help.",
        "retryable": False,
    }


def test_arguments_that_are_not_utf_8_are_wrong_usage(shell: Shell) -> None:
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"bus_client.cli", b"post", b"design", b"caf\xe9"],
        capture_output=True,
        env=shell.environment(),
        timeout=30,
    )
    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr
