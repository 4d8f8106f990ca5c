"""The processes of the demo, and what they report."""

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


class ProcessEnded(Exception):
    """A process of the demo ended too early, or with an error."""


class DemoProcess:
    """A process that reports on stdout what it is doing.

    Attributes:
        name: The name of the agent, or `server`.
        events: Its reports so far, as JSON objects.
    """

    def __init__(self, name: str, process: Process, out: asyncio.StreamReader) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._out = out

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def read_line(self) -> str:
        """Returns the next line of the process's stdout. Raises ProcessEnded at its end."""
        line = await self._out.readline()
        if not line:
            raise ProcessEnded(f"the {self.name} ended early")
        return line.decode()

    async def next_event(self, kind: str) -> dict[str, Any]:
        """Returns the next event that has the key `kind`. Appends each event read to `events`.

        Raises:
            ProcessEnded: The process ended before such an event.
        """
        while True:
            event: dict[str, Any] = json.loads(await self.read_line())
            self.events.append(event)
            if kind in event:
                return event

    def values(self, kind: str) -> list[Any]:
        """Returns the values of the key `kind` in all events so far."""
        return [event[kind] for event in self.events if kind in event]

    def cue(self) -> None:
        """Signal the agent to write its next reply that is marked `on_cue`."""
        self._process.send_signal(signal.SIGUSR1)

    async def kill(self) -> None:
        """Kill the process (SIGKILL) unless it has ended, and wait until it has."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """Stop the process (SIGTERM), and wait until it has ended. Returns its exit code."""
        with suppress(ProcessLookupError):  # it has ended
            self._process.terminate()
        return await self._process.wait()

    async def read_rest(self) -> None:
        """Append the remaining events of a process that has ended to `events`."""
        async for line in self._out:
            self.events.append(json.loads(line))


class Processes:
    """The demo's processes. Those still running at the end of the `async with` block are killed.

    Attributes:
        folder: The folder for their data, and for their stderr, in `NAME.log`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[DemoProcess] = []

    async def __aenter__(self) -> Processes:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Processes still running were interrupted: do not wait for them to end their sessions.
        await asyncio.gather(*(process.kill() for process in self._running))

    async def start(self, name: str, module: str, *arguments: object) -> DemoProcess:
        """Start a Python module as a process, without the user's THREADBUS_… variables. Returns it.

        Args:
            name: The name of the agent, or `server`.
            module: The module, which is run with `python -m`.
            *arguments: Its arguments.
        """
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
            raise ProcessEnded(f"the {name} has no output")
        running = DemoProcess(name, process, process.stdout)
        self._running.append(running)
        return running

    def logs(self) -> str:
        """Returns the last 2,000 characters that each process wrote to stderr."""
        logs = sorted(self.folder.glob("*.log"))
        texts = {log.stem: log.read_text("utf-8", "replace")[-2000:].strip() for log in logs}
        return "\n".join(f"{name}: {text}" for name, text in texts.items() if text)
