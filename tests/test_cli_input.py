"""What people type: times, addresses and names in their own forms, and bytes that are not text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


TIMES = ["5", "5s", "0.5", "10m", "36h", "30d", "1e1"]
#: Each option that takes a time, with the other arguments of its verb.
TIMED = {
    "post": ["post", "{name}", "x", "--timeout"],
    "wait": ["wait", "{name}", "--after", "0", "--timeout"],
    "lease": ["wait", "{name}", "--as", "{name}", "--lease"],
    "grace": ["agents", "rotate-token", "--as", "{name}", "--grace"],
}


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("option", TIMED)
def test_a_duration_may_have_a_unit(shell: Shell, name: str, option: str, time: str) -> None:
    shell.ok("post", name, "hello")
    if option in ("lease", "grace") and time[-1] in "hd":
        return  # longer than the server allows
    shell.ok(*(word.format(name=name) for word in TIMED[option]), time)


def test_units_have_their_usual_meaning(tmp_path: Path) -> None:
    done = Shell("127.0.0.1:1", tmp_path).run("wait", "t", "--timeout", "0.05m")
    assert "trying for 3 s" in done.err


@pytest.mark.parametrize("time", ["soon", "5x", "s", "", "nan", "inf", "-1", "400d", "5 minutes"])
def test_an_invalid_duration_is_wrong_usage(shell: Shell, time: str) -> None:
    done = shell.run("agents", f"--timeout={time}", "--json")
    assert (done.code, done.error["reason"]) == (2, "USAGE")
    assert "time" in done.error["message"] or "between 0 s and a year" in done.error["message"]


@pytest.mark.parametrize("option", ["lease", "grace"])
def test_a_duration_that_the_server_would_shorten_is_wrong_usage(
    shell: Shell, name: str, option: str
) -> None:
    arguments = [word.format(name=name) for word in TIMED[option]]
    shell.ok("post", name, "hello", "--as", f"{name}-other")
    shell.ok("register", name)
    for time in ("3601", "2h", "1d"):
        done = shell.run(*arguments, time, "--json")
        assert (done.code, done.error["reason"]) == (2, "USAGE")
        assert done.error["message"].endswith(f"{time} is not between 0 s and 3,600 s.")
    shell.ok(*arguments, "1h")


def test_serve_takes_durations_with_units_too(tmp_path: Path) -> None:
    done = Shell("", tmp_path).run("serve", "--agent-timeout", "2m", "--drain-timeout", "1x")
    assert done.code == 2
    assert "--agent-timeout" not in done.err
    assert "'1x'" in done.err


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("localhost", "localhost:7420"),
        ("10.0.0.1", "10.0.0.1:7420"),
        ("localhost:1", "localhost:1"),
        ("[::1]", "[::1]:7420"),
        ("::1", "[::1]:7420"),
        ("[::1]:1", "[::1]:1"),
        ("unix:bus.sock", "unix:bus.sock"),
    ],
)
def test_an_address_may_lack_its_port(typed: str, address: str) -> None:
    from bus_client import BusClient

    assert BusClient(typed).server == address


def test_an_error_names_the_server_with_its_port(shell: Shell) -> None:
    done = shell.run("agents", "--server", "threadbus.invalid", "--timeout", "0.1", "--json")
    assert done.code == 4
    assert "threadbus.invalid:7420" in done.error["message"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("Coder", "such as coder"),
        ("@coder", "such as coder"),
        ("Ada L.", "such as ada-l"),
        ("Ü", ""),
    ],
)
@pytest.mark.parametrize("verb", [["agents", "--as"], ["register"], ["doctor", "--as"]], ids=str)
def test_an_invalid_name_is_reported_with_the_argument_it_came_from(
    shell: Shell, tmp_path: Path, verb: list[str], typed: str, told: str
) -> None:
    done = shell.run(*verb, typed, "--json")
    assert (done.code, done.error["reason"]) == (2, "USAGE")
    assert repr(typed) in done.error["message"]
    assert told in done.error["message"]
    assert verb[-1] == "register" or "--as" in done.error["message"]
    assert not (tmp_path / "data").exists()


def run_bytes(shell: Shell, *arguments: bytes, env: dict[bytes, bytes] | None = None) -> str:
    """Return what a command prints to stderr for bytes that are not text. It must fail."""
    command = [os.fsencode(sys.executable), b"-m", b"bus_client.cli", *arguments]
    environment = {
        os.fsencode(key): os.fsencode(value) for key, value in shell.environment().items()
    }
    done = subprocess.run(command, capture_output=True, env=environment | (env or {}), timeout=30)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        (b"post", b"t", b"bad\xff"),
        (b"post", b"t", b"x", b"--label", b"k=\xff"),
        (b"read", b"\xff"),
        (b"export", b"t", b"--out", b"\xff"),
        (b"agents", b"--timeout", b"5\xff"),
        (b"\xff",),
    ],
)
def test_an_argument_that_is_not_text_is_reported(
    shell: Shell, arguments: tuple[bytes, ...]
) -> None:
    assert re.search(r"\\udcff\S* is not UTF-8", run_bytes(shell, *arguments))


@pytest.mark.parametrize("variable", [b"THREADBUS_AGENT", b"THREADBUS_SERVER", b"THREADBUS_THREAD"])
def test_a_variable_that_is_not_text_is_reported(shell: Shell, variable: bytes) -> None:
    env = {b"THREADBUS_THREAD": b"t", variable: b"bad\xff"}
    told = run_bytes(shell, b"read", b"--timeout", b"1", env=env)
    assert "\\udcff" in told


def test_a_number_with_very_many_digits_is_reported_in_our_own_words(
    server: ServerProcess, shell: Shell, name: str, tmp_path: Path
) -> None:
    line = f'{{"thread": "{name}", "sender": "coder", "content": "x", "n": {"9" * 5_000}}}\n'
    (tmp_path / "talk.jsonl").write_text(line)
    token = server.db.with_name(f"{server.db.name}.operator-token")
    done = shell.run("import", str(tmp_path / "talk.jsonl"), "--token-file", str(token))
    assert done.code == 2
    assert "Line 1, after posting 0 messages: it has a number of more than 4,300 digits" in done.err
    assert "sys." not in done.err
