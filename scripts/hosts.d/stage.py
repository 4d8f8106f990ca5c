"""What hosts are run with: a server, a peer, and for each host a home directory and a project."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hosts import ROOT, HostError, Runner

from bus_client import Message, Presence
from bus_client.sync import BusClient
from tests.hosts.model import Model
from tests.serving import ServerProcess

#: Seconds that a host may run, and that something may take to happen.
LONGEST = 180.0
PATIENCE = 30.0
#: ThreadBus's programs, and the function of each: MODULE:FUNCTION.
_PROGRAMS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]


def until(what: str, met: Callable[[], bool]) -> None:
    """Wait until this is so. Raises HostError if it is not within PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > end:
            raise HostError(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(0.05)


class Bus:
    """A real server, and an agent `peer` on it, for the length of a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._server = ServerProcess(folder / "bus.db", fresh=True)
        self._folder = folder

    def __enter__(self) -> Bus:
        self._server.start()
        credentials = self._folder / "peer.json"
        self.peer = BusClient(self._server.address, agent="peer", credentials=credentials)
        self.peer.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        self._server.kill()

    @property
    def address(self) -> str:
        """Where the server listens."""
        return self._server.address

    def post(self, thread: str, text: str, *, to: str = "") -> None:
        """Post as `peer`, creating the thread if needed, and mention `to`."""
        self.peer.join(thread, create=True).post(text, mentions=[to] if to else [])

    def messages(self, thread: str) -> list[Message]:
        """Returns all messages of a thread, oldest first."""
        return list(self.peer.thread(thread).messages())

    def presence(self, agent: str) -> Presence.ValueType:
        """Returns an agent's presence; UNSPECIFIED if there is no such agent."""
        found = [known for known in self.peer.list_agents() if known.name == agent]
        return found[0].presence if found else Presence.PRESENCE_UNSPECIFIED

    def wait_for(self, agent: str, presence: Presence.ValueType) -> None:
        """Wait until an agent has a presence. Raises HostError if that takes too long."""
        name = Presence.Name(presence).removeprefix("PRESENCE_")
        until(f"{agent} is {name}", lambda: self.presence(agent) == presence)


class Place:
    """A host with a home directory, a project, and a `threadbus` of its own.

    Attributes:
        runner: How the host is run.
        agent: The name of its agent.
        breaks: Whether all commands of ThreadBus fail once the host is configured.
    """

    def __init__(
        self, runner: Runner, folder: Path, server: str, agent: str, *, breaks: bool = False
    ) -> None:
        self.runner = runner
        self.agent = agent
        self.breaks = breaks
        self._server = server
        self._home = folder / "home"
        self._bin = folder / "bin"
        self._work = folder / "project"
        self._calls = folder / "calls"
        self._ended = folder / "ended"
        self._broken = folder / "broken"
        for path in (self._home, self._work, self._bin):
            path.mkdir(parents=True)
        for program, function in _PROGRAMS.items():
            self._write_program(program, function)

    def _write_program(self, name: str, function: str) -> None:
        """Write a program that records how it was called, and fails once the place is broken.

        A hook's also records how it ended.
        """
        module, _, main = function.partition(":")
        own = repr(str(self._bin / name))
        python = f"import sys; sys.argv[0] = {own}; from {module} import {main}; sys.exit({main}())"
        path = os.pathsep.join((str(ROOT), str(ROOT / "protos")))
        command = f'{shlex.quote(sys.executable)} -c {shlex.quote(python)} "$@"'
        if name == "threadbus-hook":
            run = (
                f'{command}; code=$?; echo "$1 $code" >>{shlex.quote(str(self._ended))}; exit $code'
            )
        else:
            run = f"exec {command}"
        lines = [
            "#!/bin/sh",
            f'echo "{name} $*" >>{shlex.quote(str(self._calls))}',
            f"[ -e {shlex.quote(str(self._broken))} ] && exec /bin/false",
            f"export PYTHONPATH={shlex.quote(path)}",
            run,
        ]
        program = self._bin / name
        program.write_text("\n".join(lines) + "\n", "utf-8")
        program.chmod(0o755)

    def called(self, command: str) -> int:
        """Returns how often a command was called here, such as `threadbus-hook stop`."""
        return sum(f"{line} ".startswith(f"{command} ") for line in _lines(self._calls))

    def succeeded(self, event: str) -> bool:
        """Returns whether the hook of an event ran here, and succeeded."""
        return f"{event} 0" in _lines(self._ended)

    def environment(self, url: str) -> dict[str, str]:
        """Returns the environment of the host, given the model's URL: nothing is inherited."""
        path = [str(self._bin), str(self.runner.path), os.environ.get("PATH", os.defpath)]
        own = {"HOME": str(self._home), "PATH": os.pathsep.join(path), "LANG": "C.UTF-8"}
        return own | {"TERM": "dumb"} | self.runner.environment(url)

    def configure(self, url: str, *hooks: str) -> None:
        """Configure the host as its user does. Raises HostError if that fails.

        Args:
            url: The model's.
            *hooks: Further arguments for `threadbus install`.
        """
        for name, content in self.runner.files(url).items():
            path = self._home / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(content, indent=2), "utf-8")
        own = ("--as", self.agent, "--server", self._server, "--allow")
        self.threadbus("install", self.runner.name, *own, *hooks, url=url)
        if self.breaks:
            self._broken.touch()

    def threadbus(self, *arguments: str, url: str = "") -> None:
        """Run `threadbus` here. Raises HostError if it fails."""
        self._run([str(self._bin / "threadbus"), *arguments], url)

    def run(self, model: Model) -> None:
        """Run the host to its end. Raises HostError if it fails, or takes longer than LONGEST."""
        self._run(self._command(model), model.url)

    def _run(self, command: list[str], url: str) -> None:
        with self._running(command, url) as process:
            said = Tail(process.stdout)
            name = Path(command[0]).name
            try:
                code = process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                raise HostError(f"{name} ran longer than {LONGEST:.0f} s") from None
        if code:
            raise HostError(f"{name} {command[1]} exited with {code}: {said.text()}")

    def _command(self, model: Model) -> list[str]:
        program = str(self.runner.path / self.runner.program)
        return [program, *self.runner.arguments(model.url)]

    def running(self, model: Model) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Starts the host. At the end of the `with` block it is killed, with all it started."""
        return self._running(self._command(model), model.url)

    @contextlib.contextmanager
    def _running(self, command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            command,
            cwd=self._work,
            env=self.environment(url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout:
                process.stdout.close()

    def left(self) -> list[int]:
        """Returns the ids of processes of ThreadBus that were started here and still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self._bin).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def clean_up(self) -> None:
        """Kill what the host left running."""
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


class Tail:
    """Reads a process's output, so that it is never held up, and keeps the end."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes] | None) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed, while a child still has it
            while stream and (read := os.read(stream.fileno(), 65536)):
                self._kept = (self._kept + read)[-2000:]

    def text(self) -> str:
        """Returns the end, once there is no more, or within a second."""
        self._thread.join(1)
        return self._kept.decode("utf-8", "replace").strip()
