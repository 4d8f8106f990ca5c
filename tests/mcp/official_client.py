"""The official MCP client for Python, as a program that driver.py describes.

Runs on the interpreter that `scripts/tools mcp-python` installs.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from opentelemetry.context import attach, detach
from opentelemetry.propagate import extract


def say(**document: Any) -> None:
    print(json.dumps(document), flush=True)


class Calls:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._open = dict[int, asyncio.Task[None]]()

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Do what the commands say, until they end."""
        while line := await commands.readline():
            command = json.loads(line)
            if command["do"] == "cancel":
                self._open[command["call"]].cancel()
                continue
            at = command["id"]
            self._open[at] = asyncio.create_task(self._do(at, command))
            # The next line may cancel it: a task that has not begun would end without a word.
            await asyncio.sleep(0)
        for task in self._open.values():
            task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)

    async def _do(self, at: int, command: dict[str, Any]) -> None:
        try:
            say(id=at, **await self._result(at, command))
        except asyncio.CancelledError:
            say(id=at, failed="cancelled")
        except Exception as error:  # noqa: BLE001 - the test is told
            say(id=at, failed=f"{type(error).__name__}: {error}")

    async def _result(self, at: int, command: dict[str, Any]) -> dict[str, Any]:
        match command["do"]:
            case "ping":
                await self._client.send_ping()
                return {}
            case "tools":
                listed = await self._client.list_tools()
                return {"tools": [tool.model_dump(by_alias=True) for tool in listed.tools]}

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            say(id=at, progress=progress, total=total, message=message)

        # The client itself sends OpenTelemetry's current context.
        token = attach(extract({"traceparent": command["traceparent"]}))
        try:
            result = await self._client.call_tool(
                command["tool"],
                command["arguments"],
                read_timeout_seconds=command["timeout"],
                progress_callback=progressed if command["progress"] else None,
            )
        finally:
            detach(token)
        texts = [block.text for block in result.content if block.type == "text"]
        assert len(texts) == len(result.content)
        assert result.structured_content is None
        return {"text": "\n".join(texts), "is_error": bool(result.is_error)}


async def main() -> None:
    commands = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    async with Client(StdioServerParameters(**json.loads(sys.argv[1]))) as client:
        assert client.server_info is not None
        say(
            id=0,
            name=client.server_info.name,
            protocol=client.protocol_version,
            instructions=client.instructions,
        )
        await Calls(client).run(commands)


if __name__ == "__main__":
    asyncio.run(main())
