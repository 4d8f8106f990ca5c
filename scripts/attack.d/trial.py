"""Runs one attack on a new server beside an innocent agent, and checks the result.

The server has its own core, so that a busy attacker cannot take CPU time from it. Attackers share
the other core with the innocent agent, which has priority (they run at `nice` 10): if that is
delayed, the server is the cause.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import server as servers
from target import Attack, Outcome

from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

_HERE = Path(__file__).parent
_MB = 1_000_000
#: The highest p99 allowed for the innocent agent, in ms or as a multiple of its p99 before.
MOST_P99, MOST_TIMES = 100.0, 5.0
#: Bytes of memory that the server may use during the attack, and growth allowed after it.
MOST_MEMORY, MOST_KEPT = 400 * _MB, 100 * _MB
#: Seconds within which it must release memory.
SETTLE = 30.0
#: Bytes of memory at which an attack has succeeded and is stopped, to protect the machine.
WON = 2_000 * _MB
#: Seconds for which the innocent agent runs before the attack.
_IDLE = 2.5
#: Seconds that an attack may take beyond its duration, and seconds allowed for its preparation.
_OVERTIME, _PREPARATION = 15.0, 90.0
#: Seconds within which the server must respond after the attack.
_ANSWER = 5.0


@dataclass(slots=True)
class Trial:
    """Measurements of one attack, in bytes and seconds; the innocent agent's in milliseconds."""

    attack: Attack
    idle: dict[str, Any] = field(default_factory=dict)
    attacked: dict[str, Any] = field(default_factory=dict)
    before: int = 0
    peak: int = 0
    after: int = 0
    settled: float = 0.0
    did: str = ""
    #: The failed checks.
    wrong: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Check the measurements. Adds what is wrong to `wrong`."""
        if failed := self.attacked["failed"]:
            counts = ", ".join(f"{count} {code}" for code, count in failed.items())
            self.wrong.append(f"innocent calls failed: {counts}")
        most = max(MOST_P99, MOST_TIMES * self.idle["p99"])
        if self.attacked["p99"] > most:
            self.wrong.append(f"p99 over {most:.0f} ms")
        if self.attacked["wrong"]:
            self.wrong.append(self.attacked["wrong"])
        if self.peak > MOST_MEMORY:
            self.wrong.append(f"over {MOST_MEMORY // _MB} MB")
        if self.after > self.before + MOST_KEPT:
            self.wrong.append(f"{(self.after - self.before) // _MB} MB kept")


def run(attack: Attack, seconds: float, flags: Sequence[str] = ()) -> Trial:
    """Run one attack on a server with these flags.

    Raises:
        RuntimeError: the attack could not be run.
    """
    trial = Trial(attack)
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        servers.serve(Path(folder), "--auth", attack.auth, *flags) as server,
        _program("attacker.py", attack.name, str(server.port), str(seconds)) as attacker,
    ):
        if (said := attacker.line(_PREPARATION)) != "ready":
            raise RuntimeError(f"{attack.name} was not prepared: {said or 'it exited'}")
        token = _register(server)
        with _program("innocent.py", str(server.port), str(_IDLE)) as innocent:
            innocent.send_line(token)
            trial.idle = json.loads(innocent.expect_line(_IDLE + 30))
            server.forget_peak()
            trial.before = server.memory()
            innocent.send_line("attack")
            attacker.send_line("go")
            _watch(trial, server, attacker, seconds)
            attacker.end()
            innocent.send_line("end")
            _settle(trial, server)
            trial.attacked = json.loads(innocent.expect_line(30))
        trial.judge()
        _check_server(trial, server)
    return trial


def _watch(trial: Trial, server: servers.Server, attacker: "Program", seconds: float) -> None:
    """Wait for the end of the attack. Stop it if it has succeeded or takes too long."""
    end = time.monotonic() + seconds + _OVERTIME
    while (said := attacker.line(servers.SAMPLE)) is None:
        trial.peak = max(trial.peak, server.memory())
        if trial.peak > WON:
            trial.did = "stopped early"
            return
        if server.exit_code is not None:
            raise RuntimeError(f"the server exited with {server.exit_code}: {server.log()[-500:]}")
        if time.monotonic() > end:
            trial.wrong.append("the attackers' calls did not return in time")
            return
    trial.peak = max(trial.peak, server.memory())
    if not said:
        raise RuntimeError(f"{trial.attack.name} failed")
    outcome = Outcome(**json.loads(said))
    trial.did = outcome.did
    if outcome.wrong:
        trial.wrong.append(outcome.wrong)


def _settle(trial: Trial, server: servers.Server) -> None:
    """Wait until the server has released its memory, or for SETTLE seconds."""
    start = time.monotonic()
    while True:
        trial.after, trial.settled = server.memory(), time.monotonic() - start
        if trial.after <= trial.before + MOST_KEPT or trial.settled >= SETTLE:
            break
        time.sleep(servers.SAMPLE)
    trial.peak = max(trial.peak, server.peak())


def _check_server(trial: Trial, server: servers.Server) -> None:
    """Check that the server still responds and has logged no traceback."""
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            BusServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=_ANSWER)
    except grpc.RpcError as error:
        trial.wrong.append(f"does not respond afterwards: {error.code().name}")
    if bugs := server.log().count("Traceback (most recent call last)"):
        last = server.log().rstrip().rpartition("\n")[2]
        trial.wrong.append(f"{bugs} tracebacks in its log, the last: {last[:100]}")


def _register(server: servers.Server) -> str:
    """Returns the innocent agent's token."""
    metadata = (("authorization", f"Bearer {server.operator_token}"),)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = RegisterAgentRequest(agent="innocent")
        return AgentServiceStub(channel).RegisterAgent(request, metadata=metadata, timeout=20).token


class Program:
    """Runs a program of this folder on the clients' core, and exchanges lines with it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._said = b""

    def send_line(self, line: str) -> None:
        """Send it a line."""
        with contextlib.suppress(BrokenPipeError):
            self._in.write(line.encode() + b"\n")
            self._in.flush()

    def line(self, timeout: float) -> str | None:
        """Returns the next line of output; empty if the process has exited, None on timeout."""
        end = time.monotonic() + timeout
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            data = os.read(self._out.fileno(), 65_536)
            if not data:
                return ""
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def expect_line(self, timeout: float) -> str:
        """Returns its next line. Raises RuntimeError on timeout or if it has exited."""
        if not (line := self.line(timeout)):
            raise RuntimeError("the innocent agent failed, or hangs")
        return line

    def end(self) -> None:
        """Kill it, which closes its connections."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


@contextlib.contextmanager
def _program(*command: str) -> Iterator[Program]:
    program = Program(
        subprocess.Popen(
            [sys.executable, str(_HERE / command[0]), *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
    )
    try:
        yield program
    finally:
        program.end()
