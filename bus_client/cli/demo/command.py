"""`threadbus demo`: a server, three agents, a crash in the middle, and a check of the outcome."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.demo.lines import AGENTS, KILLED_OVER, LINES, SAID, STALE_AFTER, THREAD
from bus_client.cli.demo.narration import Audience, Narrator, state_name
from bus_client.cli.demo.outcome import outcome
from bus_client.cli.demo.processes import Ended, Processes, Running
from bus_client.cli.documents import document
from bus_client.cli.failures import FAILED
from bus_client.cli.options import json_option, seconds_option
from bus_client.cli.output import Output
from bus_client.cli.session import guarded, side_by_side, until_signalled

if TYPE_CHECKING:
    from bus_client import Message, Presence, ThreadHandle

_PATIENCE = 90.0  # seconds beyond the pauses in which it must be over, on a slow machine, too
# So that the reviewer's death shows within two seconds, not within the usual minute.
_PRESENCE = ("--heartbeat-interval", 0.6, "--agent-timeout", 1.0)
_NEXT = """\
  threadbus serve                             a server, in a terminal of its own
  threadbus post design "hello" --as coder    an agent says something
  threadbus wait design --as reviewer         another waits for it
  threadbus tail design                       and you watch"""


def _now_yours() -> str:
    return "Now yours:" if shutil.which("threadbus") else f"Now yours ({sys.argv[0]} is threadbus):"


@click.command()
@seconds_option("--pace", default=1.0, help="How long it takes to write a message.")
@json_option
def demo(pace: float, as_json: bool) -> int:
    """Watch three agents talk, and one of them crash.

    A server with a real database in a temporary folder; a coder, a reviewer and a tester, each a
    process of its own. You see who waits and who works. The tester sleeps until it is mentioned.
    An answer that comes too late is refused, and thought over. The reviewer is killed in
    mid-thought, is missed, and goes on where it was when it is started again.

    Ends by itself, with exit code 0 if all of it was so and every message there once and in order.

    \b
    Example:
      threadbus demo
    """
    out = Output(as_json)
    return guarded(out, lambda: asyncio.run(until_signalled(_demo(out, pace))))


async def _demo(out: Output, pace: float) -> int:
    narrator = Narrator(out)
    promises: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="threadbus-demo-") as folder:
        async with Processes(Path(folder)) as processes:
            stage = _Stage(processes, narrator, pace)
            try:
                async with asyncio.timeout(_PATIENCE + pace * len(LINES)):
                    promises = await stage.play()
                faults = [f"not so: {promise}; {fault}" for promise, fault in promises if fault]
            except TimeoutError:
                faults = [f"nothing came after message {len(stage.heard)}"]
            except (Ended, bus_client.BusError) as error:
                faults = [str(error)]
            logs = processes.logs()
    if faults:
        click.echo("\n".join([f"The demo failed: {'. '.join(faults)}.", logs]).strip(), err=True)
        return FAILED
    for promise, _ in promises:
        narrator.promise(promise)
    heard = {"messages": [document(message) for message in stage.heard]}
    out.show(heard, ["", _now_yours(), *_NEXT.splitlines()])
    return 0


class _Stage:
    """What happens, and in which order: all of it waits for what was before, nothing for a time."""

    def __init__(self, processes: Processes, narrator: Narrator, pace: float) -> None:
        self.heard: list[Message] = []
        self._processes = processes
        self._narrator = narrator
        self._audience = Audience(narrator)
        self._pace = pace
        self._address = ""
        self._agents: dict[str, Running] = {}

    async def play(self) -> list[tuple[str, str]]:
        """Plays it; answers what it promised to show, each with what speaks against it."""
        database = self._processes.folder / "demo.db"
        serve = ("serve", "--listen", "127.0.0.1:0", "--db", database, *_PRESENCE)
        server = await self._processes.start("server", "bus_client.cli", *serve)
        self._address = (await server.line()).split()[2]
        self._narrator.say(f"a server on {self._address} (process {server.pid})")
        async with bus_client.BusClient(self._address, timeout=_PATIENCE, heartbeats=False) as bus:
            await bus.create_thread(THREAD, sync_mode=bus_client.SyncMode.SYNC_MODE_STRICT)
            thread = bus.thread(THREAD)
            for name in AGENTS:
                await self._start(name)
            first_life = self._agents["reviewer"]
            numbers = ", ".join(f"{agent.name} {agent.pid}" for agent in self._agents.values())
            self._narrator.say(f"three agents, a process each: {numbers}")
            await side_by_side([self._audience.watch(thread), self._converse(bus.thread(THREAD))])
            kept = await thread.messages()
        return list(outcome(self.heard, kept, self._agents, first_life))

    async def _start(self, name: str) -> Running:
        """Starts an agent; returns when it has joined."""
        credentials = self._processes.folder / "credentials.json"
        agent = await self._processes.start(
            name, "bus_client.cli.demo.agent", name, self._address, credentials, self._pace
        )
        self._agents[name] = agent
        await agent.event("joined")
        return agent

    async def _converse(self, thread: ThreadHandle) -> None:
        coder = self._agents["coder"]
        await self._audience.until("waiting", "reviewer", "tester")
        coder.cue()
        thread.position = bus_client.Cursor(thread=THREAD)
        async with aclosing(thread.follow()) as messages:
            for seq, line in enumerate(SAID, start=1):
                posted = await self._agents[line.who].event("posted")
                message = await anext(messages)
                self.heard.append(message)
                self._narrator.message(message)
                if seq in (1, KILLED_OVER + 1, STALE_AFTER):
                    who = ", ".join(map(_seen_as, posted["recipients"]))
                    self._narrator.say(f"{line.who} is told who will see it: {who}")
                if seq == KILLED_OVER:
                    await self._kill(self._agents["reviewer"])
                    coder.cue()
                elif seq == KILLED_OVER + 1:
                    await self._bring_back()
                elif seq == STALE_AFTER:
                    await self._wake(self._agents["tester"])
                elif seq == STALE_AFTER + 1:
                    await self._refuse(self._agents["reviewer"])
        await self._agents["reviewer"].event("read")
        await self._say_goodbye()

    async def _kill(self, reviewer: Running) -> None:
        await reviewer.event("thinking")
        await self._audience.until("working", "reviewer")
        await asyncio.sleep(self._pace)
        await reviewer.kill()
        self._narrator.say(
            f"kill -9 {reviewer.pid}: the reviewer dies thinking about #{KILLED_OVER}"
        )
        await self._audience.until("lapsed", "reviewer")

    async def _bring_back(self) -> None:
        reviewer = await self._start("reviewer")
        place = reviewer.told("joined")[0]
        first = (await reviewer.event("read"))["read"]
        self._narrator.say(
            f"the reviewer again, process {reviewer.pid}: it was done with #{place}, "
            f"and goes on with #{first}"
        )

    async def _wake(self, tester: Running) -> None:
        first = (await tester.event("read"))["read"]
        self._narrator.say(f"the tester slept through all that; #{first} means it, and wakes it")

    async def _refuse(self, reviewer: Running) -> None:
        """Two answer one message: the reviewer, with its answer ready, only after the tester."""
        reviewer.cue()
        refused = await reviewer.event("refused")
        answer = next(line for line in LINES if line.after == refused["refused"] and not line.said)
        self._narrator.say(
            f"the reviewer answers #{answer.after}, too: “{answer.text}” Refused: "
            f"#{refused['last_seq']} came first"
        )

    async def _say_goodbye(self) -> None:
        self._narrator.say("that is all: SIGTERM to the three, and each says goodbye")
        agents = self._agents.values()
        codes = await asyncio.gather(*(agent.stop() for agent in agents))
        for agent, code in zip(agents, codes, strict=True):
            await agent.rest()
            if code:
                raise Ended(f"the {agent.name} ended with {code}")


def _seen_as(recipient: tuple[str, Presence.ValueType, bool]) -> str:
    """One who will see a message, as its sender was told."""
    agent, presence, waiting = recipient
    state = state_name(presence)
    return f"{agent} {state}{' (not for it)' if state == 'waiting' and not waiting else ''}"
