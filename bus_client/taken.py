"""What ask() has told a program, which need not be told again."""

from __future__ import annotations

from bus_client.read_position import ReadPosition

_MAX_ENTRIES = 1_000  # after so many others, an entry is forgotten, and delivered again


class Taken:
    """The entries that the ask() calls of a client have returned or raised.

    follow(), wait() and inbox() leave them out.
    """

    def __init__(self) -> None:
        #: Thread, epoch and seq of each; the oldest come first.
        self._entries: dict[tuple[str, str, int], None] = {}
        #: By thread: (position, seq). What follows this read position, up to the seq, is taken, or
        #: the agent's own.
        self._runs: dict[str, tuple[ReadPosition, int]] = {}

    def add(self, thread: str, epoch: str, seq: int) -> None:
        """Take an entry."""
        self._entries[thread, epoch, seq] = None
        if len(self._entries) > _MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]

    def has(self, thread: str, epoch: str, seq: int) -> bool:
        """Returns whether an entry was taken. May be called in any thread."""
        return (thread, epoch, seq) in self._entries

    def read_by(self, thread: str, position: ReadPosition) -> int:
        """Returns up to where a thread is read that was delivered up to a position."""
        start, upto = self._runs.get(thread, (position, position.read))
        if start.epoch == position.epoch and start.read <= position.read <= upto:
            return upto
        return position.read

    def extend(self, thread: str, position: ReadPosition, upto: int) -> None:
        """Record that what follows read_by(), up to a seq, is taken, or the agent's own."""
        self._runs[thread] = position, upto
