"""One batch of commands inside one transaction of SQLite's, on the writer's thread."""

import itertools
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server import store
from bus_server.errors import QuotaExceeded, ThreadNotFound
from bus_server.store import reads
from bus_server.store.order import WALL
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, Message

#: Rows that are inserted by one statement, where there are many: a third less of the time, and
#: each statement hands over to the thread of the calls and must wait for its turn again.
ROWS = 25
_MESSAGE_ROW = "INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)"
_MESSAGE_ROWS = _MESSAGE_ROW + ", (?, ?, ?, ?)" * (ROWS - 1)
_REQUEST_ROW = (
    "INSERT INTO request (thread_id, sender, request_id, seq, body_hash) VALUES (?, ?, ?, ?, ?)"
)
_REQUEST_ROWS = _REQUEST_ROW + ", (?, ?, ?, ?, ?)" * (ROWS - 1)

#: Bytes of a body beyond which it is not read to find out what an edit asks: entries about a
#: thread are smaller, and to read so much takes no longer than the rest of a post.
LARGE = 16 * 1024


class Request(NamedTuple):
    """What a request_id made."""

    seq: int
    time: int  # microseconds since the epoch
    body_hash: bytes | None  # None: not known, it is from before schema version 4


class Entry(NamedTuple):
    """What is known of an entry of a thread without reading it."""

    sender: str
    edit_of: int | None  # 0: it is no edit; None: its body tells


class Transaction:
    """One batch: what it reads of threads, and what it did that others must learn."""

    def __init__(self, db: sqlite3.Connection, now: int, store_now: int, order: int) -> None:
        self.db = db
        self.now = now  # microseconds since the epoch
        self.store_now = store_now  # on the store's clock
        self.order = order  # an order time
        self.commit = store.Commit()
        self._heads: dict[str, store.Head] = {}
        self.create_time = Timestamp()  # as a message has it
        self.create_time.FromMicroseconds(now)
        #: Rows that are not written yet: messages, and by which request_id they came.
        self._messages: list[tuple[int, int, str, bytes]] = []
        self._requests: dict[tuple[int, str, str], tuple[int, bytes | None]] = {}
        self._participants: set[tuple[int, str]] = set()
        #: How far writers have read (None: it is no participant), and of whom that is not stored.
        self._read: dict[tuple[int, str], int | None] = {}
        self._raised: set[tuple[int, str]] = set()

    def head(self, name: str) -> store.Head:
        """Where a thread ends, as of this moment in the transaction."""
        head = self._heads.get(name)
        if head is None:
            head = reads.head(self.db, name)
            if head is None:
                raise ThreadNotFound([name], reads.similar(self.db, [name]))
            self._heads[name] = head
        return head

    def look_up(self, names: set[str]) -> None:
        """Find out where these threads end: many are cheaper together."""
        unknown = names - self._heads.keys()
        if unknown:
            self._heads |= reads.heads(self.db, unknown)

    def insert(self, message: Message, body_hash: bytes | None = None) -> None:
        """Append a message to its thread: gives it its seq and its time.

        What is inserted is written at the next `flush`, many rows with one statement. `body_hash`
        is kept for its request_id, if it has one.
        """
        name = message.thread
        thread_id, epoch, seq, state, sync_mode, first_seq = self.head(name)
        seq += 1
        if seq > store.MAX_SEQ:
            raise QuotaExceeded("entries of a thread", store.MAX_SEQ, "go on in a new one")
        message.seq = seq
        message.create_time.CopyFrom(self.create_time)
        sender, body = message.sender, message.SerializeToString()
        self._messages.append((thread_id << 32 | seq, self.order, sender, body))
        if len(body) > LARGE and message.kind != MESSAGE_KIND_THREAD:
            self.keep_edit_of(thread_id << 32 | seq, message.edit_of)
        if message.request_id:
            key = (thread_id, sender, message.request_id)
            self._requests[key] = seq, body_hash
        self.move(name, store.Head(thread_id, epoch, seq, state, sync_mode, first_seq))
        self.commit.entries.setdefault(name, {})[seq] = sender, body

    def request(self, thread_id: int, sender: str, request_id: str) -> Request | None:
        """What a request_id made in a thread."""
        key = (thread_id, sender, request_id)
        if key in self._requests:
            seq, body_hash = self._requests[key]
            return Request(seq, self.now, body_hash)
        row = self.db.execute(
            "SELECT seq, (SELECT time FROM message WHERE id = thread_id << 32 | seq), body_hash"
            " FROM request WHERE thread_id = ? AND sender = ? AND request_id = ?",
            key,
        ).fetchone()
        if row is None:
            return None
        seq, time, body_hash = row
        return Request(seq, time & WALL, body_hash)

    def keep_hash(self, thread_id: int, message: Message, body_hash: bytes) -> None:
        """The hash of what a request_id made is known now."""
        self.db.execute(
            "UPDATE request SET body_hash = ?"
            " WHERE thread_id = ? AND sender = ? AND request_id = ?",
            (body_hash, thread_id, message.sender, message.request_id),
        )

    def flush(self) -> None:
        """Write what was inserted, so that queries see it."""
        messages, self._messages = self._messages, []
        self._insert(messages, _MESSAGE_ROW, _MESSAGE_ROWS)
        if self._requests:
            requests = [(*key, *made) for key, made in self._requests.items()]
            self._requests = {}
            self._insert(requests, _REQUEST_ROW, _REQUEST_ROWS)
        if self._raised:
            self.db.executemany(
                "UPDATE participant SET read_seq = ? WHERE thread_id = ? AND agent = ?",
                [(self._read[key], *key) for key in self._raised],
            )
            self._raised.clear()
        # What is asked next may take somebody out, or raise what somebody has read.
        self._participants.clear()
        self._read.clear()

    def _insert(self, rows: Sequence[tuple[object, ...]], one: str, many: str) -> None:
        """Insert rows by statements for one of them and for ROWS."""
        whole = len(rows) - len(rows) % ROWS
        for at in range(0, whole, ROWS):
            self.db.execute(many, list(itertools.chain(*rows[at : at + ROWS])))
        self.db.executemany(one, rows[whole:])

    def entry(self, head: store.Head, seq: int) -> Entry | None:
        """What is known of an entry of a thread."""
        self.flush()
        if seq > head.seq:
            return None  # with more than 32 bits it would be another thread's
        row = self.db.execute(
            "SELECT m.sender, e.edit_of FROM message AS m LEFT JOIN entry AS e ON e.id = m.id"
            " WHERE m.id = ?",
            (head.thread_id << 32 | seq,),
        ).fetchone()
        return None if row is None else Entry(*row)

    def message(self, head: store.Head, seq: int) -> Message | None:
        """An entry of a thread, as it was written first."""
        row = self.db.execute(
            "SELECT body FROM message WHERE id = ?", (head.thread_id << 32 | seq,)
        ).fetchone()
        return None if row is None else Message.FromString(row[0])

    def keep_edit_of(self, message_id: int, edit_of: int) -> None:
        """What an entry is an edit of (0: it is no edit) is known now."""
        self.db.execute("INSERT INTO entry VALUES (?, ?, 0)", (message_id, edit_of))

    def edit(self, edit: Message) -> None:
        """This entry is the newest edit of the message that it is one of."""
        self.db.execute(
            "UPDATE entry SET edit_seq = ? WHERE id = ?",
            (edit.seq, self.head(edit.thread).thread_id << 32 | edit.edit_of),
        )
        self.commit.edited.setdefault(edit.thread, {})[edit.edit_of] = edit.seq

    def move(self, name: str, head: store.Head) -> None:
        """A thread ends there now."""
        self._heads[name] = self.commit.heads[name] = head

    def forget(self, name: str) -> None:
        """A thread is gone."""
        self.commit.deleted.append((name, self._heads.pop(name).epoch))
        self.commit.heads.pop(name, None)
        self.commit.entries.pop(name, None)
        self.commit.edited.pop(name, None)

    def wrote(self, thread_id: int, agent: str, seq: int, known: int) -> bool:
        """Record that an agent wrote an entry. Returns False if it is no participant.

        Who has read all that is before an entry of its own has read that, too; anything else would
        hide what others wrote.

        Args:
            seq: of the entry.
            known: the seq up to which it is known to have read; the store may know of more.
        """
        key = thread_id, agent
        if key not in self._read:
            row = self.db.execute(
                "SELECT read_seq FROM participant WHERE thread_id = ? AND agent = ?", key
            ).fetchone()
            self._read[key] = None if row is None else row[0]
        before = self._read[key]
        if before is None:
            return False
        read = with_own(max(before, known), seq)
        if read > before:
            self._read[key] = read
            self._raised.add(key)
        return True

    def participate(self, thread_id: int, agent: str, read_seq: int = 0) -> None:
        """Make an agent a participant, unless it is one or was unregistered."""
        if (thread_id, agent) in self._participants:
            return
        self._participants.add((thread_id, agent))
        added = self.db.execute(
            "INSERT INTO participant (thread_id, agent, read_seq, join_time)"
            " SELECT :thread, :agent, :read, :now WHERE NOT EXISTS"
            " (SELECT 1 FROM agent WHERE name = :agent AND unregister_time > 0)"
            " ON CONFLICT DO NOTHING",
            {"thread": thread_id, "agent": agent, "read": read_seq, "now": self.now},
        )
        if added.rowcount:
            self._read[thread_id, agent] = read_seq


def with_own(read: int, seq: int) -> int:
    """How far one has read who had read up to `read` and wrote entry `seq`."""
    return max(read, seq) if read >= seq - 1 else read
