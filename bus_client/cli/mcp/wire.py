"""The Model Context Protocol over lines of JSON-RPC 2.0: what a server with tools needs of it.

https://modelcontextprotocol.io/specification/2025-11-25. Why this is not the official SDK:
docs/decisions/own-mcp-layer.md.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from bus_client.cli.mcp.lines import MAX_LINE, LineReader, LineWriter
from threadbus.names import TRACEPARENT

#: The versions of the protocol, newest last. They do not differ in what is used here, but that
#: 2025-03-26 had batches, which are refused: no client is known to send one.
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS = -32700, -32600, -32601, -32602
_MOST_CALLS = 64  # that are answered at the same time
_LAST_ANSWERS = 1.0  # seconds at the end of the input for the calls that are running
_LAST_LINES = 1.0  # seconds to write what is left
#: Clients that abort each call once they have taken its answer, and send a cancellation with this
#: reason then; that of a call which took too long has another one. OpenCode 1.18 is one.
_ABORT_ANSWERED, _ABORTED = {"opencode"}, "AbortError"

Id = str | int
#: Called with the seconds since the start of a call, and the seconds that it may take.
Progress = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call of a tool: a text for the model, and whether the call failed."""

    text: str
    failed: bool = False


class Tools(Protocol):
    """What is served: the tools, and how they are called."""

    @property
    def name(self) -> str:
        """The server's name."""

    @property
    def version(self) -> str:
        """The server's version."""

    @property
    def instructions(self) -> str:
        """What a model should know of the tools, beside their descriptions."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools, as tools/list returns them."""

    async def call(
        self,
        call: Id,
        name: str,
        arguments: dict[str, Any],
        progress: Progress,
        traceparent: str,
    ) -> Result:
        """Call a tool. Cancelled if the client does not want the result any more.

        Args:
            call: The id of the request.
            name: Of the tool: one of `tools`.
            arguments: As the client sent them, of any types.
            progress: Reports that the call goes on.
            traceparent: Of the trace that the call belongs to. Empty = the client sent none that
                is valid.
        """

    def start(self) -> None:
        """Called when the client says that it is about to use the tools."""

    def discard(self, call: Id) -> None:
        """Called when the client has not looked at the result of a call that has returned."""


class Invalid(Exception):
    """A line is not a valid request."""

    def __init__(self, code: int, message: str, call: Id | None = None) -> None:
        super().__init__(message)
        self.answer = {
            "jsonrpc": "2.0",
            "id": call,
            "error": {"code": code, "message": message},
        }


class Wire:
    """Serves tools to the client on the other side of two descriptors."""

    def __init__(self, tools: Tools, *, input: int, output: int) -> None:
        self._tools = tools
        self._reader = LineReader(input)
        self._writer = LineWriter(output)
        self._calls: dict[Id, asyncio.Task[None]] = {}
        self._aborts_answered = False

    async def serve(self, stopped: asyncio.Event) -> None:
        """Serve until the end of the input, until nobody reads the output, or until `stopped`."""
        reading = asyncio.create_task(self._read())
        ends = [asyncio.create_task(event.wait()) for event in (stopped, self._writer.broken)]
        await asyncio.wait([reading, *ends], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_ANSWERS):
                    await asyncio.gather(*self._calls.values(), return_exceptions=True)
        running = [reading, *ends, *self._calls.values()]
        for task in running:
            task.cancel()
        await asyncio.wait(running)

    async def close(self) -> None:
        """Write what is left."""
        await self._writer.close(_LAST_LINES)

    async def _read(self) -> None:
        while (line := await self._reader.next()) is not None:
            if not line.strip():
                continue
            try:
                self._handle(_parsed(line))
            except Invalid as error:
                self._send(error.answer)
            await self._writer.drain()

    def _handle(self, message: Any) -> None:
        """Answer a message, or start to. Raises Invalid."""
        if not isinstance(message, dict):
            raise Invalid(_INVALID_REQUEST, "A message is an object; batches are not supported.")
        method, params = message.get("method"), message.get("params")
        if method is None and ("result" in message or "error" in message):
            return  # this server makes no requests
        call = message.get("id")
        if "id" in message and (isinstance(call, bool) or not isinstance(call, str | int)):
            raise Invalid(_INVALID_REQUEST, "id must be a string or an integer.")
        if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
            raise Invalid(_INVALID_REQUEST, 'jsonrpc must be "2.0", and method a string.', call)
        if call is None:
            if method == "notifications/initialized":
                self._tools.start()
            if method == "notifications/cancelled" and isinstance(params, dict):
                self._cancel(params.get("requestId"), params.get("reason"))
            return
        params = {} if params is None else params
        if not isinstance(params, dict):
            raise Invalid(_INVALID_PARAMS, "params must be an object.", call)
        if call in self._calls:  # an answer could not be told from that of the other
            raise Invalid(_INVALID_REQUEST, "The id is that of a request that is not answered yet.")
        if method == "tools/call":
            self._start(call, params)
        else:
            self._answer(call, self._result(call, method, params))

    def _result(self, call: Id, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the result of a request that is answered at once. Raises Invalid."""
        if method == "ping":
            return {}
        if method == "tools/list":
            return {"tools": self._tools.tools}
        if method == "initialize":
            client = params.get("clientInfo")
            name = client.get("name") if isinstance(client, dict) else None
            self._aborts_answered = isinstance(name, str) and name in _ABORT_ANSWERED
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[-1],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self._tools.name, "version": self._tools.version},
                "instructions": self._tools.instructions,
            }
        raise Invalid(_METHOD_NOT_FOUND, f"There is no method {method[:100]!r}.", call)

    def _start(self, call: Id, params: Mapping[str, Any]) -> None:
        """Start the call of a tool. Raises Invalid."""
        name, arguments = params.get("name"), params.get("arguments")
        known = [tool["name"] for tool in self._tools.tools]
        meta = params.get("_meta")
        if not isinstance(name, str) or name not in known:
            raise Invalid(_INVALID_PARAMS, f"name must be one of: {', '.join(known)}.", call)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise Invalid(_INVALID_PARAMS, "arguments must be an object.", call)
        if meta is None:
            meta = {}
        if not isinstance(meta, dict):
            raise Invalid(_INVALID_PARAMS, "_meta must be an object.", call)
        if len(self._calls) >= _MOST_CALLS:
            raise Invalid(_INVALID_REQUEST, f"{_MOST_CALLS} calls are not answered yet.", call)
        token = meta.get("progressToken")
        progress = self._progress(token) if isinstance(token, str | int) else _tell_nobody
        # https://modelcontextprotocol.io/seps/414-request-meta
        trace = meta.get("traceparent")
        traceparent = trace if isinstance(trace, str) and TRACEPARENT.fullmatch(trace) else ""
        task = asyncio.create_task(self._call(call, name, arguments, progress, traceparent))
        self._calls[call] = task
        task.add_done_callback(lambda _: self._calls.pop(call))

    async def _call(
        self,
        call: Id,
        name: str,
        arguments: dict[str, Any],
        progress: Progress,
        traceparent: str,
    ) -> None:
        try:
            result = await self._tools.call(call, name, arguments, progress, traceparent)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the others
            traceback.print_exc(file=sys.stderr)
            result = Result(f"{name} failed: {type(error).__name__}. Tell your user.", True)
        content = [{"type": "text", "text": result.text}]
        self._answer(call, {"content": content, "isError": result.failed})

    def _cancel(self, call: object, reason: object) -> None:
        if isinstance(call, bool) or not isinstance(call, str | int):
            return
        task = self._calls.get(call)
        if task is not None and task.cancel():
            return
        if not (self._aborts_answered and isinstance(reason, str) and reason.startswith(_ABORTED)):
            self._tools.discard(call)

    def _progress(self, token: Id) -> Progress:
        def tell(seconds: float, total: float) -> None:
            params = {"progressToken": token, "progress": seconds, "total": total}
            self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

        return tell

    def _answer(self, call: Id, result: Mapping[str, Any]) -> None:
        self._send({"jsonrpc": "2.0", "id": call, "result": result})

    def _send(self, message: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _parsed(line: bytearray) -> Any:
    """Returns the JSON value in a line. Raises Invalid."""
    if len(line) > MAX_LINE:
        raise Invalid(_INVALID_REQUEST, f"A line has at most {MAX_LINE:,} bytes.")
    with suppress(ValueError, RecursionError):  # also bytes that are not UTF-8
        return json.loads(line.decode())
    raise Invalid(_PARSE_ERROR, "The line is not JSON in UTF-8.")


def _tell_nobody(seconds: float, total: float) -> None:
    pass
