"""The client programs: starts them, and takes in what they report."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

_HERE = Path(__file__).parent
#: Bytes of the longest line, which is a result: 10 million posts.
_LINE = 2**29
#: Seconds in which a program ends that was told to.
_PATIENCE = 120.0


class ClientFailed(Exception):
    """A client program ended early, or with an error."""


class Client:
    """A program that reports until it is stopped, as a context manager that kills it."""

    def __init__(self, program: str, job: dict[str, Any]) -> None:
        self._program, self._job = program, job
        #: What it reported last, and the latencies of all reports since `take`.
        self.waits = 0
        self._posts: list[float] = []
        self._wakes: list[float] = []
        self.reports = 0
        self._result: dict[str, Any] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_HERE / self._program),
            json.dumps(self._job),
            stdin=PIPE,
            stdout=PIPE,
            limit=_LINE,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def reports_now(self) -> bool:
        """Returns whether it has begun to report. Raises ClientFailed if it has ended."""
        self.check()
        return self.reports > 0

    def check(self) -> None:
        """Raises ClientFailed if it has ended before it was told to."""
        if self._process.returncode is not None:
            raise ClientFailed(f"{self._program} ended with code {self._process.returncode}")

    def take(self) -> tuple[list[float], list[float]]:
        """Returns the latencies of posts and wake-ups since the last call, in ms."""
        taken = self._posts, self._wakes
        self._posts, self._wakes = [], []
        return taken

    async def end(self) -> dict[str, Any]:
        """Tell it to end. Returns its result. Raises ClientFailed."""
        self.tell()
        try:
            code = await asyncio.wait_for(self._process.wait(), _PATIENCE)
        except TimeoutError:
            raise ClientFailed(f"{self._program} did not end") from None
        await self._reading
        if code or self._result is None:
            raise ClientFailed(f"{self._program} ended with code {code}")
        return self._result

    def tell(self) -> None:
        """Tell it to end, and do not wait."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        stdout = self._process.stdout
        while stdout is not None and (line := await stdout.readline()):
            told = json.loads(line)
            if "posts" not in told:
                self._result = told
                continue
            self.reports += 1
            self.waits = told["waits"]
            self._posts += told["posts"]
            self._wakes += told["wakes"]


class Visit:
    """One visit of an agent: a process that ends by itself, or is killed or stopped meanwhile."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self.agent: str = job["agent"]
        self._came = asyncio.Event()
        #: Its acknowledged posts: thread, seq and number.
        self.acknowledged: list[tuple[str, int, str]] = []
        #: Whether it ended its session.
        self.left = False

    async def run(self, ending: str) -> str:
        """Run to its end. Returns what is wrong; empty if nothing.

        Args:
            ending: "leaves"; "killed", halfway; or "stopped", which is halfway and for a quarter.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_HERE / "visitor.py"), json.dumps(self._job), stdout=PIPE
        )
        meanwhile = asyncio.create_task(self._break(process, ending))
        try:
            while process.stdout and (line := await process.stdout.readline()):
                self._take(line.decode())
            code = await process.wait()
        finally:
            meanwhile.cancel()
            with suppress(ProcessLookupError):
                process.kill()
        if ending != "killed" and code:
            return f"{self.agent} failed in visit {self._job['visit']}, with code {code}"
        return ""

    async def _break(self, process: asyncio.subprocess.Process, ending: str) -> None:
        await self._came.wait()
        await asyncio.sleep(self._job["seconds"] / 2)
        with suppress(ProcessLookupError):
            if ending == "killed":
                process.kill()
            elif ending == "stopped":
                process.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(self._job["seconds"] / 4)
                finally:
                    process.send_signal(signal.SIGCONT)

    def _take(self, line: str) -> None:
        match line.split():
            case ["ack", seq, number]:
                self.acknowledged.append(("lobby", int(seq), number))
                self._came.set()
            case ["left"]:
                self.left = True


def names(count: int) -> Iterator[str]:
    """Yields the names of visitors, again and again."""
    while True:
        yield from (f"visitor-{number}" for number in range(count))
