"""Dirty sets: the agents and threads whose presence, participants or positions have changed.

The participant cache takes the sets, at most once a second. The checkpointer only waits for
`unsaved`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Changes:
    """Agents and threads that have changed since they were last taken.

    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(self) -> None:
        self._agents: set[str] = set()
        self._threads: set[str] = set()
        #: Set while `take` has something to return.
        self.available = asyncio.Event()
        #: Set while there is something to write in the next checkpoint.
        self.unsaved = asyncio.Event()
        #: Whether there are other servers on the store, which must be told of open waits.
        self.several_servers = False
        #: Called with the name of an agent whose presence changed, or that may have read something.
        self.on_agent: Callable[[str], None] = lambda _: None
        self._checkpoints = 0

    def add_agent(self, name: str) -> None:
        """Record that an agent's presence changed."""
        self.on_agent(name)
        self._agents.add(name)
        self.available.set()

    def add_thread(self, name: str) -> None:
        """Record that a thread's participants, or their waits or positions, changed."""
        self._threads.add(name)
        self.available.set()

    def add_wait(self) -> None:
        """Record that a wait was opened or closed."""
        if self.several_servers:
            self.unsaved.set()

    def take(self) -> tuple[set[str], set[str]]:
        """Returns the changed agents and the changed threads, and clears both sets."""
        agents, threads = self._agents, self._threads
        self._agents, self._threads = set(), set()
        self.available.clear()
        return agents, threads

    def checkpointed(self) -> None:
        """Record that a checkpoint was written, and that memory no longer holds its content."""
        self._checkpoints += 1

    async def read_consistently(
        self, query: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query of the store. Returns its result, to be combined with what is in memory.

        The query is repeated if a checkpoint was written while it ran. Otherwise it could have
        read the store before the checkpoint, while what the checkpoint wrote is no longer in
        memory. Raises what the query raises.
        """
        while True:
            checkpoints = self._checkpoints
            result = await query(*args, **kwargs)
            if checkpoints == self._checkpoints:
                return result
