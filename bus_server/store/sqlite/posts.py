"""Appends messages, after all checks of a post.

The checks do not read large messages: a post of a few bytes may name a message of 3 MiB. Messages
from before schema version 4 are read once.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server import store
from bus_server.errors import (
    AccessDenied,
    AgentNotFound,
    BusError,
    CursorInvalid,
    ExpectedSeqRequired,
    MessageNotFound,
    RequestIdReused,
    SeqConflict,
    ThreadClosed,
    ValidationFailed,
)
from bus_server.store.post_hash import post_hash
from bus_server.store.sqlite import reads
from bus_server.store.sqlite.agents import register
from bus_server.store.sqlite.transaction import Transaction, with_own
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_THREAD, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_OPEN


def append(tx: Transaction, command: store.Append) -> store.Appended:
    message = command.message
    head = tx.head(message.thread)
    hashed = None
    if message.request_id:
        hashed = post_hash(message)
        earlier = _find_repetition(tx, head, message, hashed)
        if earlier is not None:
            return store.Appended(*earlier, True, head.seq, head.epoch)
    _check_post(tx, head, command)
    addressed = _addressed(message)
    if addressed:
        missing = addressed - reads.registered(tx.db, addressed)
        if missing:
            raise AgentNotFound(sorted(missing))
    if message.edit_of:
        _check_edit(tx, head, message)
    if command.register_sender:
        register(tx, Agent(name=message.sender, kind=AGENT_KIND_AGENT))
    tx.append(message, hashed)
    if message.edit_of:
        tx.record_edit(message)
    if message.sender != "anonymous":
        _record_sender(tx, head, command)
    for name in addressed:
        tx.add_participant(head.thread_id, name)
    return store.Appended(head.seq + 1, tx.create_time, False, head.seq + 1, head.epoch)


def _record_sender(tx: Transaction, head: store.Head, command: store.Append) -> None:
    """Make the sender a participant, or raise its read_seq if it is one."""
    message, thread_id = command.message, head.thread_id
    read = max(message.based_on_seq, store.read_in(command.position, head.epoch))
    if not tx.raise_read_seq(thread_id, message.sender, message.seq, read):
        tx.add_participant(thread_id, message.sender, with_own(read, message.seq))


def append_many(tx: Transaction, command: store.AppendMany) -> list[store.Appended | Exception]:
    answers: list[store.Appended | Exception] = []
    tx.load_heads({post.message.thread for post in command.posts})
    for post in command.posts:
        try:
            answers.append(append(tx, post))
        except BusError as refusal:
            answers.append(refusal.without_traceback())
    return answers


def _find_repetition(
    tx: Transaction, head: store.Head, message: Message, hashed: bytes
) -> tuple[int, Timestamp] | None:
    """Returns seq and create_time of the message posted with this request_id, or None.

    Raises RequestIdReused if that was a different post.
    """
    request = tx.find_request(head.thread_id, message.sender, message.request_id)
    if request is None:
        return None
    seq, time, earlier = request
    if earlier is None and (whole := tx.message(head, seq)) is not None:
        earlier = post_hash(whole)
        tx.save_post_hash(head.thread_id, whole, earlier)
    if earlier != hashed:
        raise RequestIdReused(message.request_id, seq)
    create_time = Timestamp()
    create_time.FromMicroseconds(time)
    return seq, create_time


def _check_post(tx: Transaction, head: store.Head, command: store.Append) -> None:
    message = command.message
    if command.epoch and command.epoch != head.epoch:
        raise CursorInvalid(head_seq=head.seq, epoch=head.epoch, past_head=False)
    if head.state != THREAD_STATE_OPEN:
        raise ThreadClosed(message.thread)
    if command.register_sender:
        sender = reads.agent(tx.db, message.sender)
        message.sender_kind = AGENT_KIND_AGENT if sender is None else sender.kind
    strict = head.sync_mode == SYNC_MODE_STRICT and message.sender_kind != AGENT_KIND_HUMAN
    if strict and command.expected_last_seq is None:
        raise ExpectedSeqRequired(message.thread, head.seq)
    if command.expected_last_seq is not None and command.expected_last_seq != head.seq:
        raise SeqConflict(command.expected_last_seq, head.seq)
    if message.based_on_seq > head.seq:
        raise ValidationFailed(("based_on_seq", f"the thread's newest message is {head.seq}"))
    if message.reply_to > head.seq:
        raise MessageNotFound(message.thread, message.reply_to, head.seq)


def _check_edit(tx: Transaction, head: store.Head, message: Message) -> None:
    """Check that the sender may edit the message. Raises a BusError if not."""
    seq = message.edit_of
    entry = tx.entry(head, seq)
    if entry is None:
        raise MessageNotFound(message.thread, seq, head.seq)
    if entry.sender != message.sender or message.sender == "anonymous":
        raise AccessDenied(f"message {seq} is {entry.sender}'s: only its sender may edit it")
    edit_of = entry.edit_of
    if edit_of is None and (whole := tx.message(head, seq)) is not None:
        if whole.kind == MESSAGE_KIND_THREAD:
            raise ValidationFailed(("edit_of", f"entry {seq} is no message to edit"))
        edit_of = whole.edit_of
        tx.save_edit_of(head.thread_id << 32 | seq, edit_of)
    if edit_of:
        raise ValidationFailed(("edit_of", f"entry {seq} is an edit: edit message {edit_of}"))


def _addressed(message: Message) -> set[str]:
    names = set(message.mentions)
    if message.handoff_to:
        names.add(message.handoff_to)
    return names
