"""Lines on two file descriptors, whatever these are: pipes, sockets, files or terminals.

Each has a daemon thread, which blocks in its system call: the event loop does not, and neither does
the exit of the process. So the descriptors are made blocking, whatever the host has set.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import SimpleQueue

#: The longest line that is read, in bytes.
MAX_LINE = 4 * 1024 * 1024
_CHUNK = 65_536
_MOST_UNREAD = 8  # lines
_MOST_UNWRITTEN = 1024 * 1024  # bytes; more pause drain()


class LineReader:
    """Reads lines from a descriptor. Belongs to the event loop in which it was created."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, True)
        self._descriptor = descriptor
        self._lines = asyncio.Queue[bytearray | None](_MOST_UNREAD)
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> bytearray | None:
        """Returns the next line, without its end; None at the end of the input.

        Of a line longer than MAX_LINE, only the first MAX_LINE + 1 bytes.
        """
        return await self._lines.get()

    def _read(self) -> None:
        with suppress(RuntimeError, CancelledError):  # the event loop has ended
            line = bytearray()
            while chunk := self._chunk():
                *ended, rest = chunk.split(b"\n")
                for part in ended:
                    self._pass_on(_joined(line, part))
                    line = bytearray()
                line = _joined(line, rest)
            if line:
                self._pass_on(line)
            self._pass_on(None)

    def _chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, _CHUNK)
        except OSError:
            return b""

    def _pass_on(self, line: bytearray | None) -> None:
        asyncio.run_coroutine_threadsafe(self._lines.put(line), self._loop).result()


def _joined(line: bytearray, part: bytes) -> bytearray:
    line += part[: MAX_LINE + 1 - len(line)]
    return line


class LineWriter:
    """Writes lines to a descriptor. Belongs to the event loop in which it was created.

    Attributes:
        broken: Set when the descriptor cannot be written any more: nobody reads it.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, True)
        self._descriptor = descriptor
        self._lines = SimpleQueue[bytes | None]()
        self._unwritten = 0  # bytes
        self._room = asyncio.Event()
        self._room.set()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.broken = asyncio.Event()
        threading.Thread(target=self._write, daemon=True).start()

    def write(self, line: bytes) -> None:
        """Queue a line, which includes its end."""
        self._unwritten += len(line)
        if self._unwritten > _MOST_UNWRITTEN:
            self._room.clear()
        self._lines.put(line)

    async def drain(self) -> None:
        """Wait until at most 1 MiB is queued, or the descriptor is broken."""
        await self._room.wait()

    async def close(self, timeout: float) -> None:
        """Wait until all lines are written, for at most `timeout` seconds."""
        self._lines.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    def _write(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            try:
                while (line := self._lines.get()) is not None:
                    rest = memoryview(line)
                    while rest:
                        rest = rest[os.write(self._descriptor, rest) :]
                    self._loop.call_soon_threadsafe(self._written, len(line))
            except OSError:
                self._loop.call_soon_threadsafe(self._break)
            self._loop.call_soon_threadsafe(self._ended.set)

    def _written(self, size: int) -> None:
        self._unwritten -= size
        if self._unwritten <= _MOST_UNWRITTEN:
            self._room.set()

    def _break(self) -> None:
        self.broken.set()
        self._room.set()
