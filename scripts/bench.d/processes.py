"""Clients, each a process of its own on the clients' cores.

They are told what to do in JSON and answer in JSON. A client that waits for something says `ready`
first, on a line of its own.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import machine

_HERE = Path(__file__).parent
#: Seconds that any one client may take: what hangs must not hang for ever.
LONGEST = 240.0


class Client:
    """A client process. Left with `with`, it is ended."""

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
            raise RuntimeError("a client without pipes")
        self._in, self._out = self._process.stdin, self._process.stdout

    def ready(self) -> dict[str, Any]:
        """Returns once it says that it is, with what it says besides."""
        line = self._out.readline()
        if not line.startswith("ready"):
            raise RuntimeError(f"{self._what}: {line or 'it ended early'}")
        said: dict[str, Any] = json.loads(line.removeprefix("ready").strip() or "{}")
        return said

    def result(self, timeout: float = LONGEST) -> dict[str, Any]:
        """What it found. One that holds something until told to end is told so by this."""
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
    """Starts a client."""
    return Client(program, job, python)


def run(program: str, python: Path | str = sys.executable, **job: Any) -> dict[str, Any]:
    """Runs a client to its end."""
    with client(program, python, **job) as started:
        return started.result()
