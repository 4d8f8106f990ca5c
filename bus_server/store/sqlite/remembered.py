"""Facts kept from one commit to the next, so that they need not be read again."""

import sqlite3

from bus_server.store.batch import Batch
from bus_server.store.commands import Head
from bus_server.store.sqlite import connections

#: Maximum number of heads and read_seqs to remember. When there are more, all are forgotten.
MAX_REMEMBERED = 20_000


class Remembered:
    """Heads and active_times of threads, and read_seqs of participants, as of the last commit.

    Valid within a write transaction of the same connection, after `begin`. Each transaction that
    changes them must call `written`, and `forget` if it does not end with a COMMIT. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        #: By thread id and agent.
        self.read_seqs: dict[tuple[int, str], int] = {}
        #: The active_time column of threads, by thread id.
        self.active_times: dict[int, int] = {}
        self._version: int | None = None

    def begin(self, db: sqlite3.Connection) -> None:
        """Forget everything if another connection has written since, or too much is remembered."""
        version = connections.data_version(db)
        size = len(self.heads) + len(self.read_seqs) + len(self.active_times)
        if version != self._version or size > MAX_REMEMBERED:
            self.forget()
            self._version = version

    def forget(self) -> None:
        """Forget everything."""
        self.heads.clear()
        self.read_seqs.clear()
        self.active_times.clear()

    def written(self, batch: Batch) -> None:
        """Remember the heads and read_seqs as they are after a batch."""
        facts, changes = batch.facts, batch.changes
        self.heads |= facts.heads
        for name, _ in batch.commit.deleted:
            if name not in facts.heads:
                self.heads.pop(name, None)
        self.read_seqs |= facts.read_seqs
        for key in changes.removed:
            self.read_seqs.pop(key, None)
        self.read_seqs |= changes.added | changes.raised
        # These change read_seqs of participants that the batch does not know.
        if changes.positions or changes.unregistered:
            self.read_seqs.clear()
