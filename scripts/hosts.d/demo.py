"""Runs two real coding agents on a real server, and prints their conversation as it happens."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from hosts import RUNNERS, HostError, Runner
from stage import LONGEST, Place, Tail

import bus_client
from bus_client.cli.demo.narration import Narrator, PresenceWatcher
from bus_client.cli.output import Output
from bus_client.cli.session import run_verb, until_signal
from tests.hosts.model import Call, Model, Say, Step
from tests.hosts.prompts import Prompt
from tests.serving import ServerProcess

THREAD = "fetch-retries"
CODER, REVIEWER = "coder", "reviewer"
#: Who says what. Each is woken by the message before its own.
LINES = [
    (CODER, "@reviewer fetch.py retries forever. I want 5 attempts, 2 s apart. Is that enough?"),
    (REVIEWER, "@coder Nearly: clients that fail together will retry together. Add jitter."),
    (CODER, "@reviewer Done: each delay is 1 to 3 s, at random. All 214 tests pass."),
    (REVIEWER, "@coder Approved. Merge it."),
]
# With these, others see within two seconds that an agent has gone without a goodbye.
_SERVER_SETTINGS = ("--heartbeat-interval", "0.6", "--agent-timeout", "2")


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo --agents",
        description="Two real coding agents talk about a change: each is woken by the other. They "
        "run as their users install them, with the bridge that `threadbus install` configures; "
        "only their models are scripted. No account is needed.",
        epilog="Exit code 0: the conversation came to its end, each message once and in order. "
        "1: it did not, or an agent is not installed.",
    )
    parser.add_argument(
        "host",
        nargs="*",
        metavar="HOST",
        help=f"the coder and the reviewer: two of {', '.join(RUNNERS)} (default: the first two "
        "that are installed)",
    )
    parser.add_argument("--pace", type=float, default=1.0, help="seconds to write a message")
    given = parser.parse_args()
    if len(given.host) not in (0, 2) or set(given.host) - RUNNERS.keys():
        parser.error(f"name two of {', '.join(RUNNERS)}, or none")
    runners = [RUNNERS[name] for name in given.host]
    runners = runners or [runner for runner in RUNNERS.values() if runner.version][:2]
    if missing := _missing(runners):
        print(missing, file=sys.stderr)
        return 1
    out = Output(json=False)
    return run_verb(out, lambda: asyncio.run(until_signal(_demo(out, *runners, given.pace))))


def _missing(runners: list[Runner]) -> str:
    """Returns what is missing and how to get it; empty if nothing is."""
    wanted = [runner.name for runner in runners if not runner.version]
    if len(runners) < 2:
        installed = {runner.name for runner in runners}
        wanted = [name for name in RUNNERS if name not in installed][: 2 - len(runners)]
    if not wanted:
        return ""
    titles = " and ".join(RUNNERS[name].title for name in wanted)
    return (
        f"The demo needs two coding agents. Not installed: {titles}.\n"
        f"Get what is missing, into .tools/hosts (needs npm):\n"
        f"  scripts/hosts --install {' '.join(wanted)}"
    )


async def _demo(out: Output, coder: Runner, reviewer: Runner, pace: float) -> int:
    narrator = Narrator(out, (CODER, REVIEWER))
    with tempfile.TemporaryDirectory(prefix="threadbus-demo-") as folder:
        play = _Play(Path(folder), narrator, pace)
        try:
            async with asyncio.timeout(LONGEST + pace * len(LINES)):
                fault = await play.run(coder, reviewer)
        except TimeoutError:
            fault = f"no message came after #{len(play.received)}"
        except (HostError, bus_client.BusError) as error:
            fault = str(error)
    if fault:
        print(f"The demo failed: {fault}.", file=sys.stderr)
        return 1
    narrator.confirm(f"{len(LINES)} messages, each once and in order")
    narrator.confirm("each agent was woken by the message of the other")
    return 0


def _script(agent: str, pace: float) -> list[Step]:
    """Returns what an agent's model does: post its own lines, and wait for those of the other."""

    def post(text: str) -> Step:
        def write(_: Prompt) -> Call:
            time.sleep(pace)
            return Call("bus_post", {"text": text})

        return write

    steps: list[Step] = [Call("bus_join", {"thread": THREAD})]
    steps += [post(text) if who == agent else Call("bus_wait", until=text) for who, text in LINES]
    return [*steps, Say("That is done.")]


@dataclass(frozen=True, slots=True)
class _Host:
    """A coding agent that runs, and its model."""

    runner: Runner
    model: Model
    process: Popen[bytes]
    said: Tail

    def check(self) -> None:
        """Raises HostError if it has ended before its script."""
        if self.process.poll() is not None and not self.model.over:
            raise HostError(f"{self.runner.title} ended too early: {self.said.text()}")


class _Play:
    """The demo.

    Attributes:
        received: The messages so far.
    """

    def __init__(self, folder: Path, narrator: Narrator, pace: float) -> None:
        self.received: list[bus_client.Message] = []
        self._folder = folder
        self._narrator = narrator
        self._presences = PresenceWatcher(narrator)
        self._pace = pace
        self._hosts: list[_Host] = []

    async def run(self, coder: Runner, reviewer: Runner) -> str:
        """Run the demo. Returns what is wrong with its outcome; empty if nothing is.

        Raises:
            HostError: A coding agent cannot be configured, or ended too early.
            BusError: The server cannot be called.
        """
        async with AsyncExitStack() as stack:
            server = ServerProcess(self._folder / "demo.db", *_SERVER_SETTINGS, fresh=True)
            stack.enter_context(server)
            bus = bus_client.BusClient(server.address, heartbeats=False)
            await stack.enter_async_context(bus)
            await bus.create_thread(THREAD)
            self._narrator.say(f"a server on {server.address} (process {server.pid})")
            watching = asyncio.create_task(self._presences.watch(bus.thread(THREAD)))
            stack.callback(watching.cancel)
            # The reviewer first: it shall wait when the coder posts.
            self._start(stack, reviewer, REVIEWER, server.address)
            await self._while_they_run(self._presences.wait_until("waiting", REVIEWER))
            self._start(stack, coder, CODER, server.address)
            await self._while_they_run(self._follow(bus.thread(THREAD)))
            for host in self._hosts:
                code = await asyncio.to_thread(host.process.wait, LONGEST)
                if code:
                    return f"{host.runner.title} exited with {code}: {host.said.text()}"
                asked = len(host.model.prompts)
                self._narrator.say(f"{host.runner.title} ended; its model was asked {asked} times")
        found = [(message.sender, message.content) for message in self.received]
        return "" if found == LINES else f"the thread has {found}"

    def _start(self, stack: AsyncExitStack, runner: Runner, agent: str, server: str) -> None:
        place = Place(runner, self._folder / agent, server, agent)
        stack.callback(place.clean_up)
        model = stack.enter_context(Model(_script(agent, self._pace)))
        place.configure(model.url)
        process = stack.enter_context(place.running(model))
        self._hosts.append(_Host(runner, model, process, Tail(process.stdout)))
        title = f"{runner.title} {runner.version}"
        self._narrator.say(f"{title} is the {agent} (process {process.pid}); its model is scripted")

    async def _follow(self, thread: bus_client.ThreadHandle) -> None:
        async with aclosing(thread.follow()) as messages:
            async for message in messages:
                self.received.append(message)
                self._narrator.message(message)
                if len(self.received) == len(LINES):
                    return

    async def _while_they_run(self, part: Coroutine[None, None, None]) -> None:
        """Await a part of the demo. Raises HostError if a coding agent ends too early."""
        task = asyncio.create_task(part)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=0.2)
                for host in self._hosts:
                    host.check()
        finally:
            task.cancel()
        await task


if __name__ == "__main__":
    sys.exit(main())
