"""The newest messages of all threads, cached for waits that are near the head."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bus_server.store import Row, with_edit_seq

#: Approximate memory overhead, in bytes, of a small message that is added alone.
OVERHEAD = 1_500


@dataclass(frozen=True, slots=True)
class RecentStatistics:
    """The numbers of threads and messages in Recent, and their size."""

    threads: int
    messages: int
    bytes: int  # OVERHEAD included


class Recent:
    """A bounded cache of the store's rows, by epoch and seq. The oldest rows are evicted first.

    Epochs are never reused, and edits update the cached rows. Only another server's edit makes a
    row stale, until `clear`. Rows that are not cached are in the store.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: the maximum size of the rows, counting OVERHEAD for each."""
        self._max_bytes = max_bytes
        self._bytes = 0
        #: Incremented when rows may have been edited.
        self.changes = 0
        self._rows: dict[str, dict[int, Row]] = {}
        #: Each addition, oldest first: its epoch and seqs.
        self._added: deque[tuple[str, tuple[int, ...]]] = deque()

    def add(self, epoch: str, rows: Mapping[int, Row]) -> None:
        """Add rows of a thread that were just committed, by seq. Evict the oldest rows if full."""
        if not rows:
            return
        cached = self._rows.setdefault(epoch, {})
        self._bytes += _size(rows.values()) - _size(cached[seq] for seq in rows if seq in cached)
        cached.update(rows)
        self._added.append((epoch, tuple(rows)))
        self._evict()

    def edit(self, epoch: str, edits: Mapping[int, int]) -> None:
        """Set the edit_seq of cached messages of a thread. `edits`: the new values, by seq.

        Evicts the oldest rows if full: the edited rows grow.
        """
        self.changes += bool(edits)
        rows = self._rows.get(epoch, {})
        for seq, edit_seq in edits.items():
            if seq in rows:
                sender, body = rows[seq]
                edited = with_edit_seq(body, edit_seq)
                rows[seq] = sender, edited
                self._bytes += len(edited) - len(body)
        self._evict()

    def clear(self) -> None:
        """Drop everything: another server may have edited any of it."""
        self.changes += 1
        self._rows.clear()
        self._added.clear()
        self._bytes = 0

    def read(self, epoch: str, after: int, upto: int, max_bytes: int) -> tuple[list[Row], int]:
        """Returns the rows after < seq <= upto that precede the first one missing, and their size.

        At most `max_bytes` bytes of them, but always the first one if it is cached.
        """
        run: list[Row] = []
        size = 0
        rows = self._rows.get(epoch, {})
        for seq in range(after + 1, upto + 1):
            row = rows.get(seq)
            if row is None or (run and size + len(row[1]) > max_bytes):
                break
            run.append(row)
            size += len(row[1])
        return run, size

    def statistics(self) -> RecentStatistics:
        """Returns the current statistics."""
        messages = sum(map(len, self._rows.values()))
        return RecentStatistics(threads=len(self._rows), messages=messages, bytes=self._bytes)

    def _evict(self) -> None:
        while self._bytes > self._max_bytes:
            epoch, seqs = self._added.popleft()
            rows = self._rows.get(epoch, {})
            self._bytes -= _size(rows.pop(seq) for seq in seqs if seq in rows)
            if not rows:
                self._rows.pop(epoch, None)


def _size(rows: Iterable[Row]) -> int:
    """Returns the size of rows as the cache counts it."""
    return sum(len(body) + OVERHEAD for _, body in rows)
