"""Node processes that run the client in clients/typescript and print one JSON object per line."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.serving import BusStub
from threadbus.v1.bus_service_pb2 import PostMessageRequest

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "clients" / "typescript"
#: Seconds. No step takes longer, not even on a busy machine.
BOUND = 20.0

_PRELUDE = """
    import * as grpc from '@grpc/grpc-js';
    import { ThreadBus } from './dist/src/threadbus.js';
    import { AgentServiceService, RegisterAgentRequest }
      from './dist/gen/threadbus/v1/agent_service.js';
    import { BusServiceService, PostMessageRequest }
      from './dist/gen/threadbus/v1/bus_service.js';
    import { MessageKind } from './dist/gen/threadbus/v1/message.js';
    const [address, thread] = process.argv.slice(1);
    const bus = new ThreadBus(address);
    const say = (line) => console.log(JSON.stringify(line));
    /** Until the test says go_on(). */
    const told = async () => { for await (const _ of process.stdin) return; };
"""


class Node:
    """A running node process. Every step has a time limit."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    async def line(self) -> dict[str, Any]:
        """Returns the next line."""
        async with asyncio.timeout(BOUND):
            line = await self._stdout.readline()
        assert line, f"node ended with {await self.exit_code()}"
        found: dict[str, Any] = json.loads(line)
        return found

    async def rest(self) -> list[dict[str, Any]]:
        """Returns the remaining lines; it must exit with 0."""
        async with asyncio.timeout(BOUND):
            lines = [json.loads(line) async for line in self._stdout]
        assert await self.exit_code() == 0
        return lines

    async def exit_code(self) -> int:
        """Wait for its exit; returns the exit code."""
        async with asyncio.timeout(BOUND):
            return await self._process.wait()

    def go_on(self) -> None:
        """Continue a script that waits for `told()`."""
        self._stdin.write_eof()


@contextlib.asynccontextmanager
async def node(*arguments: str, **environment: str) -> AsyncIterator[Node]:
    """Run node in the client's folder; it is killed at the end."""
    # A proxy must not come between a client and a server on one machine.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")
    process = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
        cwd=CLIENT,
        env={**os.environ, **proxies, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Node(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def script(body: str, address: str, thread: str) -> AbstractAsyncContextManager[Node]:
    """Returns a script with `bus`, the name of the thread, and say() for what the test reads."""
    return node("--input-type=module", "--eval", _PRELUDE + body, address, thread)


async def post(bus: BusStub, thread: str, *contents: str, **fields: Any) -> None:
    """Post one message after the other."""
    for content in contents:
        await bus.PostMessage(PostMessageRequest(thread=thread, content=content, **fields))
