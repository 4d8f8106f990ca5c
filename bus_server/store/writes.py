"""Commands as SQL, run inside one transaction on the writer's thread."""

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from bus_server import store
from bus_server.errors import (
    AgentExists,
    AgentNotFound,
    BusError,
    CursorInvalid,
    MessageNotFound,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ThreadExists,
    ThreadNotFound,
    ValidationFailed,
)
from bus_server.store import reads
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, PRIORITY_NORMAL, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Thread, ThreadState

#: Messages cleared of a deleted thread at a time: some milliseconds of the writer's.
PURGE_ROWS = 2_000


class Transaction:
    """One batch: what it reads of threads, and what it did that others must learn."""

    def __init__(self, db: sqlite3.Connection, now: int) -> None:
        self.db = db
        self.now = now  # microseconds since the epoch
        self.commit = store.Commit()
        self._heads: dict[str, store.Head] = {}

    def run(self, command: store.Command[Any]) -> Any:
        """Run one command. A BusError means that it changed nothing."""
        return _COMMANDS[type(command)](self, command)

    def head(self, name: str) -> store.Head:
        """Where a thread ends, as of this moment in the transaction."""
        if name not in self._heads:
            self._heads |= reads.heads(self.db, [name])
        if name not in self._heads:
            raise ThreadNotFound([name])
        return self._heads[name]

    def insert(self, message: Message) -> None:
        """Append a message to its thread: gives it its seq and its time."""
        head = self.head(message.thread)
        message.seq = head.seq + 1
        message.create_time.FromMicroseconds(self.now)
        self.db.execute(
            "INSERT INTO message (id, body) VALUES (?, ?)",
            (head.thread_id << 32 | message.seq, message.SerializeToString()),
        )
        self.move(message.thread, head._replace(seq=message.seq))
        self.commit.entries.setdefault(message.thread, []).append(message)

    def move(self, name: str, head: store.Head) -> None:
        """A thread ends there now."""
        self._heads[name] = self.commit.heads[name] = head

    def forget(self, name: str) -> None:
        """A thread is gone."""
        self.commit.deleted.append((name, self._heads.pop(name).thread_id))
        self.commit.heads.pop(name, None)
        self.commit.entries.pop(name, None)

    def participate(self, thread_id: int, agent: str, read_seq: int = 0) -> None:
        """Make an agent a participant and raise what it has read."""
        self.db.execute(
            "INSERT INTO participant (thread_id, agent, read_seq, join_time) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET read_seq = excluded.read_seq"
            " WHERE excluded.read_seq > read_seq",
            (thread_id, agent, read_seq, self.now),
        )


def append(tx: Transaction, command: store.Append) -> store.Appended:
    message = command.message
    head = tx.head(message.thread)
    if message.request_id:
        earlier = _earlier(tx, head, message)
        if earlier is not None:
            return store.Appended(
                earlier.seq, earlier.create_time.ToMicroseconds(), True, head.seq, head.epoch
            )
    _check(tx, head, command)
    if command.register_sender:
        message.sender_kind = _register(tx, Agent(name=message.sender, kind=AGENT_KIND_AGENT)).kind
    tx.insert(message)
    if message.request_id:
        tx.db.execute(
            "INSERT INTO request (thread_id, sender, request_id, seq) VALUES (?, ?, ?, ?)",
            (head.thread_id, message.sender, message.request_id, message.seq),
        )
    if message.sender != "anonymous":
        tx.participate(head.thread_id, message.sender, message.based_on_seq)
    for name in _addressed(message):
        tx.participate(head.thread_id, name)
    return store.Appended(message.seq, tx.now, False, message.seq, head.epoch)


def _earlier(tx: Transaction, head: store.Head, message: Message) -> Message | None:
    """The message that this request_id made, if it did; refuses another body."""
    row = tx.db.execute(
        "SELECT m.body FROM request AS r JOIN message AS m ON m.id = r.thread_id << 32 | r.seq"
        " WHERE r.thread_id = ? AND r.sender = ? AND r.request_id = ?",
        (head.thread_id, message.sender, message.request_id),
    ).fetchone()
    if row is None:
        return None
    earlier = Message.FromString(row[0])
    if _body(earlier) != _body(message):
        raise RequestIdReused(message.request_id, earlier.seq)
    return earlier


def _body(message: Message) -> Message:
    """What two posts with one request_id must share."""
    body = Message()
    body.CopyFrom(message)
    for name in ("seq", "create_time", "sender_kind", "based_on_seq"):
        body.ClearField(name)
    return body


def _check(tx: Transaction, head: store.Head, command: store.Append) -> None:
    message = command.message
    if command.epoch and command.epoch != head.epoch:
        raise CursorInvalid(head_seq=head.seq, first_seq=1, epoch=head.epoch)
    if head.state != THREAD_STATE_OPEN:
        raise ThreadClosed(message.thread)
    if command.expected_last_seq is not None and command.expected_last_seq != head.seq:
        raise SeqConflict(command.expected_last_seq, head.seq)
    if message.based_on_seq > head.seq:
        raise ValidationFailed(("based_on_seq", f"the thread's newest message is {head.seq}"))
    if message.reply_to > head.seq:
        raise MessageNotFound(message.thread, message.reply_to, head.seq)
    addressed = _addressed(message)
    if addressed:
        missing = addressed - reads.registered(tx.db, addressed)
        if missing:
            raise AgentNotFound(sorted(missing))


def _addressed(message: Message) -> set[str]:
    names = set(message.mentions)
    if message.handoff_to:
        names.add(message.handoff_to)
    return names


def create_thread(tx: Transaction, command: store.CreateThread) -> Thread:
    thread = command.thread
    try:
        tx.head(thread.name)
    except ThreadNotFound:
        _create(tx, thread)
        return reads.threads(tx.db, [thread.name])[0]
    raise ThreadExists(thread.name)


def _create(tx: Transaction, thread: Thread) -> None:
    tx.db.execute(
        "INSERT INTO thread (name, epoch, state, topic, labels, creator, create_time)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            thread.name,
            secrets.token_hex(8),
            THREAD_STATE_OPEN,
            thread.topic,
            json.dumps(dict(thread.labels)),
            thread.creator,
            tx.now,
        ),
    )


def join_thread(tx: Transaction, command: store.JoinThread) -> store.Joined:
    name, created = command.thread.name, False
    try:
        head = tx.head(name)
    except ThreadNotFound:
        if not command.create:
            raise
        _create(tx, command.thread)
        head, created = tx.head(name), True
    after = 0 if command.from_first else head.seq
    if command.agent is not None:
        row = tx.db.execute(
            "SELECT read_seq FROM participant WHERE thread_id = ? AND agent = ?",
            (head.thread_id, command.agent),
        ).fetchone()
        if row is not None:
            after = row[0]
        else:
            tx.participate(head.thread_id, command.agent, after)
    context = []
    if command.context_limit:
        context = reads.page(
            tx.db, name, 0, after + 1, command.context_limit, command.context_bytes, True
        ).messages
    return store.Joined(reads.threads(tx.db, [name])[0], created, after, context)


def set_thread_state(tx: Transaction, command: store.SetThreadState) -> Thread:
    head = tx.head(command.name)
    if head.state != command.state:
        entry = Message()
        entry.CopyFrom(command.entry)
        entry.thread = command.name
        entry.kind = MESSAGE_KIND_THREAD
        entry.priority = PRIORITY_NORMAL
        state = ThreadState.Name(command.state).removeprefix("THREAD_STATE_").lower()
        entry.content = f"{entry.sender} set the thread's state to {state}"
        tx.db.execute("UPDATE thread SET state = ? WHERE id = ?", (command.state, head.thread_id))
        tx.move(command.name, head._replace(state=command.state))
        tx.insert(entry)
    return reads.threads(tx.db, [command.name])[0]


def delete_thread(tx: Transaction, command: store.DeleteThread) -> None:
    thread_id = tx.head(command.name).thread_id
    tx.db.execute("DELETE FROM thread WHERE id = ?", (thread_id,))
    tx.db.execute("INSERT INTO purge (thread_id) VALUES (?)", (thread_id,))
    tx.forget(command.name)


def purge(tx: Transaction, command: store.Purge) -> bool:
    row = tx.db.execute("SELECT thread_id FROM purge LIMIT 1").fetchone()
    if row is None:
        return False
    (thread_id,) = row
    bounds = {
        "thread": thread_id,
        "low": thread_id << 32,
        "high": thread_id << 32 | store.MAX_SEQ,
        "rows": PURGE_ROWS,
    }
    if sum(tx.db.execute(clear, bounds).rowcount for clear in _CLEAR) == 0:
        tx.db.execute("DELETE FROM purge WHERE thread_id = ?", (thread_id,))
    return True


_CLEAR = (
    "DELETE FROM message WHERE id IN"
    " (SELECT id FROM message WHERE id BETWEEN :low AND :high LIMIT :rows)",
    "DELETE FROM request WHERE (thread_id, sender, request_id) IN"
    " (SELECT thread_id, sender, request_id FROM request WHERE thread_id = :thread LIMIT :rows)",
    "DELETE FROM participant WHERE (thread_id, agent) IN"
    " (SELECT thread_id, agent FROM participant WHERE thread_id = :thread LIMIT :rows)",
)


def register_agent(tx: Transaction, command: store.RegisterAgent) -> Agent:
    agent = command.agent
    owner = reads.owner(tx.db, command.token_hash)
    if owner is not None and owner.agent != agent.name:
        raise ValidationFailed(("token", "in use for another name; make a fresh one"))
    if owner is None:
        if reads.agent(tx.db, agent.name) is not None:
            raise AgentExists(agent.name)
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, ?, ?)",
            (command.token_hash, agent.name, tx.now),
        )
    return _register(tx, agent)


def _register(tx: Transaction, agent: Agent) -> Agent:
    """Register an agent unless it is; answers it as it is registered."""
    tx.db.execute(
        "INSERT OR IGNORE INTO agent (name, kind, display_name, description, labels, create_time)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            agent.name,
            agent.kind,
            agent.display_name,
            agent.description,
            json.dumps(dict(agent.labels)),
            tx.now,
        ),
    )
    registered = reads.agent(tx.db, agent.name)
    if registered is None:
        raise sqlite3.DatabaseError(f"agent {agent.name} vanished")
    return registered


def set_operator_token(tx: Transaction, command: store.SetOperatorToken) -> None:
    if reads.owner(tx.db, command.token_hash) is None:
        tx.db.execute("DELETE FROM token WHERE agent = ''")
        tx.db.execute(
            "INSERT INTO token (hash, agent, create_time) VALUES (?, '', ?)",
            (command.token_hash, tx.now),
        )


def save_reads(tx: Transaction, command: store.SaveReads) -> None:
    tx.db.executemany(
        "UPDATE participant SET read_seq = :seq WHERE agent = :agent AND read_seq < :seq"
        " AND thread_id = (SELECT id FROM thread WHERE name = :thread AND epoch = :epoch)",
        [
            {"agent": agent, "thread": thread, "epoch": epoch, "seq": seq}
            for (agent, thread, epoch), seq in command.reads.items()
        ],
    )


_COMMANDS: dict[type[store.Command[Any]], Callable[[Transaction, Any], Any]] = {
    store.Append: append,
    store.CreateThread: create_thread,
    store.JoinThread: join_thread,
    store.SetThreadState: set_thread_state,
    store.DeleteThread: delete_thread,
    store.Purge: purge,
    store.RegisterAgent: register_agent,
    store.SetOperatorToken: set_operator_token,
    store.SaveReads: save_reads,
}


def run(db: sqlite3.Connection, commands: Iterable[store.Command[Any]], now: int) -> store.Commit:
    """Run commands in order; each one's outcome is its answer or its BusError."""
    tx = Transaction(db, now)
    for command in commands:
        outcome: Any
        try:
            outcome = tx.run(command)
        except BusError as refusal:
            outcome = refusal
        tx.commit.outcomes.append(outcome)
    return tx.commit
