"""What changed that those who watch participants, or the next checkpoint, should look at."""

import asyncio


class News:
    """Names of agents and threads of which something changed since somebody looked last."""

    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.threads: set[str] = set()
        #: There are such names.
        self.some = asyncio.Event()
        #: Something is to be written with the next checkpoint.
        self.unsaved = asyncio.Event()

    def agent(self, name: str) -> None:
        """An agent's state changed."""
        self.agents.add(name)
        self.some.set()

    def thread(self, name: str) -> None:
        """Who takes part in a thread, or how far somebody is there, changed."""
        self.threads.add(name)
        self.some.set()

    def take(self) -> tuple[set[str], set[str]]:
        """The agents and threads that changed, which are forgotten with this."""
        agents, threads = self.agents, self.threads
        self.agents, self.threads = set(), set()
        self.some.clear()
        return agents, threads
