"""`threadbus demo`: a server, two agents, a crash in the middle, and a check of the outcome."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.demo_agent import LINES, THREAD
from bus_client.cli.documents import document
from bus_client.cli.failures import FAILED
from bus_client.cli.options import json_option, seconds_option
from bus_client.cli.output import Output
from bus_client.cli.session import guarded, until_signalled
from bus_client.cli.transcript import Transcript

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from bus_client import Message

_KILLED_AT = 5  # the message over which the reviewer is killed
_PATIENCE = 30.0  # seconds beyond the pauses in which it must be over
_NEXT = """\
  threadbus serve                                     a server, in a terminal of its own
  threadbus post design "hello" --as coder            an agent says something
  threadbus wait design --as reviewer                 another waits for it
  threadbus tail design                               and you watch"""


def _now_yours() -> str:
    return "Now yours:" if shutil.which("threadbus") else f"Now yours ({sys.argv[0]} is threadbus):"


@click.command()
@seconds_option("--pace", default=0.7, help="How long it takes to write a message.")
@json_option
def demo(pace: float, as_json: bool) -> int:
    """Watch two agents talk, and one of them crash.

    A server with a real database in a temporary folder, a coder and a reviewer, each a process of
    its own. The reviewer is killed in mid-thought and started again: it goes on where it was. Ends
    by itself, with exit code 0 if every message was there once and in order.

    \b
    Example:
      threadbus demo
    """
    out = Output(as_json)
    return guarded(out, lambda: asyncio.run(until_signalled(_demo(out, pace))))


async def _demo(out: Output, pace: float) -> int:
    with tempfile.TemporaryDirectory(prefix="threadbus-demo-") as folder:
        stage = _Stage(out, Path(folder), pace)
        try:
            async with asyncio.timeout(_PATIENCE + pace * len(LINES)):
                fault = await stage.play()
        except (TimeoutError, _Ended) as error:
            fault = str(error) or f"nothing came after message {len(stage.heard)}"
        if fault:
            click.echo(f"The demo failed: {fault}.\n{stage.logs()}", err=True)
            return FAILED
    stage.narrate(f"{len(LINES)} messages, each once and in order: nothing lost, nothing repeated")
    heard = {"messages": [document(message) for message in stage.heard]}
    out.show(heard, ["", _now_yours(), *_NEXT.splitlines()])
    return 0


class _Ended(Exception):
    """A process ended that should not have."""


class _Stage:
    """The folder, the processes, and what was said."""

    def __init__(self, out: Output, folder: Path, pace: float) -> None:
        self.heard: list[Message] = []
        self._out = out
        self._folder = folder
        self._pace = pace
        self._lines = Transcript(colour=out.colour, live=True)
        self._running = AsyncExitStack()

    def narrate(self, text: str) -> None:
        """Says what is going on behind the conversation."""
        if self._out.json:
            click.echo(text, err=True)
        else:
            line = f"── {text}"
            self._out.show(None, [click.style(line, dim=True) if self._out.colour else line])

    def logs(self) -> str:
        """The end of what the processes complained about."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"{log.stem}: {log.read_text('utf-8')[-2000:]}" for log in logs)

    async def play(self) -> str:
        """Plays it; answers what went wrong, empty if nothing did."""
        async with self._running:
            database = self._folder / "demo.db"
            server = await self._start(
                "server", "bus_client.cli", "serve", "--listen", "127.0.0.1:0", "--db", database
            )
            address = (await _line(server)).split()[2]
            self.narrate(f"a server on {address} (process {server.pid}), database {database}")
            async with bus_client.BusClient(address, timeout=_PATIENCE, heartbeats=False) as bus:
                thread = await bus.join(THREAD, start="first")
                async with aclosing(thread.follow()) as messages:
                    fault = await self._converse(address, messages)
                kept = await thread.messages()
        return fault or _fault("the store", kept) or _fault("the follower", self.heard)

    async def _converse(self, address: str, messages: AsyncGenerator[Message]) -> str:
        reviewer = await self._agent("reviewer", address, stuck_at=_KILLED_AT)
        coder = await self._agent("coder", address)
        self.narrate(f"the coder is process {coder.pid}, the reviewer process {reviewer.pid}")
        went_on_with = 0
        async for message in messages:
            self.heard.append(message)
            if not self._out.json:
                self._out.show(None, self._lines.lines([message]))
            if message.seq == _KILLED_AT:
                while await _event(reviewer, "read") < _KILLED_AT:
                    pass
                reviewer.kill()
                await reviewer.wait()
                self.narrate(f"kill -9 {reviewer.pid}: the reviewer dies thinking about #5")
            elif message.seq == _KILLED_AT + 1:
                reviewer = await self._agent("reviewer", address)
                place = await _event(reviewer, "joined")
                went_on_with = await _event(reviewer, "read")
                self.narrate(
                    f"the reviewer again, process {reviewer.pid}: it was done with #{place}, "
                    f"and goes on with #{went_on_with}"
                )
            elif message.seq == len(LINES):
                break
        if went_on_with != _KILLED_AT:
            return f"the reviewer went on with #{went_on_with} instead of #{_KILLED_AT}"
        if await coder.wait() or await reviewer.wait():
            return "an agent failed"
        return ""

    async def _agent(self, name: str, address: str, *, stuck_at: int = 0) -> Process:
        credentials = self._folder / "credentials.json"
        return await self._start(
            name, "bus_client.cli.demo_agent", name, address, credentials, self._pace, stuck_at
        )

    async def _start(self, name: str, module: str, *arguments: object) -> Process:
        """Starts a module as a process, which is ended with the play."""
        environment = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
        environment["XDG_DATA_HOME"] = str(self._folder)
        with (self._folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *map(str, arguments)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self._running.push_async_callback(_stop, process)
        return process


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(5.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _line(process: Process) -> str:
    if process.stdout is None:
        raise _Ended("a process has no output")
    line = await process.stdout.readline()
    if not line:
        raise _Ended("a process ended early")
    return line.decode()


async def _event(process: Process, name: str) -> int:
    """The number that goes with the next event of this name that an agent tells."""
    while True:
        event: dict[str, int] = json.loads(await _line(process))
        if name in event:
            return event[name]


def _fault(who: str, messages: list[Message]) -> str:
    """Whether these are the lines, each once and in order; if not, what is wrong."""
    said = [(message.seq, message.sender, message.content) for message in messages]
    wanted = [(seq, name, text) for seq, (name, text) in enumerate(LINES, start=1)]
    return "" if said == wanted else f"{who} has other messages than were said: {said}"
