"""`threadbus login`, `whoami`, `agents reset-token` and `agents kick`."""

import json
from pathlib import Path

import pytest

from bus_client import credentials
from tests.callers import operator
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def boss(server: ServerProcess) -> dict[str, str]:
    """The environment of an operator."""
    return {"THREADBUS_TOKEN": operator(server).token}


def stored(shell: Shell) -> dict[str, dict[str, str]]:
    """Returns the tokens that are stored."""
    file = shell.home / "data/threadbus/credentials.json"
    tokens: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8"))
    return tokens


def other_spelling(shell: Shell) -> Shell:
    """The same user, who calls the server by another name."""
    return Shell(shell.server.replace("127.0.0.1", "localhost"), shell.home)


def test_a_lost_token_is_replaced_and_taken_to_another_machine(
    shell: Shell, boss: dict[str, str], name: str, tmp_path: Path
) -> None:
    shell.ok("register", name)
    laptop = Shell(shell.server, tmp_path / "laptop")
    lost = laptop.run("post", name, "hello", "--as", name)
    assert lost.code == 5
    assert "threadbus agents reset-token NAME" in lost.err
    done = laptop.run("agents", "reset-token", name, "--yes", "--show-token", env=boss)
    assert done.code == 0
    assert laptop.ok("post", name, "hello", "--as", name).out == f"{name} #1\n"
    ended = shell.run("post", name, "hello", "--as", name)
    assert (ended.code, "new token from the server's operator" in ended.err) == (6, True)
    container = Shell(shell.server, tmp_path / "container")
    issued = {"THREADBUS_TOKEN": done.out.strip()}
    assert container.run("login", env=issued).out == f"{name}\n"
    assert container.ok("post", name, "hello", "--as", name).out == f"{name} #2\n"


def test_login_checks_the_token_and_the_name(
    shell: Shell, boss: dict[str, str], name: str, tmp_path: Path
) -> None:
    token = {"THREADBUS_TOKEN": shell.ok("register", name, "--show-token").out.split()[1]}
    elsewhere = Shell(shell.server, tmp_path / "elsewhere")
    assert elsewhere.run("login").code == 2
    assert elsewhere.run("login", f"{name}-2", env=token).code == 6
    assert elsewhere.run("login", env={"THREADBUS_TOKEN": "x" * 43}).code == 6
    done = elsewhere.run("login", env=boss)
    assert (done.code, "operator's token, which is not stored" in done.err) == (2, True)
    assert not (elsewhere.home / "data/threadbus/credentials.json").exists()
    assert elsewhere.run("login", name, "--json", env=token).json == {"agents": [name]}
    assert stored(elsewhere) == stored(shell)


def test_loopback_addresses_of_a_server_share_tokens(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    other = other_spelling(shell)
    assert other.ok("post", name, "hello", "--as", name).out == f"{name} #1\n"
    other.ok("agents", "rotate-token", "--as", name)
    assert shell.ok("post", name, "hello", "--as", name).out == f"{name} #2\n"
    assert list(stored(shell)) == [shell.server]


def test_a_new_token_replaces_those_under_all_addresses(tmp_path: Path) -> None:
    file, both = tmp_path / "tokens.json", ["localhost:1", "127.0.0.1:1", "LOCALHOST:1"]
    for address in both:
        tokens = {"localhost:1": {"a": "old"}, "127.0.0.1:1": {"a": "older", "b": "other"}}
        file.write_text(json.dumps(tokens | {"[::1]:1": {"a": "apart"}}))
        file.chmod(0o600)
        credentials.keep_token(file, address, "a", "new")
        assert {credentials.kept_token(file, each, "a") for each in both} == {"new"}
        assert credentials.kept_tokens(file, address) == {"a": "new", "b": "other"}
        assert credentials.kept_token(file, "[::1]:1", "a") == "apart"
    for address in both:
        file.unlink()
        token = credentials.agent_token(file, address, "a")
        assert {credentials.agent_token(file, each, "a") for each in both} == {token}


@pytest.mark.usefixtures("chosen_store")
def test_paths_of_a_socket_share_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    socket = tmp_path / "bus.sock"
    with ServerProcess(tmp_path / "bus.db", "--listen", f"unix:{socket}"):
        absolute = Shell(f"unix:{socket}", tmp_path)
        absolute.ok("register", "coder")
        relative = Shell("unix:bus.sock", tmp_path)
        assert relative.ok("post", "t", "hi", "--as", "coder").out == "t #1\n"


def test_a_server_that_has_moved_is_given_the_tokens_of_its_old_address(
    shell: Shell, name: str
) -> None:
    for agent in (f"{name}-a", f"{name}-b"):
        shell.ok("register", agent)
    file = shell.home / "data/threadbus/credentials.json"
    before = stored(shell)[shell.server]
    file.write_text(json.dumps({"old.example:7420": before | {f"{name}-c": "x" * 43}}))
    done = shell.run("login", "--same-as", "old.example")
    assert (done.code, done.out.split()) == (1, [f"{name}-a", f"{name}-b"])
    assert f"{name}-c: " in done.err
    assert stored(shell)[shell.server] == before
    assert shell.ok("post", name, "hello", "--as", f"{name}-a").out == f"{name} #1\n"
    assert shell.run("login", "--same-as", "elsewhere").code == 1
    assert shell.run("login", "--same-as", "http://elsewhere").code == 2


def test_a_token_that_works_is_not_replaced_by_one_of_the_old_address(
    shell: Shell, name: str
) -> None:
    token = shell.ok("register", name, "--show-token").out.split()[1]
    shell.ok("agents", "rotate-token", "--grace", "1h", "--as", name)
    file = shell.home / "data/threadbus/credentials.json"
    before = stored(shell)
    file.write_text(json.dumps(before | {"old.example:7420": {name: token}}))
    assert shell.ok("login", "--same-as", "old.example").out == f"{name}\n"
    assert stored(shell)[shell.server] == before[shell.server]


def test_whoami_tells_the_name_and_registers_nobody(
    shell: Shell, boss: dict[str, str], name: str
) -> None:
    assert shell.ok("whoami").out == f"anonymous at {shell.server} may: post, read\n"
    assert shell.run("whoami", env=boss).out.startswith(f"operator at {shell.server} may: post,")
    assert shell.run("whoami", "--as", name).code == 1
    assert name not in shell.ok("agents").out
    shell.ok("register", name)
    shown = shell.ok("whoami", "--as", name, "--json").json
    assert (shown["agent"], shown["scopes"]) == (name, ["post", "read"])
    assert (shown["auth"], shown["thread_rights"]) == ("open", "owners")


def test_an_operator_ends_a_session(shell: Shell, boss: dict[str, str], name: str) -> None:
    shell.ok("register", name)
    assert shell.run("agents", "kick", name).code == 6
    assert shell.run("agents", "kick", name, env=boss).out == f"{name} offline\n"
    assert f"{name}  " in shell.ok("agents", "--presence", "offline").out


def test_only_an_operator_registers_people(
    shell: Shell, boss: dict[str, str], name: str, tmp_path: Path
) -> None:
    refused = shell.run("register", name, "--human")
    assert refused.code == 6
    assert "threadbus register NAME --human --token-file FILE" in refused.err
    assert shell.run("register", name, "--human", env=boss).code == 0
    assert shell.ok("register", name, "--json").json["kind"] == "AGENT_KIND_HUMAN"


def test_another_agents_thread_is_closed_by_its_creator_and_operators(
    shell: Shell, boss: dict[str, str], name: str
) -> None:
    shell.ok("thread", "create", name, "--as", f"{name}-a")
    denied = shell.run("thread", "close", name, "--as", f"{name}-b")
    assert denied.code == 6
    assert f"only {name}-a, people and operators may do this" in denied.err
    epoch = shell.ok("thread", "show", name, "--json").json["epoch"]
    assert shell.run("thread", "close", name, "--epoch", "other", "--as", f"{name}-a").code == 5
    shell.ok("thread", "close", name, "--epoch", epoch, "--as", f"{name}-a")
    assert shell.run("thread", "delete", name, "--yes", "--epoch", epoch, env=boss).code == 0
