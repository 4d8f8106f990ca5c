"""A terminal on which a command runs, with keys to type, a size, and a screen to look at."""

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from tests.polling import until
from tests.shell import Shell

#: Runs its arguments as the leader of the terminal's session, so that keys send it signals.
_LEADER = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'bus_client.cli', *sys.argv[1:]])"
)


@dataclass(slots=True)
class Terminal:
    """A terminal with a command on it."""

    descriptor: int
    process: subprocess.Popen[bytes]
    screen: pyte.Screen
    #: Everything that was written to it.
    written: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._stream = pyte.ByteStream(self.screen)

    _stream: pyte.ByteStream = field(init=False)

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without what is blank at the ends and at the bottom."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The screen's lines as one text."""
        return "\n".join(self.lines)

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Change the size. The command learns of it by a signal."""
        self.screen.resize(lines, columns)
        _set_size(self.descriptor, columns, lines)

    def modes(self) -> list[object]:
        """Returns how the terminal treats what is typed."""
        return termios.tcgetattr(self.descriptor)

    async def until(self, *texts: str) -> None:
        """Return once the screen has these texts."""
        await until(lambda: self._read() and all(text in self.text for text in texts))

    async def until_not(self, text: str) -> None:
        """Return once the screen does not have this text."""
        await until(lambda: self._read() and text not in self.text)

    async def until_stopped(self) -> None:
        """Return once the process is stopped, as by Ctrl-Z."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        self._read()

    async def code(self) -> int:
        """Returns the exit code, once the command has ended and all that it wrote was read."""
        await until(lambda: self._read() and self.process.poll() is not None)
        self._read()
        return self.process.returncode

    def _read(self) -> bool:
        # Without a process on it, reading is an error; without anything to read, it would block.
        with contextlib.suppress(OSError):
            while data := os.read(self.descriptor, 65_536):
                self.written += data
                self._stream.feed(data)
        return True


@contextlib.contextmanager
def on_terminal(
    shell: Shell,
    *arguments: str,
    columns: int = 100,
    lines: int = 30,
    env: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """Runs a command on a terminal of this size. It is killed at the end unless it has exited."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    _set_size(ours, columns, lines)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _LEADER, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=shell.environment({"TERM": "xterm-256color"} | dict(env or {})),
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(ours, process, pyte.Screen(columns, lines))
            finally:
                process.kill()
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
    finally:
        os.close(ours)


def _set_size(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
