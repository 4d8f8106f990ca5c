"""What the demo prints: messages, and `── …` for other events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from bus_client.cli.demo.lines import AGENTS
from bus_client.cli.output import Output
from bus_client.cli.people import presence_name
from bus_client.cli.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from bus_client import Message, ThreadHandle


_WIDEST = len("waiting")  # the longest of the usual presences


class Narrator:
    """The demo's output: events and messages on stdout; with --json, only events, on stderr.

    Attributes:
        agents: The names of those whose presence is shown, in the order in which it is.
    """

    def __init__(self, out: Output, agents: Sequence[str] = AGENTS) -> None:
        self.agents = agents
        self._out = out
        self._transcript = Transcript(colour=out.colour, live=True)

    def message(self, message: Message) -> None:
        """Print a message."""
        if not self._out.json:
            self._out.show(None, self._transcript.lines([message]))

    def say(self, text: str) -> None:
        """Print an event that is not a message."""
        self._line(text, self._dim(f"── {text}"))

    def presence(self, states: Mapping[str, str], changed: Container[str]) -> None:
        """Print the agents' presence. With colours, the agents in `changed` are highlighted."""
        words = [f"{agent} {states[agent]:{_WIDEST}}" for agent in self.agents if agent in states]
        words[-1] = words[-1].rstrip()
        styled = [word if word.split()[0] in changed else self._dim(word) for word in words]
        self._line(" · ".join(words), self._dim("── ") + self._dim(" · ").join(styled))

    def confirm(self, text: str) -> None:
        """Print a claim that was found to be true."""
        self._line(text, f"✓ {text}")

    def _line(self, plain: str, styled: str) -> None:
        if self._out.json:
            click.echo(plain, err=True)
        else:
            self._out.show(None, [styled])

    def _dim(self, text: str) -> str:
        return click.style(text, dim=True) if self._out.colour else text


class PresenceWatcher:
    """The agents' presence: prints its changes, and waits for them."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._states: dict[str, str] = {}
        self._changed = asyncio.Condition()

    async def watch(self, thread: ThreadHandle) -> None:
        """Print the agents' presence whenever it changes, until all are offline.

        Raises:
            BusError: As ThreadHandle.watch_participants().
        """
        async with aclosing(thread.watch_participants()) as updates:
            async for update in updates:
                now = {p.agent: presence_name(p.presence) for p in update.participants}
                changed = {agent for agent in now if now[agent] != self._states.get(agent)}
                if not changed:
                    continue  # something other than presence changed, such as a read position
                async with self._changed:
                    self._states |= now
                    self._narrator.presence(self._states, changed)
                    self._changed.notify_all()
                if all(self._states.get(agent) == "offline" for agent in self._narrator.agents):
                    return

    async def wait_until(self, state: str, *agents: str) -> None:
        """Wait until all of these agents have this presence. watch() must be running."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: all(self._states.get(agent) == state for agent in agents)
            )
