"""Runs client processes on the clients' cores.

A client gets its job as JSON and prints its result as JSON. A client that waits for something
first prints `ready` on a line of its own.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import machine

_HERE = Path(__file__).parent
#: Seconds after which a client counts as failed.
LONGEST = 240.0


class Client:
    """A client process. As a context manager, it kills the process on exit."""

    def __init__(self, program: str, job: dict[str, Any], python: Path | str) -> None:
        self._what = f"{program} {job.get('do', '')}"
        with machine.on_cores(machine.CLIENT_CORES):
            self._process = subprocess.Popen(
                [str(python), str(_HERE / program), json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the client has no pipes")
        self._in, self._out = self._process.stdin, self._process.stdout

    def ready(self) -> dict[str, Any]:
        """Wait until the client prints `ready`. Returns the JSON after that word."""
        line = self._out.readline()
        if not line.startswith("ready"):
            raise RuntimeError(f"{self._what}: {line or 'it exited early'}")
        said: dict[str, Any] = json.loads(line.removeprefix("ready").strip() or "{}")
        return said

    def result(self, timeout: float = LONGEST) -> dict[str, Any]:
        """Tell the client to end if it waits for that. Returns its result."""
        self._in.close()
        too_long = threading.Timer(timeout, self._process.kill)
        too_long.start()
        try:
            out = self._out.read()
        finally:
            too_long.cancel()
        if self._process.wait():
            raise RuntimeError(f"{self._what} failed with exit code {self._process.returncode}")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


def client(program: str, python: Path | str = sys.executable, **job: Any) -> Client:
    """Start a client."""
    return Client(program, job, python)


def run(program: str, python: Path | str = sys.executable, **job: Any) -> dict[str, Any]:
    """Run a client and return its result."""
    with client(program, python, **job) as started:
        return started.result()
