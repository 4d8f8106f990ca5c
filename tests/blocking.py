"""Agents and programs that use the SDK without asyncio."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from bus_client import Message
from bus_client.sync import BusClient, ThreadHandle


def until(state: Callable[[], bool], *, within: float = 20.0) -> None:
    """Return once `state()` is true. Raises AssertionError after `within` seconds."""
    end = time.monotonic() + within
    while not state():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def client(address: str, agent: str, home: Path, *, heartbeats: bool = True) -> Iterator[BusClient]:
    """A connected agent; its token is stored under `home`."""
    credentials = home / "credentials.json"
    with BusClient(address, agent=agent, credentials=credentials, heartbeats=heartbeats) as bus:
        yield bus


@contextlib.contextmanager
def member(
    address: str, thread: str, home: Path, *, role: str = "reader"
) -> Iterator[ThreadHandle]:
    """A handle of the thread, joined at its first message by the agent THREAD-ROLE."""
    with client(address, f"{thread}-{role}", home) as bus:
        yield bus.join(thread, start="first")


def take(messages: Iterator[Message], count: int) -> list[str]:
    """Returns the contents of the next `count` messages."""
    return [message.content for message in islice(messages, count)]


@dataclass(frozen=True, slots=True)
class Program:
    """A running program."""

    process: "subprocess.Popen[str]"

    def line(self) -> str:
        """Returns the next line that it prints."""
        return _pipe(self.process.stdout).readline().rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Send it a line on stdin."""
        stdin = _pipe(self.process.stdin)
        stdin.write(f"{line}\n")
        stdin.flush()

    def end(self) -> tuple[int, str, str]:
        """Wait for its exit; returns its exit code and the rest of its stdout and stderr."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@contextlib.contextmanager
def program(text: str, address: str, agent: str, home: Path) -> Iterator[Program]:
    """Run a program with `bus`, a BusClient not connected yet, and a `print` that flushes."""
    begin = f"""
    import functools, sys
    from pathlib import Path
    from bus_client.sync import BusClient
    print = functools.partial(print, flush=True)
    credentials = Path({str(home / "credentials.json")!r})
    bus = BusClient({address!r}, agent={agent!r}, credentials=credentials)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(text)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
