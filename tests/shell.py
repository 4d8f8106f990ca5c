"""`threadbus` as a shell runs it: processes with arguments, an environment, pipes or a terminal."""

import contextlib
import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_COMMAND = [sys.executable, "-m", "bus_client.cli"]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON object that it left on stderr."""
        return dict(json.loads(self.err))


@dataclass(frozen=True, slots=True)
class Shell:
    """A user of one server, with a home of its own."""

    server: str
    home: Path

    def run(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        stdout: int | IO[Any] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        within: float = 30,
    ) -> Done:
        """Run a command to its end, which must come within so many seconds."""
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

    def ok(self, *arguments: str, stdin: str | bytes | None = None) -> Done:
        """Run a command that must succeed and have nothing to complain about."""
        done = self.run(*arguments, stdin=stdin)
        assert (done.code, done.err) == (0, ""), done
        return done

    def script(self, text: str) -> str:
        """Run a shell script that knows `threadbus`; answers what it printed."""
        function = f'threadbus() {{ {shlex.join(_COMMAND)} "$@"; }}\n'
        done = subprocess.run(
            ["sh", "-c", function + text],
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=30,
        )
        return done.stdout

    @contextlib.contextmanager
    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it is killed at the end unless it has ended."""
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
        """Run a command on a terminal; answers its exit code and all that was shown."""
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
        """This user's environment."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if "THREADBUS" not in name and name not in ("NO_COLOR", "PYTHONUNBUFFERED")
        }
        own = {"THREADBUS_SERVER": self.server, "XDG_DATA_HOME": str(self.home / "data")}
        return inherited | own | dict(more or {})


def _chunks(terminal: IO[bytes]) -> Iterator[bytes]:
    # A terminal that nobody has open any more is an error to read from, not an end of file.
    with contextlib.suppress(OSError):
        while chunk := terminal.read(4096):
            yield chunk
