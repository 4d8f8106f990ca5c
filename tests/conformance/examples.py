"""Runs the example of each language."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from tests.conformance.driver import BOUND, ROOT


class Example:
    """A tiny agent in some language, which prints what it does, one JSON object per line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> dict[str, Any]:
        """Return the next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(BOUND):
            line = await self._process.stdout.readline()
        assert line, "the example ended"
        found: dict[str, Any] = json.loads(line)
        return found

    async def rest(self) -> list[dict[str, Any]]:
        """Return the lines until it exits, which must be with 0."""
        lines, _ = await self._end(0)
        return lines

    async def error_output(self) -> dict[str, Any]:
        """Return the error that it prints when it fails."""
        _, errors = await self._end(1)
        found: dict[str, Any] = json.loads(errors.strip().splitlines()[-1])
        return found

    async def _end(self, code: int) -> tuple[list[dict[str, Any]], str]:
        async with asyncio.timeout(BOUND):
            output, errors = await self._process.communicate()
        assert self._process.returncode == code, errors.decode()
        return [json.loads(line) for line in output.splitlines()], errors.decode()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._process.kill()


@contextlib.asynccontextmanager
async def example(
    language: str, address: str, thread: str, name: str, *, token: str = "", **environment: str
) -> AsyncIterator[Example]:
    """Run a language's example, with these environment variables, and kill it afterwards."""
    process = await asyncio.create_subprocess_exec(
        ROOT / "scripts" / "languages" / language,
        *("example", address, thread, name),
        cwd=ROOT,
        env=os.environ | environment | ({"THREADBUS_TOKEN": token} if token else {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Example(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
