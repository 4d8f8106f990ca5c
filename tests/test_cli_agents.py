"""`threadbus register`, `threadbus agents`, and the tokens stored for agents."""

import fcntl
import json
import stat
from pathlib import Path

import pytest

from tests.callers import operator
from tests.conftest import StartServer
from tests.disks import make_read_only, small_disk
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


def _credentials(shell: Shell) -> Path:
    return shell.home / "data/threadbus/credentials.json"


def test_register_prints_the_name_and_no_token(shell: Shell, name: str) -> None:
    assert shell.ok("register", name).out == f"{name}\n"
    agent = shell.ok("register", name, "--json").json
    assert (agent["name"], agent["kind"]) == (name, "AGENT_KIND_AGENT")
    assert "token" not in agent


def test_show_token_prints_the_stored_token(shell: Shell, name: str) -> None:
    assert shell.run("register", "--show-token", env={"THREADBUS_AGENT": name}).code == 0
    kept = json.loads(_credentials(shell).read_text("utf-8"))[shell.server][name]
    assert shell.ok("register", name, "--show-token").out == f"{name}\n{kept}\n"
    assert shell.ok("register", name, "--show-token", "--json").json["token"] == kept


def test_tokens_are_stored_where_only_their_user_can_read_them(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    folder = _credentials(shell).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes["credentials.json"] == 0o600
    assert set(modes.values()) == {0o600}


def test_register_prints_the_kind_of_the_agent(
    server: ServerProcess, shell: Shell, name: str
) -> None:
    options = ["--human", "--display-name", "Ada L.", "--description", "Reads diffs"]
    boss = {"THREADBUS_TOKEN": operator(server).token}
    agent = shell.run("register", name, *options, "--json", env=boss).json
    assert agent["kind"] == "AGENT_KIND_HUMAN"
    assert (agent["display_name"], agent["description"]) == ("Ada L.", "Reads diffs")
    lines = [line.split(maxsplit=2) for line in shell.ok("agents").out.splitlines()]
    (line,) = [line for line in lines if line[0] == name]
    assert line[1] == "human"
    assert "Ada L." in line[2]
    assert "Reads diffs" in line[2]


def test_agents_lists_registered_agents(shell: Shell, name: str) -> None:
    for agent in ("b", "a"):
        shell.ok("register", f"{name}-{agent}")
    listed = [agent["name"] for agent in shell.ok("agents", "--json").json["agents"]]
    assert [agent for agent in listed if agent.startswith(name)] == [f"{name}-a", f"{name}-b"]


def test_a_name_that_another_user_registered_is_a_conflict(
    shell: Shell, name: str, tmp_path: Path
) -> None:
    shell.ok("register", name)
    other = Shell(shell.server, tmp_path / "other")
    done = other.run("post", name, "hello", "--as", name, "--json")
    assert (done.code, done.error["reason"]) == (5, "AGENT_EXISTS")


@pytest.mark.parametrize("reserved", ["operator", "Upper", "anonymous"])
def test_an_invalid_name_is_wrong_usage(shell: Shell, reserved: str) -> None:
    done = shell.run("register", reserved, "--json")
    assert (done.code, done.error["code"]) == (2, "INVALID_ARGUMENT")


def test_a_given_token_is_used_unchanged(shell: Shell, name: str, tmp_path: Path) -> None:
    token = shell.ok("register", name, "--show-token").out.split()[1]
    elsewhere = Shell(shell.server, tmp_path / "elsewhere")
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    elsewhere.ok("post", name, "from a file", "--token-file", str(file))
    assert elsewhere.run("post", name, "from env", env={"THREADBUS_TOKEN": token}).code == 0
    messages = elsewhere.ok("read", name, "--json").json["messages"]
    assert {message["sender"] for message in messages} == {name}
    assert not _credentials(elsewhere).exists()


def test_a_token_file_that_others_can_read_is_refused(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("x" * 43)
    file.chmod(0o640)
    done = shell.run("agents", "--token-file", str(file), "--json")
    assert (done.code, done.out, done.error["code"]) == (1, "", "FAILED_PRECONDITION")
    assert done.error["hint"] == f"chmod 600 {file}"


def test_a_token_file_on_a_read_only_mount_is_accepted(
    shell: Shell, name: str, tmp_path: Path
) -> None:
    token = shell.ok("register", name, "--show-token").out.split()[1]
    with small_disk(tmp_path / "secrets", megabytes=1) as secrets:
        file = secrets / "token"
        file.write_text(token)
        file.chmod(0o444)
        make_read_only(secrets)
        assert shell.ok("post", name, "hello", "--token-file", str(file)).out == f"{name} #1\n"


def test_a_token_may_come_from_a_pipe(shell: Shell, name: str) -> None:
    token = shell.ok("register", name, "--show-token").out.split()[1]
    script = f"echo {token} | threadbus post {name} hello --token-file /dev/stdin; echo $?"
    assert shell.script(script).splitlines() == [f"{name} #1", "0"]


def test_the_token_of_another_agent_is_denied(shell: Shell, name: str) -> None:
    token = shell.ok("register", name, "--show-token").out.split()[1]
    done = shell.run("agents", "--as", f"{name}-x", "--json", env={"THREADBUS_TOKEN": token})
    assert (done.code, done.error["code"]) == (6, "UNAUTHENTICATED")


def test_a_broken_credentials_file_is_reported_without_a_traceback(shell: Shell, name: str) -> None:
    _credentials(shell).parent.mkdir(parents=True)
    _credentials(shell).write_text("{")
    _credentials(shell).chmod(0o600)
    done = shell.run("register", name)
    assert done.code == 1
    assert "credentials.json" in done.err
    assert "Traceback" not in done.err


def test_where_tokens_are_required_an_operator_registers(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--auth", "required")
    shell = Shell(server.address, tmp_path)
    done = shell.run("read", "design", "--json")
    assert (done.code, done.error["reason"]) == (6, "TOKEN_INVALID")
    assert "--as" in done.error["hint"]
    assert shell.run("register", "coder").code == 6
    token = {"THREADBUS_TOKEN": operator(server).token}
    assert shell.run("register", "coder", env=token).code == 0
    assert shell.ok("post", "design", "hello", "--as", "coder").out == "design #1\n"
    assert shell.ok("register", "coder").out == "coder\n"


def test_the_name_of_an_unregistered_agent_is_refused_as_such(shell: Shell, name: str) -> None:
    shell.ok("register", name)
    shell.ok("agents", "unregister", name, "--yes", "--as", name)
    done = shell.run("register", name, "--json")
    assert (done.code, "was unregistered" in done.error["message"]) == (5, True)


def test_a_refused_registration_leaves_no_token(shell: Shell, name: str, tmp_path: Path) -> None:
    shell.ok("register", name)
    kept = _credentials(shell).read_text("utf-8")
    other = Shell(shell.server, tmp_path / "other")
    assert other.run("register", name).code == 5
    assert json.loads(_credentials(other).read_text("utf-8")) == {}
    assert _credentials(shell).read_text("utf-8") == kept


def test_an_operators_refused_registration_leaves_no_token(
    server: ServerProcess, shell: Shell, name: str, tmp_path: Path
) -> None:
    shell.ok("register", name)
    other = Shell(shell.server, tmp_path / "other")
    done = other.run("register", name, env={"THREADBUS_TOKEN": operator(server).token})
    assert done.code == 5
    done = other.run("register", "everyone", env={"THREADBUS_TOKEN": operator(server).token})
    assert (done.code, "reserved" in done.err) == (2, True)
    assert json.loads(_credentials(other).read_text("utf-8")) == {}


def test_the_environment_names_the_file_with_the_tokens(
    shell: Shell, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    environment = {"THREADBUS_CREDENTIALS": str(file), "XDG_DATA_HOME": "relative"}
    assert shell.run("register", name, env=environment).code == 0
    assert name in json.loads(file.read_text("utf-8"))[shell.server]
    assert shell.run("agents", "goodbye", "--as", name, env=environment).code == 0


@pytest.mark.parametrize("environment", [{"XDG_DATA_HOME": "elsewhere"}, {"HOME": ""}], ids=str)
def test_without_a_folder_for_tokens_the_error_names_what_to_set(
    shell: Shell, name: str, environment: dict[str, str]
) -> None:
    environment = {"XDG_DATA_HOME": ""} | environment
    done = shell.run("post", name, "hello", "--as", name, env=environment)
    assert (done.code, len(done.err.splitlines())) == (1, 2)
    assert "not an absolute path" in done.err
    for variable in ("THREADBUS_TOKEN", "THREADBUS_CREDENTIALS", "XDG_DATA_HOME", "HOME"):
        assert variable in done.err.splitlines()[1]
    assert shell.run("post", name, "hello", env=environment).code == 0  # anonymous calls need none
    checks = shell.run("doctor", "--json", env=environment).json["checks"]
    assert {"warning"} == {one["status"] for one in checks if one["name"] == "credentials"}


def test_a_wait_for_a_lock_is_reported(shell: Shell, name: str) -> None:
    folder = _credentials(shell).parent
    folder.mkdir(parents=True)
    with (folder / "credentials.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with shell.start("register", name) as running:
            assert running.stderr is not None
            assert "credentials.json.lock, which another process" in running.stderr.readline()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert running.communicate(timeout=20) == (f"{name}\n", "")
