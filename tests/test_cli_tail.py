"""`threadbus tail`."""

import json
import signal
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.serving import BusStub, ServerProcess
from tests.shell import Shell
from threadbus.v1.bus_service_pb2 import PostMessageRequest

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
async def log(bus: BusStub, thread: str) -> str:
    """A thread with messages 1 to 3."""
    for number in (1, 2, 3):
        await bus.PostMessage(PostMessageRequest(thread=thread, content=f"m{number}"))
    return thread


def _line(tail: Popen[str]) -> str:
    assert tail.stdout is not None
    return tail.stdout.readline().rstrip("\n")


def _message(tail: Popen[str]) -> dict[str, Any]:
    return dict(json.loads(_line(tail)))


@pytest.mark.parametrize(
    ("options", "first"), [([], 1), (["--last", "2"], 2), (["--from-start"], 1)], ids=str
)
def test_tail_prints_the_last_messages_and_then_live_ones(
    shell: Shell, log: str, options: list[str], first: int
) -> None:
    with shell.start("tail", log, "--json", *options) as tail:
        for seq in range(first, 4):
            assert _message(tail)["seq"] == seq
        shell.ok("post", log, "fresh")
        assert _message(tail)["content"] == "fresh"


def test_tail_of_the_last_0_shows_nothing_old(shell: Shell, log: str) -> None:
    shell.ok("thread", "close", log)
    done = shell.run("tail", log, "--last", "0")
    assert (done.code, done.out, done.err) == (0, "", f"{log} is closed.\n")


def test_tail_includes_own_messages(shell: Shell, log: str) -> None:
    with shell.start("tail", log, "--as", f"{log}-me", "--last", "1", "--json") as tail:
        assert _message(tail)["seq"] == 3
        shell.ok("post", log, "my own", "--as", f"{log}-me")
        assert _message(tail)["content"] == "my own"


def test_tail_moves_no_read_position(shell: Shell, log: str) -> None:
    me = f"{log}-me"
    shell.ok("join", log, "--start", "first", "--as", me)
    with shell.start("tail", log, "--as", me, "--last", "1", "--json") as tail:
        assert _message(tail)["seq"] == 3
        shell.ok("post", log, "m4")
        assert _message(tail)["seq"] == 4
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 130
    news = shell.ok("wait", log, "--as", me, "--timeout", "0", "--json").json["messages"]
    assert [message["seq"] for message in news] == [1, 2, 3, 4]


def test_tail_follows_several_threads_at_once(shell: Shell, log: str) -> None:
    other = f"{log}-other"
    shell.ok("post", other, "m1")
    with shell.start("tail", log, other, "--last", "1") as tail:
        begun = [_line(tail).split()[:2] for _ in range(2)]
        assert sorted(begun) == [[log, "#3"], [other, "#1"]]
        for thread, seq in ((other, 2), (log, 4), (other, 3)):
            shell.ok("post", thread, f"to {thread}")
            line = _line(tail)
            assert line.split()[:2] == [thread, f"#{seq}"]
            assert line.endswith(f"to {thread}")


def test_tail_ends_when_every_thread_is_closed(shell: Shell, log: str) -> None:
    other = f"{log}-other"
    shell.ok("post", other, "m1")
    with shell.start("tail", log, other) as tail:
        for thread in (log, other):
            shell.ok("thread", "close", thread)
        _, err = tail.communicate(timeout=20)
    assert tail.returncode == 0
    assert sorted(err.splitlines()) == sorted([f"{log} is closed.", f"{other} is closed."])


def test_tail_outlasts_the_agents_session_and_begins_none(shell: Shell, log: str) -> None:
    me = f"{log}-me"
    with shell.start("tail", log, "--as", me, "--last", "1") as tail:
        assert _line(tail).endswith("m3")
        shell.ok("agents", "goodbye", "--as", me)
        shell.ok("post", log, "fresh")
        assert _line(tail).endswith("fresh")
        assert me in shell.ok("agents", "--presence", "offline").out.split()
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 130


def test_tail_continues_with_the_others_when_a_thread_is_missing(shell: Shell, log: str) -> None:
    with shell.start("tail", f"{log}-missing", log, "--json") as tail:
        assert tail.stderr is not None
        assert json.loads(tail.stderr.readline())["reason"] == "THREAD_NOT_FOUND"
        assert _message(tail)["seq"] == 1
        shell.ok("thread", "close", log)
        tail.communicate(timeout=20)
    assert tail.returncode == 1


def test_tail_survives_a_restart_of_the_server(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "log", "before")
    with shell.start("tail", "log", "--json") as tail:
        assert _message(tail)["content"] == "before"
        server.kill()
        server.start()
        shell.ok("post", "log", "after")
        assert _message(tail)["content"] == "after"


def test_tail_reports_when_the_connection_is_lost_and_restored(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "log", "before")
    with shell.start("tail", "log") as tail:
        assert tail.stderr is not None
        assert _line(tail).endswith("before")
        server.kill()
        lost = tail.stderr.readline()
        assert lost == f"Lost the connection to {server.address}; reconnecting.\n"
        server.start()
        assert tail.stderr.readline() == f"Connected to {server.address} again.\n"
        shell.ok("thread", "close", "log")
        _, rest = tail.communicate(timeout=20)
    assert (tail.returncode, rest) == (0, "log is closed.\n")


def test_tail_reports_a_resync(shell: Shell, log: str) -> None:
    with shell.start("tail", log, "--json") as tail:
        for seq in (1, 2, 3):
            assert _message(tail)["seq"] == seq
        shell.ok("thread", "delete", log, "--yes")
        assert tail.stderr is not None
        assert json.loads(tail.stderr.readline())["reason"] == "THREAD_NOT_FOUND"
        assert tail.wait(20) == 1


@pytest.mark.sqlite
def test_tail_continues_in_a_recreated_database(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    shell = Shell(server.address, tmp_path)
    shell.ok("post", "log", "old")
    with shell.start("tail", "log", "--json") as tail:
        assert _message(tail)["content"] == "old"
        server.kill()
        for file in server.db.parent.glob(f"{server.db.name}*"):
            if file.is_file():
                file.unlink()
        anew = start_server(listen="127.0.0.1:0")
        Shell(anew.address, tmp_path).ok("post", "log", "new")
        anew.stop()
        server.start()
        assert tail.stderr is not None
        lost = json.loads(tail.stderr.readline())
        assert lost["reason"] == "EPOCH_CHANGED"
        assert "tail continues there by itself" in lost["hint"]  # it has no --after
        assert _message(tail)["content"] == "new"


def test_tail_ends_quietly_when_its_pipe_is_closed(shell: Shell, log: str) -> None:
    with shell.start("tail", log) as tail:
        assert [_line(tail).split()[0] for _ in range(3)] == ["#1", "#2", "#3"]
        assert tail.stdout is not None
        tail.stdout.close()
        assert tail.wait(20) == 141
        assert tail.stderr is not None
        assert tail.stderr.read() == ""
