"""Hooks with a server that is away, stuck, new, or refuses: {} in time, and nothing told twice."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.callers import operator_token_file
from tests.conftest import StartServer
from tests.hooks import Hooks, output, parsed, told
from tests.script import Failure, scripted
from tests.serving import ServerProcess
from tests.shell import Shell

pytestmark = pytest.mark.slow

EVENTS = ["stop", "post-tool", "session-start", "session-end"]


@pytest.fixture
def shell(server: ServerProcess, tmp_path: Path) -> Shell:
    return Shell(server.address, tmp_path)


@pytest.fixture
def hooks(shell: Shell, name: str) -> Hooks:
    """The hooks of an agent that has an unread message in the thread `name`."""
    shell.ok("join", name, "--as", f"{name}-me")
    shell.ok("post", name, "hello", "--as", f"{name}-coder")
    return Hooks(shell, f"{name}-me")


@pytest.mark.own_server
@pytest.mark.parametrize("event", EVENTS)
def test_with_the_server_down_it_ends_at_once(
    hooks: Hooks, server: ServerProcess, event: str
) -> None:
    server.stop()
    done = hooks.shell.run("hook", *hooks.arguments(event, "--wait", "1h"))
    assert (done.code, parsed(done.out)) == (0, {})
    assert done.err.endswith(" does not answer\n")
    server.start()
    assert "1 unread" in hooks.reason("session-start")


@pytest.mark.own_server
@pytest.mark.parametrize("event", EVENTS)
def test_with_a_server_that_is_stuck_it_ends_in_time(
    hooks: Hooks, server: ServerProcess, event: str
) -> None:
    server.signal(signal.SIGSTOP)
    try:
        with hooks.start(event, "--timeout", "1") as process:
            assert output(process) == {}
    finally:
        server.signal(signal.SIGCONT)
    assert "1 unread" in hooks.reason("session-start")


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    "failure",
    [
        Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
        Failure(grpc.StatusCode.UNAVAILABLE),
        Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"),
        Failure(grpc.StatusCode.INTERNAL),
        Failure(grpc.StatusCode.UNIMPLEMENTED),
    ],
    ids=lambda failure: failure.reason or failure.code.name,
)
async def test_with_a_server_that_refuses_it_ends_in_time(
    tmp_path: Path, failure: Failure, event: str
) -> None:
    async with scripted() as script:
        for rpc in ("GetServerInfo", "RegisterAgent", "Heartbeat", "EndSession"):
            for _ in range(50):
                script.answer(rpc, failure)
        hooks = Hooks(Shell(script.address, tmp_path), "me-2")
        assert await asyncio.to_thread(hooks.run, event, "--timeout", "1") == {}


@pytest.mark.parametrize("event", EVENTS)
async def test_with_a_server_that_hangs_up_it_fails_quietly(tmp_path: Path, event: str) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hooks = Hooks(Shell(f"127.0.0.1:{port}", tmp_path), "me-2")
        assert await asyncio.to_thread(hooks.run, event, "--timeout", "1") == {}


def test_what_is_unread_in_a_new_store_is_told(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    first = start_server(db=tmp_path / "first.db")
    hooks = Hooks(Shell(first.address, tmp_path), f"{name}-me")
    coder = ("--as", f"{name}-coder")
    hooks.shell.ok("join", name, "--as", hooks.agent)
    for _ in range(3):
        hooks.shell.ok("post", name, "hello", *coder)
    assert "3 unread" in hooks.reason("stop")
    first.stop()
    start_server(db=tmp_path / "second.db", listen=first.address)
    assert hooks.run("stop") == {}  # which registers it again
    hooks.shell.ok("post", name, "hello", *coder, "--mention", hooks.agent)
    assert "1 unread" in hooks.reason("stop")
    assert hooks.run("stop") == {}


@pytest.mark.parametrize("event", EVENTS)
def test_without_a_valid_token_where_one_is_required_it_does_nothing(
    start_server: StartServer, tmp_path: Path, event: str
) -> None:
    server = start_server("--auth", "required")
    hooks = Hooks(Shell(server.address, tmp_path), "me-2")
    assert hooks.run(event, "--wait", "1h") == {}
    for token in ("x" * 43, operator_token_file(server.db).read_text("ascii").strip()):
        done = hooks.shell.run(
            "hook", *hooks.arguments(event, "--wait", "1h"), env={"THREADBUS_TOKEN": token}
        )
        assert (done.code, parsed(done.out)) == (0, {})
        assert token not in done.err


def test_of_hooks_that_run_at_once_one_tells(hooks: Hooks, name: str) -> None:
    for round_ in range(4):
        if round_:
            hooks.shell.ok("post", name, "more", "--as", f"{name}-coder")
        with ExitStack() as running:
            started = [
                running.enter_context(hooks.start(event))
                for event in ("stop", "post-tool", "stop", "post-tool")
            ]
            found = [told(output(process)) for process in started]
        assert sorted(bool(text) for text in found) == [False, False, False, True]
