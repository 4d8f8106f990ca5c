"""The terminal as a screen that is drawn again and again, as pagers use it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import Self

# The alternate screen, a hidden cursor, and no wrapping of long lines; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
# What arrow and function keys send.
_ESCAPES = re.compile(rb"\x1b[\[O][0-9;]*.")
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[2K", "\x1b[J"


def is_screen() -> bool:
    """Returns whether stdout is a terminal on which a Screen can be drawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """A screen of its own on the terminal of stdout, which is restored at the end of the block.

    Typed keys are read from stdin, if that is a terminal, and not echoed. Ctrl-Z suspends the
    process, and gives the terminal back until it is continued. Must be entered in the event loop's
    thread.

    Args:
        redraw: Called when the whole screen must be drawn again: after a change of its size, and
            when the process was continued.

    Attributes:
        quit: Set when the user has typed `q`.
    """

    def __init__(self, redraw: Callable[[], None]) -> None:
        self.quit = asyncio.Event()
        self._redraw = redraw
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before = None if self._keys is None else termios.tcgetattr(self._keys)

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._take()
        loop.add_signal_handler(signal.SIGWINCH, self._redraw)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        if self._keys is not None:
            loop.add_reader(self._keys, self._read, self._keys)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            loop.remove_reader(self._keys)
        loop.remove_signal_handler(signal.SIGTSTP)
        loop.remove_signal_handler(signal.SIGWINCH)
        self._give_back()

    @property
    def columns(self) -> int:
        """The width of the terminal; 80 if it does not say."""
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines, as many as there is room for, in place of what is shown.

        Args:
            lines: Lines that are safe for a terminal, no longer than `columns`.

        Raises:
            OSError: The terminal is gone.
        """
        rows = os.get_terminal_size(sys.stdout.fileno()).lines or 24
        shown = lines[:rows]
        parts = [f"\x1b[{row};1H{_CLEAR_LINE}{line}" for row, line in enumerate(shown, 1)]
        if len(shown) < rows:
            parts.append(f"\x1b[{len(shown) + 1};1H{_CLEAR_BELOW}")
        _write("".join(parts))

    def _take(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        _write(_ENTER)

    def _give_back(self) -> None:
        if self._keys is not None and self._before is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        _write(_LEAVE)

    def _suspend(self) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)  # returns when the process is continued
        self._take()
        self._redraw()

    def _read(self, keys: int) -> None:
        typed = os.read(keys, 1024)
        if not typed:
            asyncio.get_running_loop().remove_reader(keys)
        elif b"q" in _ESCAPES.sub(b"", typed).lower():
            self.quit.set()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
