"""The processes of the demo, and what they tell."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio.subprocess import Process


class Ended(Exception):
    """A process ended that should not have."""


class Running:
    """A process that tells on stdout what it does.

    Attributes:
        name: What it is.
        events: What it told so far as JSON.
    """

    def __init__(self, name: str, process: Process, out: asyncio.StreamReader) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._out = out

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def line(self) -> str:
        """The next line that it prints. Raises Ended."""
        line = await self._out.readline()
        if not line:
            raise Ended(f"the {self.name} ended early")
        return line.decode()

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of this kind that it tells. Raises Ended."""
        while True:
            event: dict[str, Any] = json.loads(await self.line())
            self.events.append(event)
            if kind in event:
                return event

    def told(self, kind: str) -> list[Any]:
        """What it told of one kind until now."""
        return [event[kind] for event in self.events if kind in event]

    def cue(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGUSR1)

    async def kill(self) -> None:
        """Ends it without a word, if it has not ended: kill -9."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Asks it to end; answers its exit code."""
        with suppress(ProcessLookupError):  # it has ended
            self._process.terminate()
        return await self._process.wait()

    async def rest(self) -> None:
        """Hears out one that has ended."""
        async for line in self._out:
            self.events.append(json.loads(line))


class Processes:
    """Runs Python modules as processes; none outlives the block.

    Attributes:
        folder: Where their data is, and their complaints, in `NAME.log`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Who is still there was interrupted: nobody waits for its goodbye.
        await asyncio.gather(*(process.kill() for process in self._running))

    async def start(self, name: str, module: str, *arguments: object) -> Running:
        """Starts a module."""
        environment = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
        environment["XDG_DATA_HOME"] = str(self.folder)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *map(str, arguments)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        if process.stdout is None:
            raise Ended(f"the {name} has no output")
        running = Running(name, process, process.stdout)
        self._running.append(running)
        return running

    def logs(self) -> str:
        """The end of what they complained about."""
        logs = sorted(self.folder.glob("*.log"))
        told = {log.stem: log.read_text("utf-8", "replace")[-2000:].strip() for log in logs}
        return "\n".join(f"{name}: {text}" for name, text in told.items() if text)
