"""Runs `threadbus` as users do: with arguments, an environment, and standard streams.

Most commands run in the test's own process, in milliseconds. Those about pipes, signals, terminals,
encodings or imports run as a process.
"""

import asyncio
import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO
from unittest import mock

from bus_client.cli import main

#: A note on stderr that a command prints when the machine is busy.
BUSY = re.compile(r"^\S+ does not answer yet; .*\n", re.MULTILINE)
#: Notes on stderr about what a command has created.
_CREATED = re.compile(r"^(registered [a-z0-9._-]+|new thread.*)\n", re.MULTILINE)
_COMMAND = [sys.executable, "-m", "bus_client.cli"]


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout, which has nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON object on stderr, which has nothing else."""
        return dict(json.loads(self.err))


@dataclass(frozen=True, slots=True)
class Shell:
    """A user of a server, with a home directory of their own."""

    server: str
    home: Path

    def run(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command; return its result.

        It runs in this process if possible. In a running event loop, and outside of the main
        thread, it runs as a process.
        """
        if not _can_run_a_loop():
            return self.run_process(*arguments, stdin=stdin, env=env)
        content = stdin.encode() if isinstance(stdin, str) else stdin
        interrupt = signal.getsignal(signal.SIGINT)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                with (
                    _stdin(content) as given,
                    # Duplicates, as a command may redirect its own descriptors.
                    os.fdopen(os.dup(out.fileno()), "w", encoding="utf-8") as stdout,
                    os.fdopen(os.dup(err.fileno()), "w", encoding="utf-8") as stderr,
                    mock.patch.dict(os.environ, self.environment(env), clear=True),
                    mock.patch.multiple(sys, stdin=given, stdout=stdout, stderr=stderr),
                ):
                    code = main(arguments)
            finally:
                signal.signal(signal.SIGINT, interrupt)  # the event loop has reset it
            return Done(code, *(_content(file) for file in (out, err)))

    def run_process(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        stdout: int | IO[Any] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        within: float = 30,
    ) -> Done:
        """Run a command as a process. Raises TimeoutExpired after `within` seconds."""
        done = subprocess.run(
            [*_COMMAND, *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=self.environment(env),
            timeout=within,
        )
        return Done(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())

    def ok(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command that must succeed, and print nothing unexpected to stderr."""
        done = self.run(*arguments, stdin=stdin, env=env)
        assert (done.code, _CREATED.sub("", BUSY.sub("", done.err))) == (0, ""), done
        return done

    def script(self, text: str) -> str:
        """Run a shell script in which `threadbus` is defined; return its output."""
        function = f'threadbus() {{ {shlex.join(_COMMAND)} "$@"; }}\n'
        done = subprocess.run(
            ["sh", "-c", function + text],
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=50,
        )
        return done.stdout

    @contextlib.contextmanager
    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it is killed at the end unless it has exited."""
        with subprocess.Popen(
            [*_COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(env),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def on_terminal(
        self, *arguments: str, typed: str = "", env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a command on a terminal; return its exit code and its output."""
        ours, theirs = pty.openpty()
        with (
            os.fdopen(ours, "r+b", buffering=0) as terminal,
            subprocess.Popen(
                [*_COMMAND, *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=self.environment({"TERM": "xterm"} | dict(env or {})),
            ) as process,
        ):
            os.close(theirs)
            terminal.write(typed.encode())
            shown = b"".join(_chunks(terminal))
            return process.wait(30), shown.decode()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return this user's environment, with the variables in `more`."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if "THREADBUS" not in name
            and name not in ("NO_COLOR", "PYTHONUNBUFFERED", "TRACEPARENT")
        }
        own = {"THREADBUS_SERVER": self.server}
        own |= {f"XDG_{kind.upper()}_HOME": str(self.home / kind) for kind in ("data", "state")}
        return inherited | own | dict(more or {})


def _can_run_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread() is threading.main_thread()
    return False


@contextlib.contextmanager
def _stdin(content: bytes | None) -> Iterator[TextIO]:
    """Yield a pipe with `content`, or /dev/null if it is None."""
    if content is None:
        with Path(os.devnull).open(encoding="utf-8") as nothing:
            yield nothing
        return
    reading, writing = os.pipe()

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            view = memoryview(content)
            while view:
                view = view[pipe.write(view) :]

    feeder = threading.Thread(target=feed)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        feeder.start()
        yield pipe
    feeder.join()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _chunks(terminal: IO[bytes]) -> Iterator[bytes]:
    # Reading from a terminal that no process has open is an error, not an end of file.
    with contextlib.suppress(OSError):
        while chunk := terminal.read(4096):
            yield chunk
