"""The state of a batch of commands in one transaction. Used on the writer's thread."""

import itertools
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server import store
from bus_server.errors import QuotaExceeded, ThreadNotFound
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.order import WALL
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, Message

#: Rows per INSERT if there are many, which takes a third less time: each statement releases the GIL
#: and must acquire it again.
ROWS = 25
_MESSAGE_ROW = "INSERT INTO message (id, time, sender, body) VALUES (?, ?, ?, ?)"
_MESSAGE_ROWS = _MESSAGE_ROW + ", (?, ?, ?, ?)" * (ROWS - 1)
_REQUEST_ROW = (
    "INSERT INTO request (thread_id, sender, request_id, seq, post_hash) VALUES (?, ?, ?, ?, ?)"
)
_REQUEST_ROWS = _REQUEST_ROW + ", (?, ?, ?, ?, ?)" * (ROWS - 1)

#: Bytes. A larger message has a row in `entry` from the start, so that an edit need not read its
#: body. THREAD entries are smaller. Reading a smaller body takes no longer than the rest of a post.
LARGE = 16 * 1024


class Request(NamedTuple):
    """The message that was posted with a request_id."""

    seq: int
    time: int  # microseconds since the epoch
    post_hash: bytes | None  # None: from before schema version 4


class Entry(NamedTuple):
    """What an edit's checks need to know about the entry that it edits."""

    sender: str
    edit_of: int | None  # 0: not an edit; None: see its body


class Transaction:
    """A batch: the heads that it has read, its pending rows, and its Commit."""

    def __init__(self, db: sqlite3.Connection, now: int, store_now: int, order: int) -> None:
        self.db = db
        self.now = now  # microseconds since the epoch
        self.store_now = store_now  # on the store's clock
        self.order = order  # an order time
        self.commit = store.Commit()
        self._heads: dict[str, store.Head] = {}
        self.create_time = Timestamp()  # `now`, as messages have it
        self.create_time.FromMicroseconds(now)
        #: Rows not yet written: messages, and requests by thread, sender and request_id.
        self._messages: list[tuple[int, int, str, bytes]] = []
        self._requests: dict[tuple[int, str, str], tuple[int, bytes | None]] = {}
        self._participants: set[tuple[int, str]] = set()
        #: read_seq of senders (None: not a participant), and the senders whose value is not yet
        #: written.
        self._read: dict[tuple[int, str], int | None] = {}
        self._raised: set[tuple[int, str]] = set()

    def head(self, name: str) -> store.Head:
        """Returns a thread's head, including what this batch appended. Raises ThreadNotFound."""
        head = self._heads.get(name)
        if head is None:
            head = reads.head(self.db, name)
            if head is None:
                raise ThreadNotFound([name], reads.similar(self.db, [name]))
            self._heads[name] = head
        return head

    def load_heads(self, names: set[str]) -> None:
        """Read the heads of threads with one query."""
        unknown = names - self._heads.keys()
        if unknown:
            self._heads |= reads.heads(self.db, unknown)

    def append(self, message: Message, post_hash: bytes | None = None) -> None:
        """Append a message to its thread, and set its seq and create_time.

        Its row is written by the next `flush`. `post_hash` is stored with its request_id, if it has
        one. Raises ThreadNotFound, and QuotaExceeded when the thread is full.
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
            self.save_edit_of(thread_id << 32 | seq, message.edit_of)
        if message.request_id:
            key = (thread_id, sender, message.request_id)
            self._requests[key] = seq, post_hash
        self.set_head(name, store.Head(thread_id, epoch, seq, state, sync_mode, first_seq))
        self.commit.entries.setdefault(name, {})[seq] = sender, body

    def find_request(self, thread_id: int, sender: str, request_id: str) -> Request | None:
        """Returns the message that was posted with a request_id in a thread, or None."""
        key = (thread_id, sender, request_id)
        if key in self._requests:
            seq, post_hash = self._requests[key]
            return Request(seq, self.now, post_hash)
        row = self.db.execute(
            "SELECT seq, (SELECT time FROM message WHERE id = thread_id << 32 | seq), post_hash"
            " FROM request WHERE thread_id = ? AND sender = ? AND request_id = ?",
            key,
        ).fetchone()
        if row is None:
            return None
        seq, time, post_hash = row
        return Request(seq, time & WALL, post_hash)

    def save_post_hash(self, thread_id: int, message: Message, post_hash: bytes) -> None:
        """Store the hash of a message from before schema version 4."""
        self.db.execute(
            "UPDATE request SET post_hash = ?"
            " WHERE thread_id = ? AND sender = ? AND request_id = ?",
            (post_hash, thread_id, message.sender, message.request_id),
        )

    def flush(self) -> None:
        """Write all pending rows, so that queries see them."""
        messages, self._messages = self._messages, []
        self._insert_rows(messages, _MESSAGE_ROW, _MESSAGE_ROWS)
        if self._requests:
            requests = [(*key, *made) for key, made in self._requests.items()]
            self._requests = {}
            self._insert_rows(requests, _REQUEST_ROW, _REQUEST_ROWS)
        if self._raised:
            self.db.executemany(
                "UPDATE participant SET read_seq = ? WHERE thread_id = ? AND agent = ?",
                [(self._read[key], *key) for key in self._raised],
            )
            self._raised.clear()
        # The next command may remove a participant, or raise a read_seq.
        self._participants.clear()
        self._read.clear()

    def _insert_rows(self, rows: Sequence[tuple[object, ...]], one: str, many: str) -> None:
        """Insert rows. `one` and `many`: the statements for one row and for ROWS."""
        whole = len(rows) - len(rows) % ROWS
        for at in range(0, whole, ROWS):
            self.db.execute(many, list(itertools.chain(*rows[at : at + ROWS])))
        self.db.executemany(one, rows[whole:])

    def entry(self, head: store.Head, seq: int) -> Entry | None:
        """Returns an entry of a thread, or None. Flushes."""
        self.flush()
        if seq > head.seq:
            return None  # with more than 32 bits, the id would be in another thread
        row = self.db.execute(
            "SELECT m.sender, e.edit_of FROM message AS m LEFT JOIN entry AS e ON e.id = m.id"
            " WHERE m.id = ?",
            (head.thread_id << 32 | seq,),
        ).fetchone()
        return None if row is None else Entry(*row)

    def message(self, head: store.Head, seq: int) -> Message | None:
        """Returns an entry of a thread as it was appended, without edit_seq, or None."""
        row = self.db.execute(
            "SELECT body FROM message WHERE id = ?", (head.thread_id << 32 | seq,)
        ).fetchone()
        return None if row is None else Message.FromString(row[0])

    def save_edit_of(self, message_id: int, edit_of: int) -> None:
        """Store a message's edit_of (0: not an edit) in the `entry` table."""
        self.db.execute("INSERT INTO entry VALUES (?, ?, 0)", (message_id, edit_of))

    def record_edit(self, edit: Message) -> None:
        """Record that this entry is the newest edit of the message it edits."""
        self.db.execute(
            "UPDATE entry SET edit_seq = ? WHERE id = ?",
            (edit.seq, self.head(edit.thread).thread_id << 32 | edit.edit_of),
        )
        self.commit.edited.setdefault(edit.thread, {})[edit.edit_of] = edit.seq

    def set_head(self, name: str, head: store.Head) -> None:
        """Set a thread's head."""
        self._heads[name] = self.commit.heads[name] = head

    def record_deletion(self, name: str) -> None:
        """Record that a thread was deleted."""
        self.commit.deleted.append((name, self._heads.pop(name).epoch))
        self.commit.heads.pop(name, None)
        self.commit.entries.pop(name, None)
        self.commit.edited.pop(name, None)

    def raise_read_seq(self, thread_id: int, agent: str, seq: int, known: int) -> bool:
        """Raise the read_seq of an agent that wrote an entry. Returns False for a non-participant.

        Its own entry counts as read only if it has read everything before it; otherwise messages of
        others would count as read, too.

        Args:
            seq: of the entry.
            known: a seq up to which the agent has read; the stored one may be higher.
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

    def add_participant(self, thread_id: int, agent: str, read_seq: int = 0) -> None:
        """Make an agent a participant unless it already is one or was unregistered."""
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
    """Returns the read_seq of an agent that had read up to `read` and wrote entry `seq`."""
    return max(read, seq) if read >= seq - 1 else read
