"""`threadbus install`: what it registers, writes, says, and removes."""

import sys
from pathlib import Path
from typing import Any

import pytest

from bus_client.hosts.install import default_agent, program_path
from bus_client.hosts.install_json import InstallError
from bus_client.hosts.table import HOSTS, Event, Layout
from tests.fake_hosts import PROGRAMS, Desk
from tests.shell import Done
from threadbus.names import AGENT

WITH_HOOKS = [name for name, host in HOSTS.items() if host.hook_file]
WITH_FILES = [name for name in HOSTS if name not in PROGRAMS]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk.at(tmp_path)
    monkeypatch.chdir(desk.project)
    return desk


def commands(document: Any, host: str) -> dict[str, list[str]]:
    """Return the hooks' commands, by the host's name of the event."""
    file = HOSTS[host].hook_file
    assert file is not None
    found: dict[str, list[str]] = {}
    for event, entries in document["hooks"].items():
        groups = file.layout is Layout.GROUPS
        hooks = [hook for group in entries for hook in group["hooks"]] if groups else entries
        found[event] = [hook[file.command_key] for hook in hooks]
    return found


def changes(done: Done) -> set[str]:
    """Return the lines that tell of a change."""
    return {line for line in done.out.splitlines() if line.startswith(("changed: ", "ran: "))}


@pytest.mark.parametrize(
    ("host", "env_flag", "options"),
    [
        ("claude-code", "-e", []),
        ("codex", "--env", ["--wait-max", "25"]),
        ("copilot", "--env", []),
    ],
)
def test_the_bridge_is_registered_by_the_hosts_own_command(
    desk: Desk, host: str, env_flag: str, options: list[str]
) -> None:
    done = desk.install(host, "--thread", "design", env={"XDG_DATA_HOME": "/data"})
    assert done.code == 0, done
    scope = ["-s", "local"] if host == "claude-code" else []
    bridge = [str(desk.bin / "threadbus"), "mcp", "--as", f"{host}-my-app", "--thread", "design"]
    bridge += options
    words = ["mcp", "add", *scope, "threadbus", env_flag, "XDG_DATA_HOME=/data", "--", *bridge]
    assert desk.registered(host) == words
    assert f"agent: {host}-my-app\n" in done.out
    assert desk.tree() == {}


@pytest.mark.parametrize(
    ("host", "key", "more"),
    [
        ("gemini", "mcpServers", {}),
        ("qwen", "mcpServers", {}),
        ("cursor", "mcpServers", {}),
        ("vscode", "servers", {"type": "stdio"}),
    ],
)
def test_the_bridge_is_registered_in_the_hosts_file(
    desk: Desk, host: str, key: str, more: dict[str, str]
) -> None:
    done = desk.install(host, "--as", "reviewer", env={"XDG_DATA_HOME": "/data"})
    assert done.code == 0, done
    assert desk.document(host, "server") == {
        key: {
            "threadbus": {
                **more,
                "command": str(desk.bin / "threadbus"),
                "args": ["mcp", "--as", "reviewer"],
                "env": {"XDG_DATA_HOME": "/data"},
            }
        }
    }
    assert desk.calls() == []


def test_opencode_has_a_form_of_its_own(desk: Desk) -> None:
    desk.install("opencode", env={"XDG_DATA_HOME": "/data"})
    assert desk.document("opencode", "server")["mcp"]["threadbus"] == {
        "type": "local",
        "enabled": True,
        "command": [str(desk.bin / "threadbus"), "mcp", "--as", "opencode-my-app"],
        "environment": {"XDG_DATA_HOME": "/data"},
    }


@pytest.mark.parametrize("host", WITH_HOOKS)
def test_hooks_are_written_for_every_event(desk: Desk, host: str) -> None:
    done = desk.install(host, "--as", "reviewer", "--thread", "design", "--hooks")
    assert done.code == 0, done
    program = desk.bin / "threadbus-hook"
    assert commands(desk.document(host, "hooks"), host) == {
        name: [f"{program} {event} --host {host} --as reviewer"]
        for event, name in HOSTS[host].events.items()
    }


@pytest.mark.parametrize(
    ("host", "key", "limits"),
    [
        ("claude-code", "timeout", [615, 15]),
        ("codex", "timeout", [615, 15]),
        ("gemini", "timeout", [615_000, 15_000]),
        ("qwen", "timeout", [615_000, 15_000]),
        ("copilot", "timeoutSec", [615, 15]),
        ("cursor", "timeout", [615, 15]),
        ("vscode", "timeout", [615, 15]),
    ],
)
def test_a_hook_that_waits_gets_a_longer_limit(
    desk: Desk, host: str, key: str, limits: list[int]
) -> None:
    assert desk.install(host, "--hooks", "--wait", "10m").code == 0
    document = desk.document(host, "hooks")
    names = HOSTS[host].events
    found = []
    for event in (Event.STOP, Event.POST_TOOL):
        entry = document["hooks"][names[event]][0]
        hook = entry["hooks"][0] if "hooks" in entry else entry
        found.append(hook[key])
    assert found == limits
    lines = commands(document, host)
    assert [" --wait 600" in lines[name][0] for name in names.values()].count(True) == 1
    assert lines[names[Event.STOP]][0].endswith(" --wait 600")


def test_a_stop_hook_of_cursor_may_go_on_as_often_as_it_must(desk: Desk) -> None:
    desk.install("cursor", "--hooks")
    document = desk.document("cursor", "hooks")
    assert document["version"] == 1
    assert document["hooks"]["stop"][0]["loop_limit"] is None


def test_where_the_server_and_the_token_are_is_passed_on(desk: Desk) -> None:
    token = desk.project / "own token"
    token.write_text("x" * 43, "utf-8")
    variables = {"THREADBUS_CREDENTIALS": "/my tokens", "THREADBUS_CA_FILE": str(token)}
    desk.install("gemini", "--hooks", "--server", "bus", "--token-file", "own token", env=variables)
    document = desk.document("gemini", "server")
    server = document["mcpServers"]["threadbus"]
    connection = ["--server", "bus:7420", "--token-file", str(token), "--ca-file", str(token)]
    assert server["args"] == ["mcp", "--as", "gemini-my-app", *connection]
    assert server["env"] == {"THREADBUS_CREDENTIALS": "/my tokens"}
    line = commands(document, "gemini")["AfterAgent"][0]
    assert line.startswith(f"THREADBUS_CREDENTIALS='/my tokens' {desk.bin}/threadbus-hook stop ")
    assert line.endswith(f"--server bus:7420 --token-file '{token}' --ca-file '{token}'")


def test_the_servers_variable_counts_as_the_option_does(desk: Desk) -> None:
    desk.install("gemini", env={"THREADBUS_SERVER": "bus:1"})
    arguments = desk.document("gemini", "server")["mcpServers"]["threadbus"]["args"]
    assert arguments[-2:] == ["--server", "bus:1"]


@pytest.mark.parametrize(
    ("given", "written"), [("unix:bus.sock", "unix:{project}/bus.sock"), ("unix:/s", "unix:/s")]
)
def test_the_path_of_a_socket_is_made_absolute(desk: Desk, given: str, written: str) -> None:
    desk.install("gemini", "--server", given)
    arguments = desk.document("gemini", "server")["mcpServers"]["threadbus"]["args"]
    assert arguments[-1] == written.format(project=desk.project)


def test_a_token_in_the_environment_is_not_written_down(desk: Desk) -> None:
    done = desk.install("gemini", "--hooks", env={"THREADBUS_TOKEN": "s" * 43})
    assert b"s" * 43 not in b"".join(desk.tree().values())
    assert "THREADBUS_TOKEN was not written down" in done.err


def test_without_the_fast_program_hooks_run_the_verb(desk: Desk) -> None:
    (desk.bin / "threadbus-hook").unlink()
    desk.install("codex", "--hooks")
    line = commands(desk.document("codex", "hooks"), "codex")["Stop"][0]
    assert line == f"{desk.bin}/threadbus hook stop --host codex --as codex-my-app"


def test_hooks_of_a_program_whose_path_has_spaces_are_written_once(desk: Desk) -> None:
    (desk.bin / "threadbus-hook").unlink()
    spaced = desk.root / "my programs"
    desk.bin.rename(spaced)
    path = {"PATH": str(spaced)}
    assert desk.install("codex", "--hooks", env=path).code == 0
    before = desk.tree()
    assert b"my programs/threadbus' hook stop" in before["home/.codex/hooks.json"]
    assert desk.install("codex", "--hooks", env=path).code == 0
    assert desk.tree() == before
    assert desk.install("codex", "--remove", env=path).code == 0
    assert desk.tree() == {}


def test_a_host_finds_its_files_where_its_variable_says(desk: Desk) -> None:
    other = desk.root / "other"
    desk.install("codex", "--hooks", env={"CODEX_HOME": str(other)})
    assert (other / "hooks.json").exists()
    assert not desk.file("codex", "hooks").exists()


@pytest.mark.parametrize("host", HOSTS)
def test_repeating_changes_nothing(desk: Desk, host: str) -> None:
    arguments = [
        host,
        "--thread",
        "design",
        *(["--hooks"] if host in WITH_HOOKS else []),
        "--allow",
    ]
    assert desk.install(*arguments).code == 0
    before, registered = desk.tree(), desk.registered(host) if host in PROGRAMS else None
    done = desk.install(*arguments)
    assert done.code == 0, done
    assert desk.tree() == before
    assert host in WITH_FILES or desk.registered(host) == registered
    if host != "claude-code":  # it cannot show a registration without starting it
        assert changes(done) == set()


@pytest.mark.parametrize("host", HOSTS)
def test_another_name_replaces_the_first(desk: Desk, host: str) -> None:
    hooks = ["--hooks"] if host in WITH_HOOKS else []
    desk.install(host, "--as", "first", *hooks)
    done = desk.install(host, "--as", "second", *hooks)
    assert done.code == 0, done
    written = b"".join(desk.tree().values()).decode() + str(
        desk.registered(host) if host in PROGRAMS else ""
    )
    assert "first" not in written
    assert "second" in written


@pytest.mark.parametrize("host", WITH_HOOKS)
def test_hooks_that_stay_with_another_name_are_not_passed_over(desk: Desk, host: str) -> None:
    said = f"The hooks of {HOSTS[host].title} still run for another agent"
    assert said not in desk.install(host, "--as", "first", "--hooks").err
    assert said not in desk.install(host, "--as", "first").err
    assert said in desk.install(host, "--as", "second").err
    assert said not in desk.install(host, "--as", "second", "--hooks").err
    assert said not in desk.install(host, "--remove", "--as", "third").err


def test_codex_does_not_warn_of_the_limit_at_the_end_of_a_session(desk: Desk) -> None:
    desk.install("codex", "--hooks")
    (group,) = desk.document("codex", "hooks")["hooks"]["SessionEnd"]
    assert group["hooks"][0]["timeout"] == 3


@pytest.mark.parametrize("host", HOSTS)
def test_removing_leaves_nothing_behind(desk: Desk, host: str) -> None:
    hooks = ["--hooks"] if host in WITH_HOOKS else []
    desk.install(host, *hooks, "--allow")
    done = desk.install(host, "--remove")
    assert done.code == 0, done
    assert desk.tree() == {}
    assert host in WITH_FILES or desk.registered(host) is None
    again = desk.install(host, "--remove")
    assert f"Nothing was installed for {HOSTS[host].title} in {desk.project}" in again.err
    assert again.code == 0, again
    assert changes(again) == set()


@pytest.mark.parametrize("host", HOSTS)
def test_a_dry_run_changes_nothing(desk: Desk, host: str) -> None:
    hooks = ["--hooks"] if host in WITH_HOOKS else []
    for arguments in (hooks, ["--remove"]):
        done = desk.install(host, "--dry-run", *arguments)
        assert done.code == 0, done
    assert (desk.tree(), desk.calls()) == ({}, [])


def test_a_dry_run_shows_what_would_be_done(desk: Desk) -> None:
    for program in PROGRAMS.values():
        (desk.bin / program).unlink()
    done = desk.install("claude-code", "--thread", "design", "--allow", "--dry-run")
    assert done.out.splitlines() == [
        f"would run: claude mcp add -s local threadbus -- {desk.bin}/threadbus mcp "
        "--as claude-code-my-app --thread design",
        f"would change: {desk.project}/.claude/settings.local.json",
        '  permissions: {"allow": ["mcp__threadbus"]}',
        "agent: claude-code-my-app",
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_permissions_are_written_only_if_asked_for(desk: Desk, host: str) -> None:
    hooks = ["--hooks"] if host in WITH_HOOKS else []
    desk.install(host, *hooks)
    text = b"".join(desk.tree().values())
    assert b'"permissions"' not in text
    assert b'"trust"' not in text


@pytest.mark.parametrize("host", ["gemini", "qwen"])
def test_gemini_and_qwen_are_told_to_trust_the_bridge(desk: Desk, host: str) -> None:
    desk.install(host, "--allow")
    assert desk.document(host, "server")["mcpServers"]["threadbus"]["trust"] is True


def test_claude_code_is_given_a_rule(desk: Desk) -> None:
    desk.install("claude-code", "--allow")
    assert desk.document("claude-code", "permission") == {
        "permissions": {"allow": ["mcp__threadbus"]}
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("claude-code", "--allow permits them all"),
        ("codex --hooks", "start codex, which asks you"),
        ("codex", "share the name codex-my-app"),
        ("copilot", "copilot --allow-tool threadbus"),
        ("copilot --allow", "--allow writes nothing for GitHub Copilot CLI: start it with"),
        ("opencode --allow", "--allow writes nothing for OpenCode."),
        ("gemini", "a folder that you trust"),
        ("gemini", "Do not commit what this has added to .gemini/settings.json"),
        ("vscode", "`MCP: List Servers`"),
        ("cursor", "Switch threadbus on"),
    ],
)
def test_it_says_what_is_left_to_do(desk: Desk, arguments: str, said: str) -> None:
    done = desk.install(*arguments.split())
    assert done.code == 0, done
    assert said in done.err


def test_as_json(desk: Desk) -> None:
    done = desk.install("gemini", "--json", "--dry-run", "--as", "reviewer")
    assert done.err == ""
    path = str(desk.file("gemini", "server"))
    server = {"command": str(desk.bin / "threadbus"), "args": ["mcp", "--as", "reviewer"]}
    adds = {"mcpServers": {"threadbus": server}}
    document = done.json
    assert document.pop("to_do")
    assert document == {
        "host": "gemini",
        "dry_run": True,
        "agent": "reviewer",
        "thread": None,
        "steps": [{"file": path, "changes": True, "adds": adds}],
    }
    desk.install("codex")
    steps = desk.install("codex", "--json").json["steps"]
    assert steps[0]["command"].startswith("codex mcp add threadbus ")
    assert steps[0]["changes"] is False


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my-app", "codex-my-app"),
        ("My App (2)", "codex-my-app-2"),
        ("Übersicht", "codex-ubersicht"),
        ("日本", "codex"),
        ("", "codex"),
        ("__init__", "codex-init"),
        ("...", "codex"),
        ("a" * 200, "codex-" + "a" * 57),
        ("a" * 56 + "-" + "b" * 20, "codex-" + "a" * 56),
    ],
)
def test_the_default_name_is_made_of_host_and_folder(folder: str, name: str) -> None:
    assert default_agent(HOSTS["codex"], Path("/") / folder) == name
    assert AGENT.fullmatch(name)


def test_the_snippet_is_six_lines_that_name_the_agent_and_the_thread(desk: Desk) -> None:
    for program in PROGRAMS.values():
        (desk.bin / program).unlink()
    done = desk.install("codex", "--snippet", "--thread", "design")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 6
    assert "codex-my-app" in lines[0]
    assert "thread design" in lines[0]
    assert (desk.tree(), desk.calls()) == ({}, [])
    assert desk.install("codex", "--snippet", "--json").json["snippet"].count("\n") == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "HOST"),
        ("emacs", "'emacs' is not one of"),
        ("codex --as Bad!", "not a valid name"),
        ("codex --as all", "reserved"),
        ("codex --thread a/b", "not a valid name"),
        ("codex --wait 5", "--wait needs --hooks"),
        ("codex --hooks --wait 2d", "not between"),
        ("opencode --hooks", "OpenCode has no hooks"),
        ("codex --snippet --remove", "--snippet"),
        ("codex --token-file missing", "missing"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_changes_nothing(
    desk: Desk, arguments: str, said: str
) -> None:
    done = desk.install(*arguments.split())
    assert done.code == 2, done
    assert said in done.err
    assert (desk.tree(), desk.calls()) == ({}, [])


def test_the_program_is_the_one_that_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    link = desk.home / "threadbus"
    link.symlink_to(desk.bin / "threadbus")
    for called, path in (
        ("../bin/threadbus", desk.bin / "threadbus"),
        (str(link), link),  # as of pipx, which changes its target at an upgrade
    ):
        monkeypatch.setattr(sys, "argv", [called])
        assert program_path() == path


def test_else_the_program_is_on_path_or_beside_the_interpreter(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py"])
    monkeypatch.setattr(sys, "executable", str(desk.home / "python"))
    monkeypatch.setenv("PATH", str(desk.bin))
    assert program_path() == desk.bin / "threadbus"
    monkeypatch.setenv("PATH", str(desk.home))
    with pytest.raises(InstallError, match="threadbus is not on PATH"):
        program_path()
    (desk.home / "threadbus").touch()
    assert program_path() == desk.home / "threadbus"


def test_the_home_directory_must_be_known(desk: Desk) -> None:
    done = desk.install("codex", env={"HOME": "relative"})
    assert (done.code, done.err) == (1, "threadbus: The home directory is unknown: set HOME.\n")
