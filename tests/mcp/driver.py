"""Drives the official MCP clients, which are programs of other languages and environments.

A program connects to the MCP server that it is given as JSON (`command`, `args`, `env`), and prints
what it has learned of it. Then it does what it reads as JSON lines, all at once, until these end:

    {"id": 1, "do": "ping" | "tools"}
    {"id": 1, "do": "call", "tool": …, "arguments": …, "timeout": seconds, "progress": bool,
     "traceparent": "" or that of the trace in which the client makes the call}
    {"do": "cancel", "call": 1}

It prints the results as JSON lines: with `progress` that of a call, else the end of a command:
with `failed`, the error as the client shows it (`cancelled`: by our command); with `text` and
`is_error`, the result of a tool, which must have nothing but texts; with `tools`.
"""

import asyncio
import contextlib
import itertools
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.mcp.command import Command
from tests.programs import program

__all__ = ["BOUND", "CLIENTS", "Call", "OfficialClient", "connected", "interpreter"]

#: Seconds after which a step counts as failed.
BOUND = 30.0

_HERE = Path(__file__).parent
#: Name → the interpreter, and the program with its first arguments.
CLIENTS = {
    "python": ("mcp-python", str(_HERE / "official_client.py")),
    "typescript-1": ("mcp-node", str(_HERE / "node/client.cjs"), "1"),
    "typescript-2": ("mcp-node", str(_HERE / "node/client.cjs"), "2"),
}


def interpreter(name: str) -> Path:
    """Returns the path of `mcp-python` or `mcp-node`. Skips the test without; on CI it fails."""
    try:
        return program(name)
    except pytest.skip.Exception as missing:
        assert os.environ.get("CI") != "true", missing
        raise


@dataclass(slots=True)
class Call:
    """A command that the client performs."""

    id: int
    progress: list[float] = field(default_factory=list)
    """The progress that the server has reported."""
    ended: asyncio.Future[dict[str, Any]] = field(default_factory=asyncio.Future)

    async def result(self) -> dict[str, Any]:
        """Returns how it ended, as the client printed it."""
        async with asyncio.timeout(BOUND):
            return await asyncio.shield(self.ended)

    async def text(self) -> str:
        """Returns the text of a tool that reports no error."""
        result = await self.result()
        assert result.get("is_error") is False, result
        return str(result["text"])

    async def error(self) -> str:
        """Returns the text of a tool that reports an error to the model."""
        result = await self.result()
        assert result.get("is_error") is True, result
        return str(result["text"])

    async def failure(self) -> str:
        """Returns why the client has given up, or was refused."""
        result = await self.result()
        return str(result["failed"])


class OfficialClient:
    """A client that is connected to a bridge."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._calls = dict[int, Call]()
        #: What it has learned when it connected: name, protocol, instructions.
        self.server: dict[str, Any] = {}

    async def tools(self) -> list[dict[str, Any]]:
        """Returns the tools that the bridge lists."""
        result = await self._command(do="tools").result()
        return list(result["tools"])

    async def ping(self) -> None:
        """Ping the bridge."""
        assert "failed" not in await self._command(do="ping").result()

    def call(
        self,
        tool: str,
        /,
        *,
        within: float = BOUND,
        progress: bool = False,
        traceparent: str = "",
        **arguments: Any,
    ) -> Call:
        """Start to call a tool. The client gives up after `within` seconds, as a host would.

        `progress`: ask for it. The clients for TypeScript then count `within` from the last one.
        `traceparent`: of the trace in which it makes the call; "" = none.
        """
        return self._command(
            do="call",
            tool=tool,
            arguments=arguments,
            timeout=within,
            progress=progress,
            traceparent=traceparent,
        )

    async def next_wait(self, thread: str) -> str:
        """Returns what the next bus_wait brings, once one that was given up before is over."""
        while True:
            result = await self.call("bus_wait", thread=thread, timeout_s=20).result()
            if "already waiting" not in result["text"]:
                return str(result["text"])

    def cancel(self, call: Call) -> None:
        """Have the client cancel a call."""
        self._send(do="cancel", call=call.id)

    def _command(self, **command: Any) -> Call:
        call = Call(next(self._ids))
        self._calls[call.id] = call
        self._send(id=call.id, **command)
        return call

    def _send(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def listen(self, connected: asyncio.Future[None]) -> None:
        """Take in what the client prints, until it exits."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if said["id"] == 0:
                self.server = said
                connected.set_result(None)
            elif "progress" in said:
                self._calls[said["id"]].progress.append(said["progress"])
            else:
                self._calls.pop(said["id"]).ended.set_result(said)
        gone = AssertionError("the client has exited")
        if not connected.done():
            connected.set_exception(gone)
        for call in self._calls.values():
            call.ended.set_exception(gone)

    async def close(self) -> None:
        """Have it end the bridge and exit."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(BOUND):
            assert await self._process.wait() == 0


@contextlib.asynccontextmanager
async def connected(name: str, command: Command) -> AsyncIterator[OfficialClient]:
    """Connects one of CLIENTS to a bridge; both are ended on exit."""
    program, *arguments = CLIENTS[name]
    process = await asyncio.create_subprocess_exec(
        interpreter(program),
        *arguments,
        json.dumps(command.entry),
        stdin=PIPE,
        stdout=PIPE,
        limit=2**24,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )
    client = OfficialClient(process)
    is_connected = asyncio.Future[None]()
    listening = asyncio.create_task(client.listen(is_connected))
    try:
        async with asyncio.timeout(BOUND):
            await is_connected
        yield client
        await client.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await listening
