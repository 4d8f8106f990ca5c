"""Decides posts: all checks, then the append.

Checks need no body of a stored message: a post of a few bytes may name a message of 3 MiB.
"""

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server.errors import (
    AccessDenied,
    AgentExists,
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
from bus_server.store.batch import Batch, with_own
from bus_server.store.commands import Append, Appended, AppendMany, Head, read_in
from bus_server.store.facts import ANONYMOUS, addressees
from bus_server.store.post_hash import post_hash
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Agent
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_OPEN


def append(batch: Batch, command: Append) -> Appended:
    message = command.message
    head = batch.head(message.thread)
    hashed = b""
    if message.request_id:
        hashed = post_hash(message)
        earlier = _earlier(batch, head, message, hashed)
        if earlier is not None:
            return Appended(*earlier, True, head.seq, head.epoch)
    if command.register_sender:
        sender = batch.known(message.sender)
        registered = sender is not None and sender.registered
        message.sender_kind = sender.kind if sender and registered else AGENT_KIND_AGENT
    _check_post(head, command)
    addressed = addressees(message)
    missing = [name for name in addressed if not batch.is_registered(name)]
    if missing:
        raise AgentNotFound(sorted(missing))
    if message.edit_of:
        _check_edit(batch, message)
    batch.check_room(head)
    if command.register_sender and not batch.is_registered(message.sender):
        if batch.was_unregistered(message.sender):
            raise AgentExists(message.sender, unregistered=True)
        batch.register(Agent(name=message.sender, kind=AGENT_KIND_AGENT))
    batch.append(message, hashed)
    if message.sender != ANONYMOUS:
        _record_sender(batch, head, command)
    for name in addressed:
        batch.add_participant(message.thread, name)
    return Appended(head.seq + 1, batch.create_time, False, head.seq + 1, head.epoch)


def append_many(batch: Batch, command: AppendMany) -> list[Appended | Exception]:
    answers: list[Appended | Exception] = []
    for post in command.posts:
        try:
            answers.append(append(batch, post))
        except BusError as refusal:
            answers.append(refusal.without_traceback())
    return answers


def _record_sender(batch: Batch, head: Head, command: Append) -> None:
    """Make the sender a participant, or raise its read_seq if it is one."""
    message = command.message
    read = max(message.based_on_seq, read_in(command.position, head.epoch))
    if not batch.record_author(message.thread, message.sender, message.seq, read):
        batch.add_participant(message.thread, message.sender, with_own(read, message.seq))


def _earlier(
    batch: Batch, head: Head, message: Message, hashed: bytes
) -> tuple[int, Timestamp] | None:
    """Returns seq and create_time of the message posted with this request_id, or None.

    Raises RequestIdReused if that was a different post.
    """
    request = batch.request(head.thread_id, message.sender, message.request_id)
    if request is None:
        return None
    if request.post_hash != hashed:
        raise RequestIdReused(message.request_id, request.seq)
    create_time = Timestamp()
    create_time.FromMicroseconds(request.time)
    return request.seq, create_time


def _check_post(head: Head, command: Append) -> None:
    message = command.message
    if command.epoch and command.epoch != head.epoch:
        raise CursorInvalid(head_seq=head.seq, epoch=head.epoch, past_head=False)
    if head.state != THREAD_STATE_OPEN:
        raise ThreadClosed(message.thread)
    strict = head.sync_mode == SYNC_MODE_STRICT and message.sender_kind != AGENT_KIND_HUMAN
    if strict and command.expected_last_seq is None:
        raise ExpectedSeqRequired(message.thread, head.seq)
    if command.expected_last_seq is not None and command.expected_last_seq != head.seq:
        raise SeqConflict(command.expected_last_seq, head.seq)
    if message.based_on_seq > head.seq:
        raise ValidationFailed(("based_on_seq", f"the thread's newest message is {head.seq}"))
    if message.reply_to > head.seq:
        raise MessageNotFound(message.thread, message.reply_to, head.seq)


def _check_edit(batch: Batch, message: Message) -> None:
    """Raises a BusError if the sender may not edit the message."""
    seq = message.edit_of
    entry = batch.entry(message.thread, seq)
    if entry.sender != message.sender or message.sender == ANONYMOUS:
        raise AccessDenied(f"message {seq} is {entry.sender}'s: only its sender may edit it")
    if not entry.editable:
        raise ValidationFailed(("edit_of", f"entry {seq} is no message to edit"))
    if entry.edit_of:
        raise ValidationFailed(("edit_of", f"entry {seq} is an edit: edit message {entry.edit_of}"))
