"""Appending messages: everything that decides about a post is decided here."""

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
from bus_server.store import reads
from bus_server.store.agents import register
from bus_server.store.transaction import Transaction
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Agent
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_OPEN


def append(tx: Transaction, command: store.Append) -> store.Appended:
    message = command.message
    head = tx.head(message.thread)
    if message.request_id:
        earlier = _earlier(tx, head, message)
        if earlier is not None:
            return store.Appended(earlier.seq, earlier.create_time, True, head.seq, head.epoch)
    _check(tx, head, command)
    addressed = _addressed(message)
    if addressed:
        missing = addressed - reads.registered(tx.db, addressed)
        if missing:
            raise AgentNotFound(sorted(missing))
    edited = _edited(tx, head, message) if message.edit_of else None
    if command.register_sender:
        register(tx, Agent(name=message.sender, kind=AGENT_KIND_AGENT))
    tx.insert(message)
    if edited is not None:
        edited.edit_seq = message.seq
        tx.replace(edited)
    if message.sender != "anonymous":
        tx.participate(head.thread_id, message.sender, message.based_on_seq)
    for name in addressed:
        tx.participate(head.thread_id, name)
    return store.Appended(head.seq + 1, tx.create_time, False, head.seq + 1, head.epoch)


def append_many(tx: Transaction, command: store.AppendMany) -> list[store.Appended | Exception]:
    answers: list[store.Appended | Exception] = []
    tx.look_up({post.message.thread for post in command.posts})
    for post in command.posts:
        try:
            answers.append(append(tx, post))
        except BusError as refusal:
            answers.append(refusal.without_traceback())
    return answers


def _earlier(tx: Transaction, head: store.Head, message: Message) -> Message | None:
    """The message that this request_id made, if it did; refuses another body."""
    seq = tx.request(head.thread_id, message.sender, message.request_id)
    earlier = None if seq is None else tx.message(head, seq)
    if earlier is None:
        return None
    if _body(earlier) != _body(message):
        raise RequestIdReused(message.request_id, earlier.seq)
    return earlier


def _body(message: Message) -> Message:
    """What two posts with one request_id must share."""
    body = Message()
    body.CopyFrom(message)
    for name in ("seq", "create_time", "sender_kind", "based_on_seq", "edit_seq"):
        body.ClearField(name)
    return body


def _check(tx: Transaction, head: store.Head, command: store.Append) -> None:
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


def _edited(tx: Transaction, head: store.Head, message: Message) -> Message:
    """The message that this one is a new content for."""
    edited = tx.message(head, message.edit_of)
    if edited is None:
        raise MessageNotFound(message.thread, message.edit_of, head.seq)
    if edited.sender != message.sender or message.sender == "anonymous":
        raise AccessDenied(
            f"message {edited.seq} is {edited.sender}'s: only its sender may edit it"
        )
    if edited.kind != MESSAGE_KIND_CHAT:
        what = f"an edit: edit message {edited.edit_of}" if edited.edit_of else "no message to edit"
        raise ValidationFailed(("edit_of", f"entry {edited.seq} is {what}"))
    return edited


def _addressed(message: Message) -> set[str]:
    names = set(message.mentions)
    if message.handoff_to:
        names.add(message.handoff_to)
    return names
