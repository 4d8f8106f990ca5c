"""How far an agent has read a thread."""

from __future__ import annotations

from typing import NamedTuple

from threadbus.v1.message_pb2 import Cursor


class ReadPosition(NamedTuple):
    """How far an agent has read a thread, in one epoch.

    Attributes:
        epoch: The epoch of the seqs; empty if it is not known.
        read: Everything up to this seq counts as read.
        passed: Everything up to this seq was read or hidden by a filter; at least `read`.
    """

    epoch: str
    read: int
    passed: int

    @classmethod
    def at(cls, epoch: str, seq: int, hidden: int = 0) -> ReadPosition:
        """Returns the position at `seq`. `hidden`: the lowest seq that a filter hid; 0 = none."""
        return cls(epoch, hidden - 1 if 0 < hidden <= seq else seq, seq)

    @classmethod
    def of(cls, cursor: Cursor) -> ReadPosition:
        """Returns the position of a cursor."""
        return cls.at(cursor.epoch, cursor.after_seq, cursor.hidden_seq)

    def cursor(self, thread: str, *, filtered: bool = True) -> Cursor:
        """Returns the cursor of the position. With `filtered` False, it is at `read`."""
        if self.read == self.passed or not filtered:
            return Cursor(thread=thread, after_seq=self.read, epoch=self.epoch)
        return Cursor(
            thread=thread, after_seq=self.passed, epoch=self.epoch, hidden_seq=self.read + 1
        )

    def up_to(self, other: ReadPosition) -> ReadPosition:
        """Returns the higher of both in one epoch, else `other`."""
        if self.epoch != other.epoch:
            return other
        return ReadPosition(self.epoch, max(self.read, other.read), max(self.passed, other.passed))

    def covers(self, other: ReadPosition) -> bool:
        """Returns whether this is further than `other`, which is of the same epoch."""
        return self.epoch == other.epoch and self.read >= other.read and self.passed > other.passed
