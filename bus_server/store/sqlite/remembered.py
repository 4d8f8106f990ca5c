"""What the last commits left in the store, so that the next one need not read it again."""

import sqlite3

from bus_server.store.batch import Batch
from bus_server.store.commands import Head
from bus_server.store.sqlite import connections

#: Threads and participants that are remembered; when there are more, all are forgotten.
MAX_REMEMBERED = 20_000


class Remembered:
    """What is known of threads and participants since this server's last commit.

    Valid within a write transaction of the same connection, after `begin`. Each transaction that
    changes them must call `written`, and `forget` if it does not end with a COMMIT. Used on the
    writer's thread.
    """

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        #: By thread id and agent.
        self.read_seqs: dict[tuple[int, str], int] = {}
        #: The active_time of threads, by id.
        self.active_times: dict[int, int] = {}
        self._version: int | None = None

    def begin(self, db: sqlite3.Connection) -> None:
        """Forget everything if another connection has written since the last transaction."""
        version = connections.data_version(db)
        if version != self._version or len(self.heads) + len(self.read_seqs) > MAX_REMEMBERED:
            self.forget()
            self._version = version

    def forget(self) -> None:
        """Forget everything."""
        self.heads.clear()
        self.read_seqs.clear()
        self.active_times.clear()

    def written(self, batch: Batch) -> None:
        """Remember what a batch leaves."""
        facts, changes = batch.facts, batch.changes
        self.heads |= facts.heads
        for name, _ in batch.commit.deleted:
            if name not in facts.heads:
                self.heads.pop(name, None)
        self.read_seqs |= facts.read_seqs
        for key in changes.removed:
            self.read_seqs.pop(key, None)
        self.read_seqs |= changes.added | changes.raised
        if changes.positions or changes.unregistered:  # of participants that are not named
            self.read_seqs.clear()
