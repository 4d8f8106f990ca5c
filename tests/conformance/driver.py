"""Driver processes: send commands, receive their results."""

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
#: Seconds; more than any step takes, even on a busy machine.
BOUND = 30.0
#: A line may hold a message of 3 MiB, escaped.
_LINE_BYTES = 32 * 1024 * 1024


_ENDED = "the driver ended, or wrote what is no answer"


class Command:
    """A command that was sent, and its lines as they come."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.done = False

    def put(self, line: dict[str, Any]) -> None:
        """Add a line that the driver wrote."""
        self._lines.put_nowait(line)

    async def next(self, within: float = BOUND) -> dict[str, Any]:
        """Return the next line: a frame, a message, or the last one (`ok` or `error`).

        Raises AssertionError if none comes `within` this many seconds.
        """
        assert not self.done, "the command is over"
        try:
            async with asyncio.timeout(within):
                line = await self._lines.get()
        except TimeoutError:
            raise AssertionError(f"nothing came for {within:g} s") from None
        assert "gone" not in line, _ENDED
        self.done = "ok" in line or "error" in line
        return line


class Driver:
    """A running driver."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._process, self._stdin = process, process.stdin
        self._numbers = itertools.count(1)
        self._commands: dict[int, Command] = {}

    async def give(self, do: str, **fields: Any) -> Command:
        """Send a command."""
        command = Command(next(self._numbers))
        self._commands[command.number] = command
        line = json.dumps({"id": command.number, "do": do, **fields}) + "\n"
        try:
            async with asyncio.timeout(BOUND):
                self._stdin.write(line.encode())
                await self._stdin.drain()
        except OSError:
            raise AssertionError(_ENDED) from None
        return command

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Send a command, and return its `ok`. Raises AssertionError if it fails."""
        line = await (await self.give(do, **fields)).next()
        assert "ok" in line, f"{do}: {line}"
        answer: dict[str, Any] = line["ok"]
        return answer

    async def read(self) -> None:
        """Dispatch lines to their commands until the driver exits."""
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            try:
                line = json.loads(text)
                command = self._commands[line.pop("id")]
            except (ValueError, KeyError):
                print(f"a driver wrote {text[:400]!r}", file=sys.stderr)
                break
            command.put(line)
            if "ok" in line or "error" in line:
                del self._commands[command.number]
        for command in self._commands.values():
            command.put({"gone": True})

    async def end(self) -> int:
        """Close its stdin, wait until it exits, and return its exit code."""
        self._stdin.close()
        async with asyncio.timeout(BOUND):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def driver(language: str) -> AsyncIterator[Driver]:
    """Run a language's driver. It must exit with 0 when its stdin is closed."""
    # Clients must not use a proxy for a server on the same machine.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")
    process = await asyncio.create_subprocess_exec(
        ROOT / "scripts" / "languages" / language,
        "driver",
        cwd=ROOT,
        env=os.environ | proxies,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    running = Driver(process)
    reading = asyncio.create_task(running.read())
    try:
        yield running
        assert await running.end() == 0, f"the driver of {language} did not end well"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


class SharedDriver:
    """A language's driver that runs many cases, as starting one takes longer than most cases.

    A case that fails discards it: the next case starts another.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._running: tuple[contextlib.AbstractAsyncContextManager[Driver], Driver] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            await self._running[0].__aexit__(None, None, None)

    @contextlib.asynccontextmanager
    async def case(self) -> AsyncIterator[Driver]:
        """Yield the driver, and close its client afterwards."""
        if self._running is None:
            starting = driver(self._language)
            self._running = starting, await starting.__aenter__()
        process, lent = self._running
        try:
            yield lent
            await lent.ask("close")
        except BaseException:
            self._running = None
            await process.__aexit__(*sys.exc_info())  # kills it
            raise
