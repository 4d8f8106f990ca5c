"""What changed that those who watch participants, or the next checkpoint, should look at."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class News:
    """Names of agents and threads of which something changed since somebody looked last."""

    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.threads: set[str] = set()
        #: There are such names.
        self.some = asyncio.Event()
        #: Something is to be written with the next checkpoint.
        self.unsaved = asyncio.Event()
        self._saves = 0

    def agent(self, name: str) -> None:
        """An agent's state changed."""
        self.agents.add(name)
        self.some.set()

    def thread(self, name: str) -> None:
        """Who takes part in a thread, or how far somebody is there, changed."""
        self.threads.add(name)
        self.some.set()

    def saved(self) -> None:
        """A checkpoint was written: what it holds is not kept in memory any more."""
        self._saves += 1

    async def undisturbed(
        self, query: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What a query of the store finds when no checkpoint was written meanwhile.

        Else it could miss what was in memory when it began, and is not there any more.
        """
        while True:
            saves = self._saves
            found = await query(*args, **kwargs)
            if saves == self._saves:
                return found

    def take(self) -> tuple[set[str], set[str]]:
        """The agents and threads that changed, which are forgotten with this."""
        agents, threads = self.agents, self.threads
        self.agents, self.threads = set(), set()
        self.some.clear()
        return agents, threads
