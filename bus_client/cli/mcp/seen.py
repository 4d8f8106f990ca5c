"""Up to where a model has seen the threads of its agent, and what it was shown last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus_client import Message

_MOST_TRACES = 1_000  # messages whose traceparents are kept


class Seen:
    """Up to which seq the model has seen all of a thread, for each thread that it was shown.

    Own posts count as seen once all before them is. Also knows the traceparents of the messages
    that the model was shown last.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        #: Threads and seqs of own posts after what was seen.
        self._own = set[tuple[str, int]]()
        #: By thread and seq, the last one last.
        self._traceparents: dict[tuple[str, int], str] = {}

    def copy(self) -> Seen:
        """Returns a copy, to go back to."""
        other = Seen()
        other._seen, other._own = dict(self._seen), set(self._own)
        other._traceparents = dict(self._traceparents)
        return other

    def show_traces(self, messages: Sequence[Message]) -> None:
        """The model was shown these messages last."""
        for message in messages:
            self._traceparents.pop((message.thread, message.seq), None)
            self._traceparents[message.thread, message.seq] = message.traceparent
        while len(self._traceparents) > _MOST_TRACES:
            del self._traceparents[next(iter(self._traceparents))]

    def traceparent(self, thread: str, reply_to: int) -> str:
        """Returns that of the message which a post in the thread is because of; "" = none.

        That is the one that it replies to, if the model was shown it, or else the last one.
        """
        last = next(reversed(self._traceparents.values()), "")
        return self._traceparents.get((thread, reply_to), last)

    def upto(self, thread: str) -> int | None:
        """Returns the seq; None if it is not known."""
        return self._seen.get(thread)

    def show(self, thread: str, seq: int) -> None:
        """The model has seen the thread up to `seq`."""
        while (thread, seq + 1) in self._own:
            seq += 1
            self._own.remove((thread, seq))
        self._seen[thread] = seq

    def post(self, thread: str, seq: int) -> None:
        """The agent has posted `seq`."""
        self._own.add((thread, seq))
        if thread in self._seen:
            self.show(thread, self._seen[thread])

    def forget(self, thread: str) -> None:
        """The thread was replaced."""
        self._seen.pop(thread, None)
        self._own = {own for own in self._own if own[0] != thread}
        self._traceparents = {at: it for at, it in self._traceparents.items() if at[0] != thread}
