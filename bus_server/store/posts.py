"""Decides posts: makes all checks, then appends.

The contracts are those of Append and AppendMany in commands.py. No check reads the body of a large
stored message: a post of a few bytes may edit or answer a message of 3 MiB.
"""

from collections.abc import Collection

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
from bus_server.store.asked import answer, check_quota, open_requests
from bus_server.store.batch import LARGE, Batch, with_own
from bus_server.store.commands import Append, Appended, AppendMany, Head, read_in
from bus_server.store.epochs import shared_seq
from bus_server.store.facts import ANONYMOUS, addressees
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AGENT_KIND_HUMAN, Agent, AgentKind
from threadbus.v1.message_pb2 import WAKE_ALL, WAKE_NOBODY, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_STRICT, THREAD_STATE_OPEN


def append(batch: Batch, post: Append) -> Appended:
    head = batch.head(post.thread)
    if post.request_id:
        earlier = _earlier(batch, head, post)
        if earlier is not None:
            return Appended(*earlier, True, head.seq, head.epoch)
    header, body, kind = post.header, post.body, post.sender_kind
    if post.register_sender:
        sender = batch.known(post.sender)
        kind = sender.kind if sender is not None and sender.registered else AGENT_KIND_AGENT
        body += Message(sender_kind=kind).SerializeToString()
    _check_post(head, post, kind)
    edit_of, addressed, wakes = 0, frozenset[str](), WAKE_ALL
    if header is not None:
        edit_of, addressed = header.edit_of, frozenset(addressees(header))
        _check_header(batch, head, header, addressed)
        check_quota(batch, post.thread, header.expect_reply.agents)
        edited = batch.entry(post.thread, edit_of) if edit_of else header
        wakes = edited.wakes or WAKE_ALL
        if edit_of and _changes_nothing(batch, header, post.body):
            wakes = WAKE_NOBODY
    batch.check_room(head)
    if post.register_sender and not batch.is_registered(post.sender):
        if batch.was_unregistered(post.sender):
            raise AgentExists(post.sender, unregistered=True)
        batch.register(Agent(name=post.sender, kind=AGENT_KIND_AGENT))
    seq = batch.append(post.thread, post.sender, body, edit_of, wakes)
    if post.request_id:
        batch.save_request(head.thread_id, post, seq)
    if post.sender != ANONYMOUS:
        _record_sender(batch, head, post, seq)
    if header is not None:
        for name in addressed:
            batch.add_participant(post.thread, name)
        author = batch.author(post.thread, header.reply_to) if header.reply_to else ""
        others = {*addressed, author} - {post.sender, ""}
        batch.address(post.thread, seq, sorted(others), wakes)
        if header.HasField("expect_reply"):
            open_requests(batch, seq, header)
        if header.reply_to and wakes != WAKE_NOBODY:
            answer(batch, post.thread, seq, post.sender, header.reply_to)
    return Appended(seq, batch.create_time, False, seq, head.epoch)


def _changes_nothing(batch: Batch, edit: Message, body: bytes) -> bool:
    """Returns whether an edit surely has nothing new: no files, and the text that there is.

    `edit`: without its text; `body`: the whole of it. Large texts are not compared.
    """
    if len(body) > LARGE or edit.reply_to or edit.mentions or edit.handoff_to:
        return False
    whole = Message.FromString(body)
    newest = batch.newest_text(edit.thread, edit.edit_of)
    return not whole.attachments and whole.content == newest


def append_many(batch: Batch, command: AppendMany) -> list[Appended | Exception]:
    answers: list[Appended | Exception] = []
    for post in command.posts:
        try:
            answers.append(append(batch, post))
        except BusError as refusal:
            answers.append(refusal.without_traceback())
    return answers


def _record_sender(batch: Batch, head: Head, post: Append, seq: int) -> None:
    """Make the sender a participant, or raise its read_seq if it is one."""
    read = read_in(post.position, head.epoch)
    if post.header is not None:
        read = max(read, post.header.based_on_seq)
    if not batch.record_author(post.thread, post.sender, seq, read):
        batch.add_participant(post.thread, post.sender, with_own(read, seq))


def _earlier(batch: Batch, head: Head, post: Append) -> tuple[int, Timestamp] | None:
    """Returns seq and create_time of the message that the sender posted with the same request_id.

    None if the request_id was not used. Raises RequestIdReused if it was used for a different post.
    """
    request = batch.request(head.thread_id, post.sender, post.request_id)
    if request is None:
        return None
    if request.post_hash != post.post_hash:
        raise RequestIdReused(post.request_id, request.seq)
    create_time = Timestamp()
    create_time.FromMicroseconds(request.time)
    return request.seq, create_time


def _check_post(head: Head, post: Append, sender_kind: AgentKind.ValueType) -> None:
    if post.epoch and post.epoch != head.epoch and not _still_holds(head, post):
        raise CursorInvalid(head, past_head=False)
    if head.state != THREAD_STATE_OPEN:
        raise ThreadClosed(post.thread)
    strict = head.sync_mode == SYNC_MODE_STRICT and sender_kind != AGENT_KIND_HUMAN
    if strict and post.expected_last_seq is None:
        raise ExpectedSeqRequired(post.thread, head.seq)
    if post.expected_last_seq is not None and post.expected_last_seq != head.seq:
        raise SeqConflict(post.expected_last_seq, head.seq)


def _still_holds(head: Head, post: Append) -> bool:
    """Returns whether the seqs of a post mean the same in the thread's epoch as in the post's."""
    shared, header = shared_seq(head.epoch, post.epoch), post.header or Message()
    seqs = post.expected_last_seq or 0, header.reply_to, header.edit_of, header.based_on_seq
    return shared is not None and max(seqs) <= shared


def _check_header(batch: Batch, head: Head, header: Message, addressed: Collection[str]) -> None:
    if header.based_on_seq > head.seq:
        raise ValidationFailed(("based_on_seq", f"past the thread's newest message, {head.seq}"))
    if header.reply_to > head.seq:
        raise MessageNotFound(header.thread, header.reply_to, head)
    missing = [name for name in addressed if not batch.is_registered(name)]
    if missing:
        raise AgentNotFound(sorted(missing))
    if header.edit_of:
        _check_edit(batch, header)


def _check_edit(batch: Batch, message: Message) -> None:
    """Raises a BusError if the sender may not edit the message."""
    seq = message.edit_of
    entry = batch.entry(message.thread, seq)
    if entry.sender != message.sender or message.sender == ANONYMOUS:
        raise AccessDenied(f"message {seq} was sent by {entry.sender}: only its sender may edit it")
    if not entry.editable:
        raise ValidationFailed(("edit_of", f"entry {seq} is by the server, and cannot be edited"))
    if entry.edit_of:
        raise ValidationFailed(("edit_of", f"entry {seq} is an edit; edit message {entry.edit_of}"))
