"""Hooks given anything at all: arguments, stdin, environment and state files. They never fail."""

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bus_client import credentials
from tests.hooks import PROGRAM, Hooks, output, parsed, told
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow

#: A time limit, of which a hook waits an eighth for the end of stdin.
SOON = ("--timeout", "20")


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def hooks(shell: Shell, name: str) -> Hooks:
    """The hooks of an agent that has an unread message in the thread `name`."""
    shell.ok("join", name, "--as", f"{name}-me")
    shell.ok("post", name, "hello", "--as", f"{name}-coder")
    return Hooks(shell, f"{name}-me")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["stop"],
        ["sotp", "--host", "codex"],
        ["stop", "--host"],
        ["stop", "--host", "opencode"],
        ["stop", "--host", "\x1b[2J\udcff"],
        ["stop", "--host", "codex", "--as", "No Name"],
        ["stop", "--host", "codex", "--as", "a\0b"],
        ["stop", "--host", "codex", "--as", "../../x"],
        ["stop", "--host", "codex", "--as", "operator"],
        ["stop", "--host", "codex", "--as", "x" * 100_000],
        ["stop", "--host", "codex", "extra"],
        ["stop", "--host", "codex", "--nope"],
        ["stop", "--host", "codex", "--timeout", "nan"],
        ["stop", "--host", "codex", "--timeout", "-1"],
        ["stop", "--host", "codex", "--timeout", "s"],
        ["stop", "--host", "codex", "--wait", "1e400"],
        ["stop", "--host", "codex", "--every", ""],
        ["stop", "--host", "codex", "--server", ":::"],
        ["stop", "--host", "codex", "--server", "no such host.invalid"],
        ["stop", "--host", "codex", "--server", "unix:/nowhere"],
        ["stop", "--host", "codex", "--server", f"unix:/{'x' * 5_000}"],
        ["stop", "--host", "codex", "--server", "unix:/a\0b"],
        ["post-tool", "--host", "codex", "--as", "a\0b", "--server", "\0"],
        ["post-tool", "--host", "codex", "--as", "\udcff", "--server", "\udcff"],
        ["stop", "--host", "codex", "--as", "me-2", "--token-file", "/nowhere"],
        ["stop", "--host", "codex", "--as", "me-2", "--token-file", "/dev/null"],
        ["stop", "--host", "codex", "--as", "me-2", "--client-cert", "/nowhere"],
        ["stop", "--host", "codex", "--as", "me-2", "--server", "tls://127.0.0.1"],
        ["stop", "--host", "codex"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_wrong_arguments_are_an_empty_object(shell: Shell, arguments: list[str]) -> None:
    done = shell.run("hook", *arguments)
    assert done.code == 0
    assert parsed(done.out) == {}
    assert done.err.startswith("threadbus hook: ")
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()
    assert done.err.isascii()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("stop --host codex --wait 4x", "argument --wait: '4x' is not a time such as 90, 10m or"),
        ("stop --host codex", "it needs --as NAME, THREADBUS_AGENT, or a token"),
        ("stop --host codex --as A", "agent: 1-63 characters of a-z 0-9 . _ -, the first a letter"),
        ("stop --host claude --as me", "--host 'claude' is not one of claude-code, codex, "),
    ],
)
def test_it_says_what_is_wrong(shell: Shell, arguments: str, reason: str) -> None:
    assert shell.run("hook", *arguments.split()).err.startswith(f"threadbus hook: {reason}")


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"x"',
        b"NaN",
        b"\xff\xfe\x00\x01" * 1_000,
        b"[" * 200_000,
        b"1" * 10_000,
        b'{"hook_event_name": 5, "agent_id": null, "status": ["aborted"]}',
        b'{"hook_event_name": "Stop", "stop_hook_active": true, "session_id": "s"}',
        b'{"status": {"a": 1}, "tool_response": "' + b"x" * 6_000_000 + b'"}',
    ],
    ids=lambda stdin: str(stdin[:30]),
)
def test_stdin_does_not_matter(hooks: Hooks, stdin: bytes) -> None:
    assert "1 unread" in hooks.reason("stop", stdin=stdin)


def test_stdin_that_never_ends_is_not_waited_for(hooks: Hooks) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, hooks.start("stop", *SOON, stdin=theirs.fileno()) as process:
        ours.sendall(b'{"hook_event_name":')
        assert "1 unread" in told(output(process))


def test_stdin_that_never_stops_is_not_waited_for(hooks: Hooks) -> None:
    with Path("/dev/zero").open("rb") as zeros, hooks.start("stop", *SOON, stdin=zeros) as process:
        assert "1 unread" in told(output(process))


@pytest.mark.parametrize("closed", [(0,), (0, 2), (2,)], ids=str)
def test_closed_streams_do_not_matter(hooks: Hooks, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = subprocess.run(
        [*PROGRAM, *hooks.arguments("stop")],
        stdout=subprocess.PIPE,
        env=hooks.shell.environment(),
        preexec_fn=close,
        timeout=40,
    )
    assert done.returncode == 0
    assert "1 unread" in told(parsed(done.stdout.decode()))


def test_a_closed_stdout_is_no_failure(hooks: Hooks) -> None:
    done = subprocess.run(
        [*PROGRAM, *hooks.arguments("stop")],
        stdin=subprocess.DEVNULL,
        env=hooks.shell.environment(),
        preexec_fn=lambda: os.close(1),
        timeout=40,
    )
    assert done.returncode == 0


def test_a_stdout_that_nobody_reads_is_no_failure(hooks: Hooks) -> None:
    with hooks.start("stop") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(40) == 0


def test_nothing_but_the_object_is_printed_to_stdout(hooks: Hooks) -> None:
    """Not even what a library or C code prints to descriptor 1."""
    noisy = "import os, atexit; import bus_client.hosts.state as s; before = s.folder_of; "
    noisy += "s.folder_of = lambda x: (print('noise'), os.write(1, b'noise'), before(x))[2]; "
    done = subprocess.run(
        [*PROGRAM[:2], noisy + PROGRAM[2], *hooks.arguments("post-tool", "--every", "1")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=hooks.shell.environment(),
        timeout=40,
    )
    assert "1 unread" in told(parsed(done.stdout.decode()))
    assert b"noise" in done.stderr


def damage_with(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        damage_with(b""),
        damage_with(b"{"),
        damage_with(b"\xff" * 100),
        damage_with(b"[" * 100_000),
        damage_with(b"[1]"),
        damage_with(b'{"threads": 1}'),
        damage_with(b'{"threads": {"t": 1, "\\u202e": {"epoch": "e", "told": 1}}}'),
        damage_with(b" " * 3_000_000),
        make_fifo,
        make_link,
    ],
    ids=lambda damage: getattr(damage, "__name__", str(damage)),
)
def test_a_damaged_state_file_is_replaced(hooks: Hooks, damage: Callable[[Path], object]) -> None:
    assert "1 unread" in hooks.reason("stop")
    damage(hooks.state)
    assert "1 unread" in hooks.reason("stop")
    assert hooks.run("stop") == {}
    assert stat.S_ISREG(hooks.state.lstat().st_mode)


def test_entries_of_a_state_file_that_are_not_valid_are_ignored(hooks: Hooks, name: str) -> None:
    assert "1 unread" in hooks.reason("stop")
    kept = json.loads(hooks.state.read_text("utf-8"))
    for told_seq in (-1, 2**60, 1.5, "1", None, True):
        kept["threads"][name]["told"] = told_seq
        hooks.state.write_text(json.dumps(kept), "utf-8")
        assert "1 unread" in hooks.reason("stop")
        assert hooks.run("stop") == {}


@pytest.mark.parametrize("event", ["stop", "post-tool", "session-start"])
def test_what_cannot_be_recorded_is_not_told(hooks: Hooks, tmp_path: Path, event: str) -> None:
    """Otherwise the agent could never stop."""
    folder = tmp_path / "state/threadbus/hooks"
    folder.parent.mkdir(parents=True)
    folder.write_text("", "utf-8")
    done = hooks.shell.run("hook", *hooks.arguments(event))
    assert (done.code, parsed(done.out)) == (0, {})
    assert "hooks" in done.err
    folder.unlink()
    assert "1 unread" in hooks.reason(event)


def test_a_state_file_that_cannot_be_replaced_tells_nothing(hooks: Hooks) -> None:
    assert "1 unread" in hooks.reason("stop")
    path = hooks.state
    path.unlink()
    path.mkdir()
    assert hooks.run("stop") == {}


def test_a_lock_is_waited_for_in_time_only(hooks: Hooks) -> None:
    assert "1 unread" in hooks.reason("stop")
    path = hooks.state
    path.unlink()
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with hooks.start("stop", "--timeout", "3") as process:
            assert output(process) == {}
    finally:
        os.close(descriptor)
    assert "1 unread" in hooks.reason("stop")


def test_what_blocks_for_ever_ends_in_time(hooks: Hooks, tmp_path: Path) -> None:
    pipe = tmp_path / "token"
    os.mkfifo(pipe)
    with hooks.start("stop", "--token-file", str(pipe), "--timeout", "1") as process:
        assert output(process) == {}


def test_every_is_counted_from_the_last_run(hooks: Hooks, tmp_path: Path, name: str) -> None:
    assert "1 unread" in hooks.reason("post-tool", "--every", "1h")
    hooks.shell.ok("post", name, "more", "--as", f"{name}-coder")
    assert hooks.run("post-tool", "--every", "1h") == {}
    (stamp,) = tmp_path.glob("state/threadbus/hooks/*/*.ran")
    before = time.time() - 3_700
    os.utime(stamp, (before, before))
    assert "1 unread" in hooks.reason("post-tool", "--every", "1h")
    after = time.time() + 3_700  # the clock was set back
    os.utime(stamp, (after, after))
    hooks.shell.ok("post", name, "more", "--as", f"{name}-coder")
    assert "1 unread" in hooks.reason("post-tool", "--every", "1h")
    hooks.shell.ok("post", name, "more", "--as", f"{name}-coder")
    assert "1 unread" in hooks.reason("stop", "--every", "1h")  # for post-tool only


def test_the_state_is_where_the_environment_says(hooks: Hooks, tmp_path: Path) -> None:
    elsewhere = replace(hooks, env={"THREADBUS_STATE": str(tmp_path / "elsewhere")})
    assert "1 unread" in elsewhere.reason("post-tool", "--every", "1h")
    found = sorted(path.name for path in tmp_path.glob("elsewhere/hooks/*/*"))
    assert found == [f"{hooks.agent}.json", f"{hooks.agent}.ran"]
    modes = {path.stat().st_mode & 0o077 for path in tmp_path.glob("elsewhere/hooks/**/*")}
    assert modes == {0}


def test_agent_and_server_come_from_the_environment(hooks: Hooks) -> None:
    done = hooks.shell.run(
        "hook", "stop", "--host", "codex", "--timeout", "30", env={"THREADBUS_AGENT": hooks.agent}
    )
    assert "1 unread" in told(parsed(done.out))


def test_a_token_alone_says_who_the_agent_is(hooks: Hooks, tmp_path: Path) -> None:
    tokens = tmp_path / "data/threadbus/credentials.json"
    token = credentials.kept_token(tokens, hooks.shell.server, hooks.agent)
    arguments = ("hook", "stop", "--host", "codex", "--timeout", "30")
    done = hooks.shell.run(*arguments, env={"THREADBUS_TOKEN": str(token)})
    assert "1 unread" in told(parsed(done.out))
    other = hooks.shell.run(*arguments, "--as", "other", env={"THREADBUS_TOKEN": str(token)})
    assert parsed(other.out) == {}


def test_two_addresses_of_this_machine_are_one_server(hooks: Hooks) -> None:
    assert "1 unread" in hooks.reason("stop")
    port = hooks.shell.server.rpartition(":")[2]
    assert hooks.run("stop", "--server", f"localhost:{port}") == {}


@pytest.mark.parametrize("event", ["stop", "post-tool"])
def test_without_a_server_grpc_is_not_imported(shell: Shell, event: str) -> None:
    command = [sys.executable, "-X", "importtime", *PROGRAM[1:], event, "--host", "codex"]
    done = subprocess.run(
        [*command, "--as", "me-2", "--server", "127.0.0.1:1", "--timeout", "30"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=shell.environment(),
        timeout=40,
    )
    assert parsed(done.stdout) == {}
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "bus_client.hosts.state" in imported
    assert not imported & {"grpc", "google.protobuf", "click", "asyncio", "dataclasses"}


def test_a_run_that_has_nothing_to_do_imports_next_to_nothing(hooks: Hooks) -> None:
    assert hooks.run("post-tool", "--every", "1h")
    command = [sys.executable, "-X", "importtime", *PROGRAM[1:]]
    done = subprocess.run(
        [*command, *hooks.arguments("post-tool", "--every", "1h")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=hooks.shell.environment(),
        timeout=40,
    )
    assert parsed(done.stdout) == {}
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"grpc", "click", "asyncio", "dataclasses", "json", "socket"}
