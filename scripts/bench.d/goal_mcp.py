"""M1: `threadbus mcp` compared to a server with the same tools over the official MCP SDK."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import machine
import servers
from bench import Bench
from disturbance import watched
from results import Outcome

_HERE = Path(__file__).parent
_COUNTER = _HERE.parents[1] / "tests/mcp/node/tokens.cjs"
_OWN, _SDK = "threadbus mcp", "MCP SDK"


def measure(bench: Bench) -> Outcome:
    """Measure start-up, memory, and the tokens of tools and instructions."""
    outcome = Outcome("M1", "the MCP server, compared to one over the official SDK")
    with bench.own_folder() as folder, servers.threadbus(folder) as bus:
        commands = {_OWN: [str(Path(sys.executable).parent / "threadbus"), "mcp", "--as", "own"]}
        if bench.tools.mcp_sdk:
            program = str(_HERE / "mcp_sdk.py")
            commands[_SDK] = [str(bench.tools.mcp_sdk), program, bus.address, "sdk"]
        for _, record in outcome.rounds(bench.pick(3, 10)):
            for name, command in commands.items():
                environment = {
                    "THREADBUS_SERVER": bus.address,
                    "XDG_DATA_HOME": str(folder / name.replace(" ", "-")),
                }
                with watched(record):
                    _measure(bench, record, name, command, environment)
    figures = outcome.figures
    outcome.judge(
        "start-up to the tools, relative to the SDK",
        0.5,
        outcome.ratio(f"{_OWN}: tools listed after ms", f"{_SDK}: tools listed after ms"),
        at_least=False,
    )
    outcome.judge(
        "memory once a thread is joined, relative to the SDK",
        0.8,
        outcome.ratio(f"{_OWN}: MiB, thread joined", f"{_SDK}: MiB, thread joined"),
        at_least=False,
    )
    outcome.judge(
        "tokens of tools and instructions",
        950,
        figures.get(f"{_OWN}: tokens", []),
        at_least=False,
        unit="tokens",
    )
    return outcome


def _measure(
    bench: Bench,
    record: Outcome,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> None:
    began = time.monotonic()
    with _Host(command, environment) as host:
        told = host.ask(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "bench", "version": "1"},
        )
        host.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        tools = host.ask("tools/list")["tools"]
        record.add(f"{name}: tools listed after ms", (time.monotonic() - began) * 1e3)
        record.add(f"{name}: MiB, tools listed", host.resident_mib())
        joined = host.ask("tools/call", name="bus_join", arguments={"thread": "bench"})
        if joined.get("isError"):
            raise RuntimeError(f"{name}: {joined}")
        record.add(f"{name}: thread joined after ms", (time.monotonic() - began) * 1e3)
        record.add(f"{name}: MiB, thread joined", host.resident_mib())
    if bench.tools.tokens:
        record.add(f"{name}: tokens", _tokens(bench.tools.tokens, told["instructions"], tools))


def _tokens(packages: Path, instructions: str, tools: Sequence[Mapping[str, Any]]) -> int:
    """Returns the tokens of what a model is given, in o200k_base. `packages`: has js-tiktoken."""
    texts = [instructions]
    for tool in tools:
        shown = {part: tool[part] for part in ("name", "description", "inputSchema")}
        texts.append(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))
    counted = subprocess.run(
        ["node", str(_COUNTER)],
        input="".join(json.dumps(text) + "\n" for text in texts),
        env=os.environ | {"NODE_PATH": str(packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(map(int, counted.stdout.split()))


class _Host:
    """Runs an MCP server, on the servers' core. As a context manager, ends it on exit."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if "THREADBUS" not in name}
        with machine.on_cores(machine.SERVER_CORES):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept | environment,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the server has no pipes")
        self._in, self._out = self._process.stdin, self._process.stdout
        self._last = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request. Returns its result."""
        self._last += 1
        self.send({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        while line := self._out.readline():
            answer = json.loads(line)
            if answer.get("id") == self._last:
                result: dict[str, Any] = answer["result"]
                return result
        raise RuntimeError("the server has ended")

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        self._in.write(json.dumps(message).encode() + b"\n")
        self._in.flush()

    def resident_mib(self) -> float:
        """Returns the server's resident memory."""
        return machine.resident_bytes(self._process.pid) / 2**20

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()
