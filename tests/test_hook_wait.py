"""`threadbus-hook stop --wait`: an agent that stops is woken by the next message."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.hooks import Hooks, output, told
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def hooks(shell: Shell, name: str) -> Hooks:
    """The hooks of an agent, which takes part in the thread `name`."""
    shell.ok("join", name, "--as", f"{name}-me")
    return Hooks(shell, f"{name}-me")


def post(hooks: Hooks, thread: str, *options: str) -> None:
    hooks.shell.ok("post", thread, "hello", "--as", f"{hooks.agent}-coder", *options)


def until(state: Callable[[], bool], within: float = 30.0) -> None:
    """Return once `state()` is true."""
    end = time.monotonic() + within
    while not state():
        assert time.monotonic() < end
        time.sleep(0.02)


def until_waiting(hooks: Hooks, server: ServerProcess) -> None:
    """Return once the hook waits."""
    token = str(operator_token_file(server.db))
    listed = ("agents", "waits", "--of", hooks.agent, "--token-file", token, "--json")
    until(lambda: bool(hooks.shell.ok(*listed).json["waits"]))


def agent(hooks: Hooks) -> Any:
    """Returns what others see of the agent."""
    listed = hooks.shell.ok("agents", "list", "--json").json["agents"]
    return next(each for each in listed if each["name"] == hooks.agent)


def positions(hooks: Hooks, thread: str) -> list[Any]:
    """Returns the agent's positions in the thread."""
    shown = hooks.shell.ok("thread", "show", thread, "--json").json["participants"]
    (mine,) = (each for each in shown if each["agent"] == hooks.agent)
    return [mine.get(each) for each in ("read_seq", "delivered_seq", "passed_over")]


def test_a_message_wakes_the_agent(hooks: Hooks, server: ServerProcess, name: str) -> None:
    before = positions(hooks, name)
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        assert agent(hooks)["presence"] == "PRESENCE_IDLE"
        post(hooks, name)
        assert "1 unread" in told(output(process))
    assert agent(hooks)["presence"] == "PRESENCE_WORKING"
    assert positions(hooks, name) == before
    assert hooks.run("stop") == {}


def test_what_is_unread_already_is_told_at_once(hooks: Hooks, name: str) -> None:
    post(hooks, name)
    assert "1 unread" in hooks.reason("stop", "--wait", "10m")


def test_without_a_message_it_stops_when_the_time_is_over(hooks: Hooks, name: str) -> None:
    post(hooks, name, "--no-wake")
    assert hooks.run("stop", "--wait", "1") == {}
    assert agent(hooks)["presence"] == "PRESENCE_IDLE"


def test_what_does_not_wake_the_agent_does_not_end_the_wait(
    hooks: Hooks, server: ServerProcess, name: str
) -> None:
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        hooks.shell.ok("post", name, "mine", "--as", hooks.agent)
        post(hooks, name, "--no-wake")
        post(hooks, name, "--quiet")
        post(hooks, name, "--quiet", "--mention", hooks.agent)
        assert "1 unread" in told(output(process))


@pytest.mark.parametrize("takes_part", [True, False])
def test_a_mention_in_another_thread_wakes_it(
    shell: Shell, server: ServerProcess, name: str, takes_part: bool
) -> None:
    shell.ok("register", f"{name}-me")
    hooks = Hooks(shell, f"{name}-me")
    if takes_part:
        shell.ok("join", name, "--as", hooks.agent)
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        post(hooks, f"{name}-new", "--mention", hooks.agent)
        assert f"thread {name}-new " in told(output(process))


def test_a_thread_that_is_recreated_wakes_it(
    hooks: Hooks, server: ServerProcess, name: str
) -> None:
    post(hooks, name)
    assert "1 unread" in hooks.reason("stop")
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        hooks.shell.ok("thread", "delete", name, "--yes", "--as", hooks.agent)
        post(hooks, name, "--mention", hooks.agent)
        assert "1 unread" in told(output(process))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_an_empty_object(
    hooks: Hooks, server: ServerProcess, name: str, number: signal.Signals
) -> None:
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        process.send_signal(number)
        assert output(process) == {}


def test_it_ends_when_nobody_reads_its_output(
    hooks: Hooks, server: ServerProcess, name: str
) -> None:
    """Its host was killed: the agent must not look idle for ever."""
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(40) == 0


@pytest.mark.own_server
def test_it_goes_on_when_the_server_restarts(
    hooks: Hooks, server: ServerProcess, name: str
) -> None:
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        server.kill()
        server.start()
        post(hooks, name)
        assert "1 unread" in told(output(process))


def test_where_tokens_are_required_a_message_wakes_the_agent(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server("--auth", "required")
    boss = ("--token-file", str(operator_token_file(server.db)))
    shell = Shell(server.address, tmp_path)
    me = shell.ok("token", "create", f"{name}-me", *boss, "--json").json["secret"]
    coder = shell.ok("token", "create", f"{name}-coder", *boss, "--json").json["secret"]
    mine, theirs = tmp_path / "me.token", tmp_path / "coder.token"
    for file, secret in ((mine, me), (theirs, coder)):
        file.write_text(secret, "utf-8")
        file.chmod(0o600)
    shell.ok("join", name, "--token-file", str(mine))
    hooks = Hooks(shell, f"{name}-me", env={"THREADBUS_TOKEN": me})
    shown = ("thread", "show", name, "--json", "--token-file", str(theirs))
    with hooks.start("stop", "--wait", "10m") as process:
        until_waiting(hooks, server)
        participants = shell.ok(*shown).json["participants"]
        shell.ok("post", name, "hello", "--token-file", str(theirs))
        assert "1 unread" in told(output(process))
    (before,) = (each for each in participants if each["agent"] == hooks.agent)
    after = shell.ok(*shown).json["participants"]
    (mine_now,) = (each for each in after if each["agent"] == hooks.agent)
    for place in ("read_seq", "delivered_seq", "passed_over"):
        assert mine_now.get(place) == before.get(place)
