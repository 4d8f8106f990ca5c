"""A host of `threadbus mcp`: the client on the other side of its two pipes."""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from bus_client.cli.mcp.bridge import Bridge
from bus_client.cli.mcp.connection import Options
from bus_client.cli.mcp.wire import Wire

BOUND = 30.0  # seconds for whatever comes at once


class Answer(NamedTuple):
    """What a tool returned, and whether it failed."""

    text: str
    failed: bool


class Host:
    """Sends requests, and sorts what is answered.

    Attributes:
        progress: The parameters of the progress notifications so far.
        stray: The lines that answer no request of this host.
        process: The process of the bridge. None = it runs in this one.
    """

    def __init__(
        self, answers: asyncio.StreamReader, input: int, process: asyncio.subprocess.Process | None
    ) -> None:
        self.process = process
        self.progress: list[dict[str, Any]] = []
        self.stray: list[Any] = []
        self._input = input
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read(answers))

    def send(self, line: bytes) -> None:
        """Write a line, without its end."""
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(self._input, rest) :]

    def start(self, method: str, **params: Any) -> int:
        """Send a request. Returns its id."""
        number = next(self._ids)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self.send(json.dumps(request).encode())
        return number

    def start_call(self, tool: str, *, meta: Any = None, **arguments: Any) -> int:
        """Start the call of a tool, with further fields of its `_meta`. Returns the request's id.

        The methods below that call tools take `meta`, too.
        """
        sent = {"progressToken": "here", **(meta or {})}
        return self.start("tools/call", name=tool, arguments=arguments, _meta=sent)

    def cancel(self, number: int, reason: str = "test") -> None:
        """Say that the answer to a request is not wanted any more."""
        params = {"requestId": number, "reason": reason}
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        self.send(json.dumps(note).encode())

    async def response(self, number: int) -> dict[str, Any]:
        """Returns the response to a request."""
        return await asyncio.wait_for(self._waiting[number], BOUND)

    def is_answered(self, number: int) -> bool:
        """Returns whether the response to a request has come."""
        return self._waiting[number].done()

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request. Returns its response."""
        return await self.response(self.start(method, **params))

    async def answer(self, number: int) -> Answer:
        """Returns the answer to the call of a tool."""
        result = (await self.response(number))["result"]
        (content,) = result["content"]
        assert content["type"] == "text"
        assert len(content["text"].encode()) <= 8_000
        return Answer(content["text"], result["isError"])

    async def ask(self, tool: str, **arguments: Any) -> Answer:
        """Call a tool. Returns its answer."""
        return await self.answer(self.start_call(tool, **arguments))

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool, which succeeds. Returns its text."""
        text, failed = await self.ask(tool, **arguments)
        assert not failed, text
        return text

    async def refused(self, tool: str, **arguments: Any) -> str:
        """Call a tool, which fails. Returns its text."""
        text, failed = await self.ask(tool, **arguments)
        assert failed, text
        return text

    async def pinged(self) -> None:
        """Wait until all lines before were looked at."""
        assert (await self.request("ping"))["result"] == {}

    def end_input(self) -> None:
        """Close the bridge's stdin."""
        with suppress(OSError):
            os.close(self._input)

    def signal(self, number: signal.Signals) -> None:
        """Send the bridge's process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """Returns the exit code of the bridge's process once it has ended."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), BOUND)

    async def _read(self, answers: asyncio.StreamReader) -> None:
        async for line in answers:
            message = json.loads(line)
            if message.get("method") == "notifications/progress":
                self.progress.append(message["params"])
                continue
            waiting = self._waiting.get(message.get("id"))
            if waiting is None or waiting.done():
                self.stray.append(message)
            else:
                waiting.set_result(message)


@asynccontextmanager
async def bridge_here(server: str, agent: str, **options: Any) -> AsyncIterator[Host]:
    """Yields the host of a bridge that runs in this process, on pipes. It says goodbye at the end.

    Args:
        server: The address of the server.
        agent: The bridge's agent.
        **options: Of connection.Options.
    """
    given: dict[str, Any] = {"token": None, "tls": {}, "thread": None, "wait": 20.0}
    given |= {"wait_max": 60.0} | options
    bridge_input, input = os.pipe()
    output, bridge_output = os.pipe()
    bridge = Bridge(Options(server=server, agent=agent, **given))
    wire = Wire(bridge, input=bridge_input, output=bridge_output)
    stopped = asyncio.Event()
    serving = asyncio.create_task(wire.serve(stopped))
    answers = asyncio.StreamReader(limit=2**24)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(answers), os.fdopen(output, "rb")
    )
    host = Host(answers, input, None)
    try:
        yield host
    finally:
        stopped.set()
        await serving
        await bridge.close()
        await wire.close()
        host.end_input()
        transport.close()
        os.close(bridge_output)
        host._reading.cancel()


@asynccontextmanager
async def bridge_process(server: str, agent: str, *options: str) -> AsyncIterator[Host]:
    """Yields the host of `threadbus mcp`, which is killed at the end if it runs still.

    Args:
        server: The address of the server.
        agent: The bridge's agent.
        *options: Of the command.
    """
    bridge_input, input = os.pipe()
    os.set_inheritable(input, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bus_client.cli", "mcp", "--as", agent, "--server", server),
        *options,
        stdin=bridge_input,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    os.close(bridge_input)
    assert process.stdout is not None
    host = Host(process.stdout, input, process)
    try:
        yield host
    finally:
        host.end_input()
        if process.returncode is None:
            process.kill()
        await process.wait()
        host._reading.cancel()
