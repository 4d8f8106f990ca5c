"""`threadbus install` and the programs of hosts, which may be missing, fail, hang, or talk."""

import json
import os
import shlex
import signal
import tomllib
from pathlib import Path

import pytest

from bus_client.hosts import install_command
from bus_client.hosts.install_json import InstallError
from tests.fake_hosts import PROGRAMS, Desk

each_program = pytest.mark.parametrize(("host", "program"), PROGRAMS.items())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk.at(tmp_path)
    monkeypatch.chdir(desk.project)
    return desk


@pytest.mark.parametrize(
    ("host", "package", "file"),
    [
        ("claude-code", "@anthropic-ai/claude-code", "my app/.mcp.json"),
        ("codex", "@openai/codex", "home/.codex/config.toml"),
        ("copilot", "@github/copilot", "home/.copilot/mcp-config.json"),
    ],
)
def test_without_the_program_it_says_what_to_do(
    desk: Desk, host: str, package: str, file: str
) -> None:
    (desk.bin / PROGRAMS[host]).unlink()
    done = desk.install(host, "--as", "me-too", "--hooks", env={"XDG_DATA_HOME": "/my data"})
    assert done.code == 1
    assert done.out == ""
    error, _, paste = done.err.partition("\n  To do it by hand, add:\n")
    assert f"{PROGRAMS[host]} is not on PATH" in error
    assert f"npm install -g {package}" in error
    assert str(desk.root / file) in error
    if host == "codex":
        server = tomllib.loads(paste)["mcp_servers"]["threadbus"]
    else:
        server = json.loads(paste)["mcpServers"]["threadbus"]
    assert server["command"] == str(desk.bin / "threadbus")
    assert server["args"][:3] == ["mcp", "--as", "me-too"]
    assert server["env"] == {"XDG_DATA_HOME": "/my data"}
    assert desk.tree() == {}


@each_program
def test_removing_needs_the_program_too(desk: Desk, host: str, program: str) -> None:
    desk.install(host, "--hooks")
    before = desk.tree()
    (desk.bin / program).unlink()
    done = desk.install(host, "--remove")
    assert done.code == 1
    assert f"{program} is not on PATH" in done.err
    assert "To do it by hand" not in done.err
    assert desk.tree() == before


@each_program
def test_if_the_program_fails_nothing_is_changed(desk: Desk, host: str, program: str) -> None:
    desk.put_program(program, 'end("\\x1b[31mno such flag\\nSee --help.\\x1b[0m", 7)')
    for arguments, verb in ((["--hooks", "--allow"], "add"), (["--remove"], "remove")):
        done = desk.install(host, *arguments)
        assert (done.code, done.err) == (
            1,
            f"threadbus: {program} mcp {verb} failed (exit code 7): no such flag See --help.\n",
        )
        assert desk.tree() == {}


@each_program
def test_a_program_that_dies_is_reported(desk: Desk, host: str, program: str) -> None:
    desk.put_program(program, "os.kill(os.getpid(), 9)")
    done = desk.install(host)
    assert done.err == f"threadbus: {program} mcp add failed (signal 9): it said nothing.\n"


@each_program
def test_a_program_that_cannot_be_started_is_reported(desk: Desk, host: str, program: str) -> None:
    (desk.bin / program).write_bytes(b"\x7fELF nothing")
    done = desk.install(host)
    assert (done.code, done.err) == (
        1,
        f"threadbus: {program} cannot be started: Exec format error.\n",
    )


@each_program
def test_a_program_that_prints_megabytes_is_cut_short(desk: Desk, host: str, program: str) -> None:
    desk.put_program(
        program, 'os.write(1, b"x\\xff\\x1b[2J " * 2_000_000); end("the end \\u202e", 1)'
    )
    done = desk.install(host)
    assert done.code == 1
    assert len(done.err) < 2_000
    assert done.err.startswith(f"threadbus: {program} mcp add failed (exit code 1): … ")
    assert done.err.endswith("the end \\u202e.\n")
    assert "\x1b" not in done.err


@pytest.mark.slow
def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 9> {shlex.quote(str(held))}; sleep 600 & sleep 600"
    with pytest.raises(InstallError, match=r"^sh -c .* did not end within 1 s, and was killed\.$"):
        install_command.run(["sh", "-c", script], within=1)
    os.set_blocking(reading, True)
    assert os.read(reading, 1) == b""  # once nobody holds it any more
    os.close(reading)


@pytest.mark.slow
def test_a_child_that_outlives_the_program_does_not_hold_us_up() -> None:
    script = "sleep 600 & echo $!; exit 3"
    done = install_command.run(["sh", "-c", script], within=30)
    assert done.code == 3
    os.kill(int(done.output), signal.SIGKILL)


def test_a_program_gets_no_input(desk: Desk) -> None:
    desk.put_program("codex", 'end(f"read {len(sys.stdin.read())}", 1)')
    assert "read 0" in desk.install("codex").err


@each_program
def test_a_registration_of_another_kind_is_replaced(desk: Desk, host: str, program: str) -> None:
    kept = ["mcp", "add", "threadbus", "--", "/old/threadbus", "mcp"]
    (desk.home / f"{program}-registered").write_text(json.dumps(kept), "utf-8")
    assert desk.install(host).code == 0
    assert str(desk.bin / "threadbus") in (desk.registered(host) or [])


def test_a_registration_that_cannot_be_shown_is_replaced(desk: Desk) -> None:
    desk.put_program("codex", 'if "get" in words: end("{ broken")\nput()')
    done = desk.install("codex")
    assert done.code == 0, done
    assert done.out.startswith("ran: codex mcp add ")


def test_it_is_said_if_the_earlier_registration_is_lost(desk: Desk) -> None:
    body = """
flag = home + "/removed"
if words[:2] == ["mcp", "remove"]:
    open(flag, "w")
    end("Removed")
end("disk full", 1) if os.path.exists(flag) else end("threadbus already exists", 1)
"""
    desk.put_program("claude", body)
    done = desk.install("claude-code", "--hooks")
    assert done.code == 1
    assert done.err.endswith("disk full. The earlier registration was removed.\n")
    assert not desk.file("claude-code", "hooks").exists()


def test_a_host_that_always_says_that_it_exists_is_given_up(desk: Desk) -> None:
    desk.put_program("claude", 'end("it already exists", 1) if "add" in words else end("ok")')
    done = desk.install("claude-code")
    assert done.code == 1
    assert "it already exists" in done.err
    assert len(desk.calls()) == 6


@pytest.mark.parametrize("content", ["{ broken", "[1, 2", "\0"])
def test_claude_code_would_replace_a_broken_file(desk: Desk, content: str) -> None:
    path = desk.home / ".claude.json"
    path.write_text(content, "utf-8")
    for arguments in (["--hooks"], ["--remove"]):
        done = desk.install("claude-code", *arguments)
        assert (done.code, done.err) == (
            1,
            f"threadbus: {path} was left alone: it is not JSON. Claude Code would replace it.\n",
        )
    assert path.read_text("utf-8") == content
    assert desk.calls() == []


def test_claude_codes_own_file_may_be_large(desk: Desk) -> None:
    (desk.home / ".claude.json").write_text(json.dumps({"history": "x" * 3_000_000}), "utf-8")
    assert desk.install("claude-code").code == 0


@pytest.mark.slow
def test_a_file_that_changes_after_the_look_is_reported_with_what_was_done(desk: Desk) -> None:
    hooks = desk.file("codex", "hooks")
    hooks.parent.mkdir()
    desk.put_program(
        "codex", f'if "add" in words:\n  put()\n  open({str(hooks)!r}, "w").write("{{ broken")'
    )
    done = desk.install("codex", "--hooks")
    assert done.code == 1
    assert f"{hooks} was left alone: it is not plain JSON" in done.err
    assert "Done before that: codex mcp add threadbus " in done.err
    assert hooks.read_text("utf-8") == "{ broken"
