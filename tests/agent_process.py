"""An agent in a process of its own, which tests can kill.

`python -m tests.agent_process SERVER AGENT CREDENTIALS THREAD` connects after a line on stdin, and
then prints the seq of each message that it follows.
"""

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from bus_client import BusClient
from tests.wait_frames import BOUND


class AgentProcess:
    """A running process. Every step has a time limit."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def go(self) -> None:
        """Let it connect."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def line(self) -> str:
        """Returns the next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(BOUND):
            line = await self._process.stdout.readline()
        assert line, "the process is gone"
        return line.decode().strip()

    async def kill(self) -> list[str]:
        """Kill it with SIGKILL; returns the lines that were not read yet."""
        assert self._process.stdout is not None
        self._process.kill()
        async with asyncio.timeout(BOUND):
            rest = await self._process.stdout.read()
            await self._process.wait()
        return rest.decode().split()


@contextlib.asynccontextmanager
async def agent_process(
    server: str, agent: str, credentials: Path, thread: str
) -> AsyncIterator[AgentProcess]:
    """A process that is ready to connect; it is killed at the end."""
    command = ["-m", "tests.agent_process", server, agent, str(credentials), thread]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=PIPE, stdout=PIPE
    )
    running = AgentProcess(process)
    try:
        assert await running.line() == "ready"
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


async def main(server: str, agent: str, credentials: str, thread: str) -> None:
    """Connect, and follow the thread until killed."""
    async with BusClient(server, agent=agent, credentials=Path(credentials)) as bus:
        say(f"connected as {bus.agent}")
        joined = await bus.join(thread, start="first")
        async for message in joined.follow():
            say(str(message.seq))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    asyncio.run(main(*sys.argv[1:]))
