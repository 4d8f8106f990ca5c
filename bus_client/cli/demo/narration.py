"""How the demo tells what happens: messages, and `── …` for what goes on around them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.demo.lines import AGENTS
from bus_client.cli.output import Output
from bus_client.cli.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from bus_client import Message, Presence, ThreadHandle


_WIDEST = len("waiting")  # of the states that agents are usually in


class Narrator:
    """Tells it on stdout as it happens; with --json on stderr, and no messages."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._transcript = Transcript(colour=out.colour, live=True)

    def message(self, message: Message) -> None:
        """Shows what was said."""
        if not self._out.json:
            self._out.show(None, self._transcript.lines([message]))

    def say(self, text: str) -> None:
        """Says what goes on around the conversation."""
        self._line(text, self._dim(f"── {text}"))

    def presence(self, states: Mapping[str, str], changed: Container[str]) -> None:
        """Says how the agents are, and shows which of them changed."""
        words = [f"{agent} {states[agent]:{_WIDEST}}" for agent in AGENTS if agent in states]
        words[-1] = words[-1].rstrip()
        styled = [word if word.split()[0] in changed else self._dim(word) for word in words]
        self._line(" · ".join(words), self._dim("── ") + self._dim(" · ").join(styled))

    def promise(self, text: str) -> None:
        """Says what was promised, and held."""
        self._line(text, f"✓ {text}")

    def _line(self, plain: str, styled: str) -> None:
        if self._out.json:
            click.echo(plain, err=True)
        else:
            self._out.show(None, [styled])

    def _dim(self, text: str) -> str:
        return click.style(text, dim=True) if self._out.colour else text


class Audience:
    """Watches who is there."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._states: dict[str, str] = {}
        self._news = asyncio.Condition()

    async def watch(self, thread: ThreadHandle) -> None:
        """Tells how the agents are whenever that changed, until all have said goodbye."""
        async with aclosing(thread.watch_participants()) as updates:
            async for update in updates:
                now = {p.agent: state_name(p.presence) for p in update.participants}
                changed = {agent for agent in now if now[agent] != self._states.get(agent)}
                if not changed:
                    continue  # they have read on
                async with self._news:
                    self._states |= now
                    self._narrator.presence(self._states, changed)
                    self._news.notify_all()
                if all(self._states.get(agent) == "offline" for agent in AGENTS):
                    return

    async def until(self, state: str, *agents: str) -> None:
        """Returns as soon as these agents are so."""
        async with self._news:
            await self._news.wait_for(
                lambda: all(self._states.get(agent) == state for agent in agents)
            )


def state_name(presence: Presence.ValueType) -> str:
    """`waiting`, `working`, …"""
    return bus_client.Presence.Name(presence).removeprefix("PRESENCE_").lower()
