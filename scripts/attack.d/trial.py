"""One attack on one fresh server, beside an innocent agent, and what must be true of it.

Who runs where: the server has a core of its own, so that an attacker cannot take it away by being
busy itself. Attackers share the other core with the innocent agent, who comes first there (they run
at `nice` 10): what delays it is then the server, not the attackers' own work.
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
#: What the innocent agent's p99 may be, in milliseconds, and in times of what it is without attack.
MOST_P99, MOST_TIMES = 100.0, 5.0
#: Bytes that the server may hold during the attack, and more than before once it is over.
MOST_MEMORY, MOST_KEPT = 400 * _MB, 100 * _MB
#: Seconds that it has for giving memory back.
SETTLE = 30.0
#: Bytes at which an attack is cut short: it has won, and the machine is to survive.
WON = 2_000 * _MB
#: Seconds of the innocent agent's undisturbed life.
_IDLE = 2.5
#: Seconds that an attack may take beyond its own, and its preparation.
_OVERTIME, _PREPARATION = 15.0, 90.0
#: Seconds in which the server must answer once the attack is over.
_ANSWER = 5.0


@dataclass(slots=True)
class Trial:
    """What was measured. Bytes, seconds, and figures of the innocent agent in milliseconds."""

    attack: Attack
    idle: dict[str, Any] = field(default_factory=dict)
    attacked: dict[str, Any] = field(default_factory=dict)
    before: int = 0
    peak: int = 0
    after: int = 0
    settled: float = 0.0
    did: str = ""
    #: What is not as it must be.
    wrong: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Compare what was measured with what must be true."""
        if failed := self.attacked["failed"]:
            told = ", ".join(f"{count} {code}" for code, count in failed.items())
            self.wrong.append(f"innocent calls failed: {told}")
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
    """Try one attack on a server with these flags.

    Raises:
        RuntimeError: the trial could not be made.
    """
    trial = Trial(attack)
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        servers.serve(Path(folder), "--auth", attack.auth, *flags) as server,
        _program("attacker.py", attack.name, str(server.port), str(seconds)) as attacker,
    ):
        if (said := attacker.line(_PREPARATION)) != "ready":
            raise RuntimeError(f"{attack.name} was not prepared: {said or 'it ended'}")
        token = _register(server)
        with _program("innocent.py", str(server.port), str(_IDLE)) as innocent:
            innocent.say(token)
            trial.idle = json.loads(innocent.told(_IDLE + 30))
            server.forget_peak()
            trial.before = server.memory()
            innocent.say("attack")
            attacker.say("go")
            _watch(trial, server, attacker, seconds)
            attacker.end()
            innocent.say("end")
            _settle(trial, server)
            trial.attacked = json.loads(innocent.told(30))
        trial.judge()
        _look_back(trial, server)
    return trial


def _watch(trial: Trial, server: servers.Server, attacker: "Program", seconds: float) -> None:
    """Until the attack is over: by itself, because it has won, or since it takes too long."""
    end = time.monotonic() + seconds + _OVERTIME
    while (said := attacker.line(servers.SAMPLE)) is None:
        trial.peak = max(trial.peak, server.memory())
        if trial.peak > WON:
            trial.did = "cut short"
            return
        if server.exit_code is not None:
            raise RuntimeError(f"the server ended with {server.exit_code}: {server.log()[-500:]}")
        if time.monotonic() > end:
            trial.wrong.append("the attackers' calls were not answered in time")
            return
    trial.peak = max(trial.peak, server.memory())
    if not said:
        raise RuntimeError(f"{trial.attack.name} broke off")
    outcome = Outcome(**json.loads(said))
    trial.did = outcome.did
    if outcome.wrong:
        trial.wrong.append(outcome.wrong)


def _settle(trial: Trial, server: servers.Server) -> None:
    """Until the server's memory is back, or should be."""
    start = time.monotonic()
    while True:
        trial.after, trial.settled = server.memory(), time.monotonic() - start
        if trial.after <= trial.before + MOST_KEPT or trial.settled >= SETTLE:
            break
        time.sleep(servers.SAMPLE)
    trial.peak = max(trial.peak, server.peak())


def _look_back(trial: Trial, server: servers.Server) -> None:
    """The server still answers, and has logged no bug."""
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            BusServiceStub(channel).GetServerInfo(GetServerInfoRequest(), timeout=_ANSWER)
    except grpc.RpcError as error:
        trial.wrong.append(f"does not answer afterwards: {error.code().name}")
    if bugs := server.log().count("Traceback (most recent call last)"):
        last = server.log().rstrip().rpartition("\n")[2]
        trial.wrong.append(f"{bugs} tracebacks in its log, the last: {last[:100]}")


def _register(server: servers.Server) -> str:
    """The innocent agent's token."""
    metadata = (("authorization", f"Bearer {server.operator_token}"),)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = RegisterAgentRequest(agent="innocent")
        return AgentServiceStub(channel).RegisterAgent(request, metadata=metadata, timeout=20).token


class Program:
    """A process of this folder, on the clients' core. It is told and says lines."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a process without pipes")
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._said = b""

    def say(self, line: str) -> None:
        """Tell it a line."""
        with contextlib.suppress(BrokenPipeError):
            self._in.write(line.encode() + b"\n")
            self._in.flush()

    def line(self, timeout: float) -> str | None:
        """Its next line; empty when it has ended, None when there is none in so many seconds."""
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

    def told(self, timeout: float) -> str:
        """Its next line, which it must say within so many seconds: RuntimeError if not."""
        if not (line := self.line(timeout)):
            raise RuntimeError("the innocent agent broke off, or hangs")
        return line

    def end(self) -> None:
        """End it, and with it its connections."""
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
