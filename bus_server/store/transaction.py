"""One batch of commands inside one transaction of SQLite's, on the writer's thread."""

import itertools
import sqlite3

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server import store
from bus_server.errors import QuotaExceeded, ThreadNotFound
from bus_server.store import reads
from threadbus.v1.message_pb2 import Message

#: Messages that are inserted by one statement, where there are many: a third less of the time, and
#: each statement hands over to the thread of the calls and must wait for its turn again.
ROWS = 25
_INSERT_ROW = "INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)"
_INSERT_ROWS = _INSERT_ROW + ", (?, ?, ?, ?)" * (ROWS - 1)


class Transaction:
    """One batch: what it reads of threads, and what it did that others must learn."""

    def __init__(self, db: sqlite3.Connection, now: int) -> None:
        self.db = db
        self.now = now  # microseconds since the epoch
        self.commit = store.Commit()
        self._heads: dict[str, store.Head] = {}
        self.create_time = Timestamp()  # as a message has it
        self.create_time.FromMicroseconds(now)
        #: Rows that are not written yet: messages, and by which request_id they came.
        self._messages: list[tuple[int, int, str, bytes]] = []
        self._requests: dict[tuple[int, str, str], int] = {}
        self._participants: set[tuple[int, str]] = set()

    def head(self, name: str) -> store.Head:
        """Where a thread ends, as of this moment in the transaction."""
        head = self._heads.get(name)
        if head is None:
            head = reads.head(self.db, name)
            if head is None:
                raise ThreadNotFound([name])
            self._heads[name] = head
        return head

    def look_up(self, names: set[str]) -> None:
        """Find out where these threads end: many are cheaper together."""
        unknown = names - self._heads.keys()
        if unknown:
            self._heads |= reads.heads(self.db, unknown)

    def insert(self, message: Message) -> None:
        """Append a message to its thread: gives it its seq and its time.

        What is inserted is written at the next `flush`, many rows with one statement.
        """
        name = message.thread
        thread_id, epoch, seq, state, sync_mode = self.head(name)
        seq += 1
        if seq > store.MAX_SEQ:
            raise QuotaExceeded("entries of a thread", store.MAX_SEQ, "go on in a new one")
        message.seq = seq
        message.create_time.CopyFrom(self.create_time)
        sender, body = message.sender, message.SerializeToString()
        self._messages.append((thread_id << 32 | seq, self.now, sender, body))
        if message.request_id:
            key = (thread_id, sender, message.request_id)
            self._requests[key] = seq
        self.move(name, store.Head(thread_id, epoch, seq, state, sync_mode))
        self.commit.entries.setdefault(name, []).append(message)

    def request(self, thread_id: int, sender: str, request_id: str) -> int | None:
        """Seq of the message that a request_id made in a thread."""
        key = (thread_id, sender, request_id)
        if key in self._requests:
            return self._requests[key]
        row = self.db.execute(
            "SELECT seq FROM request WHERE thread_id = ? AND sender = ? AND request_id = ?", key
        ).fetchone()
        return None if row is None else int(row[0])

    def flush(self) -> None:
        """Write what was inserted, so that queries see it."""
        rows, self._messages = self._messages, []
        whole = len(rows) - len(rows) % ROWS
        for at in range(0, whole, ROWS):
            self.db.execute(_INSERT_ROWS, list(itertools.chain(*rows[at : at + ROWS])))
        self.db.executemany(_INSERT_ROW, rows[whole:])
        if self._requests:
            self.db.executemany(
                "INSERT INTO request (thread_id, sender, request_id, seq) VALUES (?, ?, ?, ?)",
                [(*key, seq) for key, seq in self._requests.items()],
            )
            self._requests = {}
        self._participants.clear()  # what is asked next may take somebody out

    def message(self, head: store.Head, seq: int) -> Message | None:
        """An entry of a thread."""
        self.flush()
        if seq > head.seq:
            return None  # with more than 32 bits it would be another thread's
        row = self.db.execute(
            "SELECT body FROM message WHERE id = ?", (head.thread_id << 32 | seq,)
        ).fetchone()
        return None if row is None else Message.FromString(row[0])

    def replace(self, message: Message) -> None:
        """Write an entry anew, where it is."""
        thread_id = self.head(message.thread).thread_id
        self.db.execute(
            "UPDATE message SET body = ? WHERE id = ?",
            (message.SerializeToString(), thread_id << 32 | message.seq),
        )
        self.commit.edited.setdefault(message.thread, []).append(message)

    def move(self, name: str, head: store.Head) -> None:
        """A thread ends there now."""
        self._heads[name] = self.commit.heads[name] = head

    def forget(self, name: str) -> None:
        """A thread is gone."""
        self.commit.deleted.append((name, self._heads.pop(name).thread_id))
        self.commit.heads.pop(name, None)
        self.commit.entries.pop(name, None)
        self.commit.edited.pop(name, None)

    def participate(self, thread_id: int, agent: str, read_seq: int = 0) -> None:
        """Make an agent a participant and raise what it has read; none that was unregistered."""
        if not read_seq and (thread_id, agent) in self._participants:
            return
        self._participants.add((thread_id, agent))
        self.db.execute(
            "INSERT INTO participant (thread_id, agent, read_seq, join_time)"
            " SELECT :thread, :agent, :read, :now WHERE NOT EXISTS"
            " (SELECT 1 FROM agent WHERE name = :agent AND unregister_time > 0)"
            " ON CONFLICT DO UPDATE SET read_seq = excluded.read_seq"
            " WHERE excluded.read_seq > read_seq",
            {"thread": thread_id, "agent": agent, "read": read_seq, "now": self.now},
        )
