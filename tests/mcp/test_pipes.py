"""`threadbus mcp` and its pipes: how it ends, and hosts that write much or do not read."""

import array
import fcntl
import json
import os
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from bus_client import Presence
from bus_client.sync import BusClient
from tests.blocking import client, until
from tests.mcp.command import Command
from tests.mcp.pipes import BOUND, Pipes, request
from tests.process_memory import forget_peak, memory, peak_memory
from tests.serving import ServerProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def peer(server: ServerProcess, name: str, tmp_path: Path) -> Iterator[BusClient]:
    """The agent `{name}-peer`, which looks on."""
    with client(server.address, f"{name}-peer", tmp_path / "peer") as bus:
        yield bus


def _join(thread: str) -> bytes:
    return request("join", "tools/call", {"name": "bus_join", "arguments": {"thread": thread}})


def _is_offline(peer: BusClient, command: Command) -> bool:
    return peer.get_agent(command.agent).presence == Presence.PRESENCE_OFFLINE


def _bytes_in(pipe: IO[bytes]) -> int:
    """Returns how many bytes are in a pipe, at either end."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("rest", [b'{"jsonrpc":"2.0","id":1,"meth', b"x" * 100_000])
def test_input_that_ends_in_the_midst_of_a_line_ends_it_with_a_goodbye(
    pipes: Pipes, command: Command, peer: BusClient, thread: str, rest: bytes
) -> None:
    pipes.text("bus_join", thread=thread)
    pipes.stdin.write(rest)
    assert pipes.end() == 0
    assert _is_offline(peer, command)
    assert pipes.stderr == b""


def test_it_ends_with_a_goodbye_if_nobody_can_read_what_it_writes(
    command: Command, peer: BusClient, thread: str
) -> None:
    with subprocess.Popen(
        command.line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command.environment,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(_join(thread) + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == "join"
            process.stdout.close()
            process.stdin.write(request(1, "ping") + b"\n")
            process.stdin.flush()
            process.wait(BOUND)
            assert _is_offline(peer, command)
            assert b"Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_pipes_that_do_not_block_are_read_and_written(command: Command) -> None:
    bridge_input, ours = os.pipe()
    answers, bridge_output = os.pipe()
    for descriptor in (bridge_input, bridge_output):
        os.set_blocking(descriptor, False)
    with (
        subprocess.Popen(
            command.line, stdin=bridge_input, stdout=bridge_output, env=command.environment
        ) as process,
        os.fdopen(ours, "wb") as writing,
        os.fdopen(answers, "rb") as reading,
    ):
        os.close(bridge_output)
        try:
            until(lambda: os.get_blocking(bridge_input) or process.poll() is not None)
            for number in range(100):  # the answers do not fit into the pipe
                writing.write(request(number, "tools/list") + b"\n")
            writing.flush()
            until(lambda: _bytes_in(reading) > 40_000)
            writing.close()
            assert len(reading.readlines()) == 100
            assert process.wait(BOUND) == 0
        finally:
            os.close(bridge_input)
            process.kill()


def test_it_starts_without_any_standard_stream(command: Command) -> None:
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command.line]
    done = subprocess.run(closed, env=command.environment, timeout=BOUND)
    assert done.returncode in (0, 1)


@pytest.mark.timeout(150)
def test_ten_thousand_requests_at_once_have_one_answer_each(pipes: Pipes, thread: str) -> None:
    pipes.text("bus_join", thread=thread)
    lines = []
    for number in range(10_000):
        if number % 4:
            lines.append(request(number, "ping"))
        else:
            call = {"name": "bus_wait", "arguments": {"timeout_s": 0}}
            lines.append(request(number, "tools/call", call))
    writing = threading.Thread(target=pipes.write, args=lines)
    before = pipes.answered
    writing.start()
    pipes.until(lambda: pipes.answered >= before + 10_000, within=120)
    writing.join()
    pipes.works()
    assert all(len(pipes.answers(number)) == 1 for number in range(10_000))


def test_a_host_that_does_not_read_costs_little_memory_and_hinders_no_goodbye(
    pipes: Pipes, command: Command, peer: BusClient, thread: str
) -> None:
    pipes.text("bus_join", thread=thread)
    before = memory(pipes.process.pid)
    forget_peak(pipes.process.pid)
    pipes.stop_reading()
    written = 0

    def write() -> None:
        nonlocal written
        try:
            for number in range(50_000):  # which would be answered with 200 MB
                pipes.write(request(number, "tools/list"))
                written = number
        except OSError:
            pass  # it has ended

    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: _bytes_in(pipes.stdout) > 40_000)  # of 65,536, in pieces
    seen = -1
    while writing.is_alive() and written != seen:  # until it takes no more
        seen = written
        time.sleep(1)
    grown = peak_memory(pipes.process.pid) - before
    pipes.process.send_signal(signal.SIGTERM)
    until(lambda: _is_offline(peer, command))
    assert pipes.process.wait(BOUND) is not None
    writing.join()
    assert grown < 24 * 2**20, f"{grown / 2**20:.0f} MiB"


def test_a_line_that_never_ends_costs_little_memory(pipes: Pipes) -> None:
    pipes.works()
    before = memory(pipes.process.pid)
    forget_peak(pipes.process.pid)
    for _ in range(64):
        pipes.stdin.write(b"x" * 2**20)
    pipes.write(b"")
    assert pipes.answer(None)["error"]["code"] == -32600
    pipes.works()
    assert peak_memory(pipes.process.pid) - before < 24 * 2**20
