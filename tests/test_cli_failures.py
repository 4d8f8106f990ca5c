"""Exit codes, errors as JSON, signals and pipes."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from tests.blocking import until
from tests.conftest import StartServer
from tests.script import Failure, scripted
from tests.serving import ServerProcess
from tests.shell import Shell

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


VERBS: list[list[str]] = [
    ["thread", "show", "design"],
    ["post", "design", "hello"],
    ["read", "design"],
    ["join", "design"],
    ["tail", "design"],
    ["agents"],
    ["register", "coder"],
    ["status"],
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_no_server_is_exit_code_4(tmp_path: Path, verb: list[str]) -> None:
    nobody = Shell("127.0.0.1:1", tmp_path)
    done = nobody.run(*verb, "--timeout", "0.2", "--json")
    assert (done.code, done.out) == (4, "")
    assert done.error["code"] == "UNAVAILABLE"
    assert done.error["retryable"] is True
    assert "threadbus serve" in done.error["hint"]


@pytest.mark.parametrize("reason", ["DRAINING", "STORE_BUSY", "STORE_FAILED", "ONE_OF_TOMORROW"])
async def test_a_server_that_is_unavailable_is_exit_code_4(tmp_path: Path, reason: str) -> None:
    async with scripted() as script:
        refusal = Failure(grpc.StatusCode.UNAVAILABLE, reason, retry_delay=60.0)  # too long
        script.answer("ListAgents", refusal)
        shell = Shell(script.address, tmp_path)
        done = await asyncio.to_thread(shell.run, "agents", "--json")
    assert (done.code, done.error["reason"], done.error["retryable"]) == (4, reason, True)


def test_an_error_has_five_fields(shell: Shell, name: str) -> None:
    done = shell.run("read", name, "--json")
    assert set(done.error) == {"code", "reason", "message", "hint", "retryable"}
    assert done.error["code"] == "NOT_FOUND"
    assert done.error["reason"] == "THREAD_NOT_FOUND"
    assert name in done.error["message"]
    assert done.error["retryable"] is False


def test_an_error_without_json_says_what_to_do(shell: Shell, name: str) -> None:
    done = shell.run("read", name)
    said, hint = done.err.splitlines()
    assert said.startswith(f"threadbus: no thread {name}")
    assert hint.startswith("  threadbus thread")


def test_a_post_too_large_is_exit_code_6(shell: Shell, name: str) -> None:
    done = shell.run("post", name, "-", "--json", stdin=b"a" * (1024 * 1024 + 1))
    assert (done.code, done.error["reason"]) == (6, "MESSAGE_TOO_LARGE")


@pytest.mark.parametrize("where", ["content", "attachment"])
def test_a_post_too_large_for_grpc_names_the_limits_of_the_server(
    shell: Shell, name: str, tmp_path: Path, where: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 4_500_000)
    arguments = ["-"] if where == "content" else ["see file", "--attach", str(file)]
    stdin = file.read_bytes() if where == "content" else None
    done = shell.run("post", name, *arguments, "--json", stdin=stdin)
    assert (done.code, done.error["code"]) == (6, "RESOURCE_EXHAUSTED")
    assert "1,048,576 bytes of content" in done.error["message"]


def test_a_host_name_that_cannot_be_resolved_is_reported(tmp_path: Path) -> None:
    host = "no..host"  # not valid, so that no resolver is asked
    done = Shell(host, tmp_path).run("agents", "--timeout", "0.2", "--json")
    assert (done.code, done.error["code"], done.error["retryable"]) == (4, "UNAVAILABLE", True)
    assert "no..host:7420 cannot be resolved" in done.error["message"]
    assert "host name" in done.error["hint"]


def test_a_limit_that_is_reached_is_exit_code_6(start_server: StartServer, tmp_path: Path) -> None:
    shell = Shell(start_server("--max-open-waits", "1").address, tmp_path)
    shell.ok("post", "log", "hello", "--as", "coder")
    with shell.start("tail", "log", "--as", "coder") as tail:
        assert tail.stdout is not None
        assert "hello" in tail.stdout.readline()
        done = shell.run("wait", "log", "--after", "1", "--as", "coder", "--json")
    assert (done.code, done.error["reason"]) == (6, "QUOTA_EXCEEDED")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_tail_silently(
    shell: Shell, name: str, number: signal.Signals, code: int
) -> None:
    shell.ok("post", name, "hello")
    with shell.start("tail", name) as running:
        assert running.stdout is not None
        assert "hello" in running.stdout.readline()
        running.send_signal(number)
        assert running.communicate(timeout=20) == ("", "")
    assert running.returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_wait_silently(
    shell: Shell, name: str, number: signal.Signals, code: int
) -> None:
    shell.ok("thread", "create", name)
    with shell.start("wait", name, "--as", name, "--json") as running:
        entered = ["thread", "list", "--participant", name, "--json"]
        until(lambda: bool(shell.ok(*entered).json["threads"]))
        running.send_signal(number)
        assert running.communicate(timeout=20) == ("", "")
    assert running.returncode == code


@pytest.mark.sqlite
def test_a_lost_response_is_reported_with_a_way_to_check(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--busy-timeout", "30")
    shell = Shell(server.address, tmp_path)
    shell.ok("thread", "create", "log")
    with closing(sqlite3.connect(server.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the server waits for the end of this transaction
        done = shell.run("post", "log", "hello", "--timeout", "2", "--json")
        created = shell.run("thread", "create", "other", "--timeout", "2", "--json")
    assert (done.code, done.out, done.error["retryable"]) == (1, "", True)
    assert (created.code, "Check whether" in created.error["hint"]) == (1, True)
    request_id = re.search(r"--request-id (\w+)", done.error["hint"])
    assert request_id
    assert shell.run("post", "log", "hello", *request_id[0].split()).out == "log #1\n"
    assert len(shell.ok("read", "log", "--json").json["messages"]) == 1


def test_a_closed_pipe_is_not_reported_as_a_failure(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = shell.run_process("read", name, stdout=closed)
    assert (done.code, done.err) == (141, "")


def test_a_full_disk_is_reported_once(shell: Shell, name: str) -> None:
    shell.ok("post", name, "hello")
    with Path("/dev/full").open("wb") as full:
        done = shell.run_process("read", name, stdout=full)
    assert (done.code, done.err) == (1, "threadbus: No space left on device\n")


def test_a_closed_stdout_is_reported(shell: Shell) -> None:
    assert shell.script("threadbus thread list >&-; echo $?") == "1\n"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:7420", "127.0.0.1:99999", "a:b", ":", "unix:", ""]
)
def test_an_invalid_address_is_wrong_usage(shell: Shell, address: str) -> None:
    done = shell.run("agents", "--server", address)
    assert done.code == 2
    assert "HOST:PORT" in done.err


def test_an_address_with_a_scheme_is_refused_with_what_to_leave_out(shell: Shell) -> None:
    done = shell.run("agents", "--server", "http://127.0.0.1:7420")
    assert "leave out http://" in done.err


def test_a_server_that_does_not_respond_is_reported_before_the_timeout(tmp_path: Path) -> None:
    shell = Shell("127.0.0.1:1", tmp_path)
    done = shell.run("agents", "--timeout", "2")
    assert done.code == 4
    assert "does not answer yet" in done.err.splitlines()[0]


def test_a_wait_retries_no_longer_than_its_timeout(tmp_path: Path) -> None:
    done = Shell("127.0.0.1:1", tmp_path).run("wait", "t", "--as", "a", "--timeout", "2")
    assert done.code == 4
    assert "trying for 2 s" in done.err


@pytest.mark.parametrize("verb", [["--help"], ["post", "--help"], ["--version"]], ids=str)
def test_help_that_cannot_be_written_is_reported(shell: Shell, verb: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = shell.run_process(*verb, stdout=full)
    assert (done.code, done.err) == (1, "threadbus: No space left on device\n")


@pytest.mark.parametrize(
    ("verb", "code"),
    [("thread list", 0), ("read nothing-here", 1), ("post", 2), ("agents --server 127.0.0.1:1", 4)],
)
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_the_exit_code_is_the_same_whatever_streams_are_closed(
    shell: Shell, verb: str, code: int, redirection: str
) -> None:
    timeout = "--timeout 1s" if verb != "post" else ""
    script = f"threadbus {verb} {timeout} {redirection} >/dev/null; echo $?"
    assert shell.script(script) == f"{code}\n"


def test_a_closed_stdin_is_read_as_empty(shell: Shell, name: str) -> None:
    script = f"threadbus post {name} - <&- 2>&1; echo $?"
    assert "content: required" in shell.script(script)
    script = f"threadbus thread delete {name} <&- 2>&1; echo $?"
    assert "Add --yes" in shell.script(script)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_reopened_before_anything_else(tmp_path: Path, closed: str) -> None:
    """Otherwise the next file gets its number, and gRPC's messages for stderr go into it."""
    told = tmp_path / "told"
    program = (
        "import os, pathlib; from bus_client.cli.streams import open_standard_streams;"
        "open_standard_streams(); number = os.open(os.devnull, os.O_RDONLY);"
        f"pathlib.Path({str(told)!r}).write_text(str(number > 2))"
    )
    script = f'{sys.executable} -c "$0" {closed}'
    subprocess.run(["sh", "-c", script, program], check=True, timeout=30)
    assert told.read_text() == "True"


def test_without_a_home_folder_a_hint_is_printed_only_if_one_is_needed(shell: Shell) -> None:
    command = f"env -i PATH=$PATH {sys.executable} -m bus_client.cli thread list"
    server = f"--server {shell.server}"
    assert shell.script(f"cd {ROOT} && {command} {server} 2>&1; echo $?").endswith("0\n")


@pytest.mark.parametrize("as_json", [False, True], ids=["people", "json"])
def test_a_bug_is_reported_as_one_with_its_text_escaped(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("a\u202eb")

    monkeypatch.setattr("bus_client.cli.threads.thread_lines", broken)
    monkeypatch.setattr("bus_client.cli.threads.document", broken)
    shell.ok("post", "log", "hello")
    done = shell.run("thread", "list", *(["--json"] if as_json else []))
    assert (done.code, done.out) == (1, "")
    assert "\u202e" not in done.err
    if as_json:
        assert done.error["code"] == "INTERNAL"
        assert "LookupError" in done.error["message"]
    else:
        *traceback, said, hint = done.err.splitlines()
        assert traceback[0].startswith("Traceback")
        assert said.startswith("threadbus: LookupError")
        assert "report it" in hint


async def test_a_call_without_an_answer_in_time_is_reported_as_that(tmp_path: Path) -> None:
    async with scripted() as script:
        script.answer("ListAgents", asyncio.Event())
        shell = Shell(script.address, tmp_path)
        done = await asyncio.to_thread(shell.run, "agents", "--timeout", "1", "--json")
    assert (done.code, done.error["code"]) == (4, "DEADLINE_EXCEEDED")
    expected = f"{script.address} is there, but did not answer the call in time."
    assert done.error["message"] == expected
    assert "--timeout" in done.error["hint"]
