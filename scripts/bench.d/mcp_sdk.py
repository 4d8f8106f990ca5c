"""The five tools of `threadbus mcp` as a server over the official MCP SDK, which M1 compares.

    python mcp_sdk.py ADDRESS AGENT

It has the tools' names, arguments and descriptions, and the calls of the bus behind them; not what
`threadbus mcp` adds to these, such as taking back what a cancelled wait has returned.
"""

import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from pydantic import Field

from bus_client import BusClient, Message, MessageFilter, Priority, ThreadHandle
from bus_client.cli.mcp import tools

_ADDRESS, _AGENT = sys.argv[1:]
_TOOLS = {tool["name"]: tool for tool in tools.TOOLS}

T = TypeVar("T")


def _described(tool: str, argument: str) -> Any:
    """Returns the annotation of an argument, with its description if it has one."""
    return Field(description=_TOOLS[tool]["inputSchema"]["properties"][argument].get("description"))


class _Bus:
    """The agent's connection, which the first call opens."""

    def __init__(self) -> None:
        self._client: BusClient | None = None
        self._threads = dict[str, ThreadHandle]()
        self._last = ""

    async def client(self) -> BusClient:
        if self._client is None:
            self._client = BusClient(_ADDRESS, agent=_AGENT)
            await self._client.connect()
        return self._client

    async def thread(self, name: str | None, context: int = 0) -> ThreadHandle:
        name = name or self._last
        if name not in self._threads:
            client = await self.client()
            self._threads[name] = await client.join(name, context_limit=context)
        self._last = name
        return self._threads[name]

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


@asynccontextmanager
async def _connection(server: Any) -> AsyncGenerator[_Bus]:
    bus = _Bus()
    try:
        yield bus
    finally:
        await bus.close()


server = MCPServer("threadbus", instructions=tools.instructions(_AGENT, None), lifespan=_connection)


def _tool(function: T) -> T:
    described = _TOOLS[function.__name__]  # type: ignore[attr-defined]
    registered: T = server.tool(
        title=described["title"], description=described["description"], structured_output=False
    )(function)
    return registered


def _bus(context: Any) -> _Bus:
    bus: _Bus = context.request_context.lifespan_context
    return bus


def _lines(messages: Iterable[Message]) -> str:
    return "\n".join(f"#{message.seq} {message.sender}: {message.content}" for message in messages)


@_tool
async def bus_join(
    context: Context,
    thread: str,
    history: Annotated[int, _described("bus_join", "history")] = 20,
    catch_up: Annotated[bool, _described("bus_join", "catch_up")] = False,
) -> str:
    handle = await _bus(context).thread(thread, history)
    if catch_up:
        await handle.acknowledge(handle.info.head_seq)
    return f"{handle.name}\n{_lines(handle.context)}"


@_tool
async def bus_post(
    context: Context,
    text: str,
    mentions: Annotated[list[str], _described("bus_post", "mentions")] = [],  # noqa: B006
    reply_to: Annotated[int, _described("bus_post", "reply_to")] = 0,
    handoff_to: Annotated[str, _described("bus_post", "handoff_to")] = "",
    ask: Annotated[bool, _described("bus_post", "ask")] = False,
    within_s: Annotated[float | None, _described("bus_post", "within_s")] = None,
    priority: Literal["low", "normal", "high", "urgent"] = "normal",
    expect_seq: Annotated[int | None, _described("bus_post", "expect_seq")] = None,
    thread: Annotated[str | None, _described("bus_post", "thread")] = None,
) -> str:
    handle = await _bus(context).thread(thread)
    posted = await handle.post(
        text,
        mentions=mentions,
        reply_to=reply_to,
        handoff_to=handoff_to,
        ask=ask,
        within=within_s,
        priority=Priority.Value(f"PRIORITY_{priority.upper()}"),
        expected_last_seq=expect_seq,
    )
    return f"posted {handle.name} #{posted.seq}"


@_tool
async def bus_wait(
    context: Context,
    timeout_s: float = 45,
    mentions_only: Annotated[bool, _described("bus_wait", "mentions_only")] = False,
    thread: Annotated[str | None, _described("bus_wait", "thread")] = None,
) -> str:
    client = await _bus(context).client()
    found = await client.wait(
        [thread] if thread else None,
        timeout=timeout_s,
        filter=MessageFilter(addressed_to_me=True) if mentions_only else None,
    )
    return _lines(found) or "No messages."


@_tool
async def bus_read(
    context: Context,
    after_seq: int | None = None,
    limit: Annotated[int, _described("bus_read", "limit")] = 20,
    seq: Annotated[int | None, _described("bus_read", "seq")] = None,
    offset: Annotated[int, _described("bus_read", "offset")] = 0,
    thread: str | None = None,
) -> str:
    handle = await _bus(context).thread(thread)
    if seq is not None:
        return (await handle.message(seq)).content[offset:]
    newest = after_seq is None
    return _lines(await handle.messages(after_seq=after_seq or 0, limit=limit, newest=newest))


@_tool
async def bus_who(context: Context, thread: str | None = None) -> str:
    handle = await _bus(context).thread(thread)
    return "\n".join([found.agent async for found in handle.list_participants()])


if __name__ == "__main__":
    server.run()
