"""Up to where a model has seen the threads of its agent."""

from __future__ import annotations


class Seen:
    """Up to which seq the model has seen all of a thread, for each thread that it was shown.

    Own posts count as seen once all before them is.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        #: Threads and seqs of own posts after what was seen.
        self._own = set[tuple[str, int]]()

    def copy(self) -> Seen:
        """Returns a copy, to go back to."""
        other = Seen()
        other._seen, other._own = dict(self._seen), set(self._own)
        return other

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
