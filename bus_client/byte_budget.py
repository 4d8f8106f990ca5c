"""The limit in bytes of what one call reads, over all its requests and streams."""

from collections.abc import Iterable

from bus_client.requests import integer
from threadbus.v1.message_pb2 import Message


class ByteBudget:
    """What is left of `max_bytes`. The first message is always within it.

    Attributes:
        spent: Whether no further message is within it.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: 0 = no limit. Raises InvalidArgument if it is not a number of bytes."""
        self._most = integer("max_bytes", max_bytes)
        self._taken = 0
        self.spent = False

    @property
    def left(self) -> int:
        """The max_bytes of the next request."""
        return max(self._most - self._taken, 1) if self._most else 0

    def take(self, messages: Iterable[Message]) -> int:
        """Returns how many of the messages are within the budget, from the first one on.

        They are taken from it. A server sends one that is not if its stream or page has no other.
        """
        count = 0
        for message in messages:
            size = message.ByteSize()
            if self._most and self._taken and self._taken + size > self._most:
                self.spent = True
                break
            self._taken += size
            count += 1
        self.spent = self.spent or 0 < self._most <= self._taken
        return count
