"""Runs a host's own program, which may fail, hang, or print without end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from bus_client.hosts.install_json import InstallError
from bus_client.hosts.table import McpCommand

#: Seconds for one run of a host's program. Some take more than ten to start on a busy machine.
TIMEOUT = 60.0

_KEPT = 64 * 1024  # bytes of output
_SHOWN = 500  # characters of output in an error
_ADD_ATTEMPTS = 3  # while another process registers the same server
_EXISTS = re.compile(r"already exists", re.IGNORECASE)
_MISSING = re.compile(r"no mcp server|server \S+ not found", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Registration:
    """How a host is to start the bridge.

    Attributes:
        program: The absolute path of `threadbus`.
        arguments: The arguments that it gets.
        environment: Variables that it gets.
    """

    program: str
    arguments: Sequence[str]
    environment: dict[str, str]

    def added(self, command: McpCommand) -> list[str]:
        """Returns the command that registers the bridge."""
        variables = [
            word
            for name, value in self.environment.items()
            for word in (command.env_flag, f"{name}={value}")
        ]
        return [
            command.program,
            *command.add,
            *variables,
            "--",
            self.program,
            *self.arguments,
        ]

    def is_shown(self, command: McpCommand, *, within: float) -> bool:
        """Returns whether the host has exactly this registration. False if it cannot show it."""
        if not command.show:
            return False
        done = run([command.program, *command.show], within=within)
        found = _first_object(done.output) if done.code == 0 else {}
        for key in ("threadbus", "transport"):
            found = inner if isinstance(inner := found.get(key), dict) else found
        return (
            found.get("command") == self.program
            and found.get("args") == list(self.arguments)
            and (found.get("env") or {}) == self.environment
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its exit code, and the end of what it printed to stdout and stderr."""

    code: int
    output: str


def register(registration: Registration, command: McpCommand, *, within: float) -> bool:
    """Register the bridge with the host's command. Returns whether that changed something.

    An earlier registration is replaced.

    Args:
        within: Seconds for each run of the program.

    Raises:
        InstallError: The program failed, or did not end in time.
    """
    if registration.is_shown(command, within=within):
        return False
    add = registration.added(command)
    removed = False
    for _ in range(_ADD_ATTEMPTS):
        done = run(add, within=within)
        if done.code == 0:
            return True
        if not _EXISTS.search(done.output):
            break
        removed |= unregister(command, within=within)
    raise _failed(add, done, " The earlier registration was removed." if removed else "")


def unregister(command: McpCommand, *, within: float) -> bool:
    """Remove the bridge with the host's command. Returns whether it was registered.

    Raises:
        InstallError: As in register().
    """
    remove = [command.program, *command.remove]
    done = run(remove, within=within)
    if _MISSING.search(done.output):  # some fail then, others do not
        return False
    if done.code != 0:
        raise _failed(remove, done)
    return True


def run(command: Sequence[str], *, within: float) -> Run:
    """Run a program without input, and kill it with its children if it takes longer than `within`.

    Raises:
        InstallError: It cannot be started, or did not end in time.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - a host's program, which the user has named
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise InstallError(f"{command[0]} cannot be started: {error.strerror}.") from None
    assert process.stdout is not None  # noqa: S101 - as it was asked for
    reader = _Reader(process.stdout)
    try:
        code = process.wait(within)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        shown = " ".join(command[:3])
        raise InstallError(f"{shown} did not end within {within:g} s, and was killed.") from None
    return Run(code, reader.end())


class _Reader:
    """Reads what a program prints in a thread, so that it never waits, and keeps the end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> str:
        """Wait for the end of the output. Returns what was kept, without escape sequences."""
        self._thread.join(2)  # a child that outlives the program may hold the pipe for longer
        return _ESCAPES.sub("", self._kept.decode(errors="replace"))

    def _read(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read1(_KEPT):  # type: ignore[attr-defined]
                self._kept = (self._kept + chunk)[-_KEPT:]


def _first_object(text: str) -> dict[str, Any]:
    """Returns the JSON object that begins the first line with a brace; empty if there is none."""
    found = re.search(r"^\{", text, re.MULTILINE)
    if found is not None:
        with suppress(ValueError, RecursionError):
            document = json.JSONDecoder().raw_decode(text, found.start())[0]
            if isinstance(document, dict):
                return document
    return {}


def _failed(command: Sequence[str], done: Run, more: str = "") -> InstallError:
    said = " ".join(done.output.split())
    said = f"… {said[-_SHOWN:]}" if len(said) > _SHOWN else said
    what = f"exit code {done.code}" if done.code >= 0 else f"signal {-done.code}"
    said = said.rstrip(".") or "it said nothing"
    return InstallError(f"{' '.join(command[:3])} failed ({what}): {said}.{more}")
