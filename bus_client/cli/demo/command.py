"""The verb `threadbus demo`: a server, three agents, a crash, and a check of the outcome."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.demo.asking import ask
from bus_client.cli.demo.lines import AGENTS, KILLED_AT, LINES, POSTED, REFUSED_AT, THREAD
from bus_client.cli.demo.narration import Narrator, PresenceWatcher
from bus_client.cli.demo.outcome import outcome
from bus_client.cli.demo.processes import DemoProcess, ProcessEnded, Processes
from bus_client.cli.documents import message_document
from bus_client.cli.failures import FAILED
from bus_client.cli.options import json_option, seconds_option
from bus_client.cli.output import Output
from bus_client.cli.people import presence_name
from bus_client.cli.session import run_concurrently, run_verb, until_signal

if TYPE_CHECKING:
    from bus_client import Message, Presence, ThreadHandle

_PATIENCE = 90.0  # seconds, besides its pauses, that the demo may take on a slow machine
# With these, others see within two seconds that the reviewer is gone, not after a minute.
_SERVER_SETTINGS = (
    *("--heartbeat-interval", 0.6, "--agent-timeout", 1.0),
    *("--log-level", "warning"),  # the log is shown when the demo fails
)
_NEXT = """\
  threadbus serve                             run a server, in its own terminal
  threadbus post design "hello" --as coder    an agent posts a message
  threadbus wait design --as reviewer         another agent waits for it
  threadbus tail design                       you watch the thread"""


def _try_it() -> str:
    return "Try it:" if shutil.which("threadbus") else f"Try it ({sys.argv[0]} is threadbus):"


@click.command()
@seconds_option("--pace", default=1.0, help="How long an agent takes to write a message.")
@json_option
def demo(pace: float, as_json: bool) -> int:
    """Watch three agents talk while one of them crashes.

    Runs a server with a real database in a temporary folder, and a coder, a reviewer and a tester,
    each in its own process. You see who waits and who works. The tester sleeps until it is
    mentioned. A reply that comes too late is refused, and reconsidered. The reviewer is killed
    while it thinks; the others notice, and after a restart it resumes where it left off. At last, a
    question is answered, and another is not: its asker learns that the agent is gone.

    Exit code 0: all of this happened, and each message came once and in order. Otherwise 1.

    \b
    Example:
      threadbus demo
    """
    out = Output(as_json)
    return run_verb(out, lambda: asyncio.run(until_signal(_demo(out, pace))))


async def _demo(out: Output, pace: float) -> int:
    narrator = Narrator(out)
    claims: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="threadbus-demo-") as folder:
        async with Processes(Path(folder)) as processes:
            play = _Play(processes, narrator, pace)
            try:
                async with asyncio.timeout(_PATIENCE + pace * len(LINES)):
                    claims = await play.run()
                faults = [f"not true: {claim}; {fault}" for claim, fault in claims if fault]
            except TimeoutError:
                faults = [f"no message came after #{len(play.received)}"]
            except (ProcessEnded, bus_client.BusError) as error:
                faults = [str(error)]
            logs = processes.logs()
    if faults:
        click.echo("\n".join([f"The demo failed: {'. '.join(faults)}.", logs]).strip(), err=True)
        return FAILED
    for claim, _ in claims:
        narrator.confirm(claim)
    messages = {"messages": [message_document(message) for message in play.received]}
    out.show(messages, ["", _try_it(), *_NEXT.splitlines()])
    return 0


class _Play:
    """The steps of the demo. Each begins when the previous one has happened.

    Attributes:
        received: The messages that a follower has received so far.
    """

    def __init__(self, processes: Processes, narrator: Narrator, pace: float) -> None:
        self.received: list[Message] = []
        self._processes = processes
        self._narrator = narrator
        self._presences = PresenceWatcher(narrator)
        self._pace = pace
        self._address = ""
        self._agents: dict[str, DemoProcess] = {}
        self._asked = ("", "")

    async def run(self) -> list[tuple[str, str]]:
        """Run the demo. Returns its claims, each with the evidence against it: see outcome().

        Raises:
            ProcessEnded: The server or an agent ended too early.
            BusError: The server cannot be called.
        """
        database = self._processes.folder / "demo.db"
        audit = ("--audit-log", self._processes.folder / "audit.jsonl")
        serve = ("serve", "--listen", "127.0.0.1:0", "--db", database, *_SERVER_SETTINGS, *audit)
        server = await self._processes.start("server", "bus_client.cli", *serve)
        self._address = (await server.read_line()).split()[2]
        self._narrator.say(f"a server on {self._address} (process {server.pid})")
        await self._show_console(database.with_name(f"{database.name}.operator-token"))
        async with bus_client.BusClient(self._address, timeout=_PATIENCE, heartbeats=False) as bus:
            await bus.create_thread(THREAD, sync_mode=bus_client.SyncMode.SYNC_MODE_STRICT)
            thread = bus.thread(THREAD)
            for name in AGENTS:
                await self._start(name)
            first_life = self._agents["reviewer"]
            numbers = ", ".join(f"{agent.name} {agent.pid}" for agent in self._agents.values())
            self._narrator.say(f"three agents, each a process: {numbers}")
            await run_concurrently(
                [self._presences.watch(thread), self._converse(bus.thread(THREAD))]
            )
            stored = await thread.messages()
        return [*outcome(self.received, stored, self._agents, first_life), self._asked]

    async def _show_console(self, token: Path) -> None:
        """Start a console, if what it needs is installed, and say where it is."""
        if find_spec("starlette") is None or find_spec("uvicorn") is None:
            return
        who = ("--server", self._address, "--as", "you", "--token-file", token)
        where = ("--listen", "127.0.0.1:0", "--no-open")
        console = await self._processes.start("console", "bus_client.cli", "console", *who, *where)
        address = (await console.read_line()).split()[1]
        self._narrator.say(f"a console for people, to watch in a browser: {address}")

    async def _start(self, name: str) -> DemoProcess:
        """Start an agent. Returns its process once the agent has joined the thread."""
        credentials = self._processes.folder / "credentials.json"
        agent = await self._processes.start(
            name, "bus_client.cli.demo.agent", name, self._address, credentials, self._pace
        )
        self._agents[name] = agent
        await agent.next_event("joined")
        return agent

    async def _converse(self, thread: ThreadHandle) -> None:
        coder = self._agents["coder"]
        await self._presences.wait_until("waiting", "reviewer", "tester")
        coder.cue()
        thread.position = bus_client.Cursor(thread=THREAD)
        async with aclosing(thread.follow()) as messages:
            for seq, line in enumerate(POSTED, start=1):
                posted = await self._agents[line.who].next_event("posted")
                message = await anext(messages)
                self.received.append(message)
                self._narrator.message(message)
                if seq in (1, KILLED_AT + 1, REFUSED_AT):
                    who = ", ".join(map(_describe, posted["recipients"]))
                    self._narrator.say(f"{line.who} learns who will see it: {who}")
                if seq == KILLED_AT:
                    await self._kill(self._agents["reviewer"])
                    coder.cue()
                elif seq == KILLED_AT + 1:
                    await self._restart_reviewer()
                elif seq == REFUSED_AT:
                    await self._wake(self._agents["tester"])
                elif seq == REFUSED_AT + 1:
                    await self._refuse(self._agents["reviewer"])
        await self._agents["reviewer"].next_event("read")
        self._asked = await ask(self._processes, self._narrator, self._address, self._pace)
        await self._say_goodbye()

    async def _kill(self, reviewer: DemoProcess) -> None:
        await reviewer.next_event("thinking")
        await self._presences.wait_until("working", "reviewer")
        await asyncio.sleep(self._pace)
        await reviewer.kill()
        self._narrator.say(
            f"kill -9 {reviewer.pid}: the reviewer dies while thinking about #{KILLED_AT}"
        )
        await self._presences.wait_until("lapsed", "reviewer")

    async def _restart_reviewer(self) -> None:
        reviewer = await self._start("reviewer")
        place = reviewer.values("joined")[0]
        first = (await reviewer.next_event("read"))["read"]
        self._narrator.say(
            f"the reviewer restarts (process {reviewer.pid}): #{place} was done, "
            f"it resumes with #{first}"
        )

    async def _wake(self, tester: DemoProcess) -> None:
        first = (await tester.next_event("read"))["read"]
        self._narrator.say(f"the tester slept through all that; #{first} mentions it and wakes it")

    async def _refuse(self, reviewer: DemoProcess) -> None:
        """Let the reviewer reply to a message after the tester did: its reply is refused."""
        reviewer.cue()
        refused = await reviewer.next_event("refused")
        answer = next(
            line for line in LINES if line.after == refused["refused"] and not line.posted
        )
        self._narrator.say(
            f"the reviewer replies to #{answer.after}, too: “{answer.text}” Refused: "
            f"#{refused['last_seq']} came first"
        )

    async def _say_goodbye(self) -> None:
        self._narrator.say("done: SIGTERM to all three, and each says goodbye")
        agents = self._agents.values()
        codes = await asyncio.gather(*(agent.stop() for agent in agents))
        for agent, code in zip(agents, codes, strict=True):
            await agent.read_rest()
            if code:
                raise ProcessEnded(f"the {agent.name} exited with {code}")


def _describe(recipient: tuple[str, Presence.ValueType, bool]) -> str:
    """Returns a recipient as text: agent, presence, and whether it waits for such a message."""
    agent, presence, waiting = recipient
    state = presence_name(presence)
    return f"{agent} {state}{' (not for it)' if state == 'waiting' and not waiting else ''}"
