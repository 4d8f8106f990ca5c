"""One history of a thread, as lists and dicts; and the content of a refusal."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from threadbus.v1.bus_service_pb2 import (
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import (
    WAKE_ADDRESSED,
    WAKE_ALL,
    WAKE_NOBODY,
    Cursor,
    Message,
    MessageFilter,
    Wake,
)
from threadbus.v1.thread_pb2 import Thread, ThreadPosition

ANONYMOUS, OPERATOR = "anonymous", "operator"


class Refusal(NamedTuple):
    """An error: status code, ErrorInfo, and the fields or resources that it names."""

    code: str
    reason: str
    metadata: dict[str, str]
    named: list[str]


def refusal(code: str, reason: str, *named: str, **metadata: object) -> Refusal:
    return Refusal(code, reason, {key: str(value) for key, value in metadata.items()}, list(named))


def no_thread(*names: str) -> Refusal:
    return refusal("NOT_FOUND", "THREAD_NOT_FOUND", *names)


def invalid(field_path: str) -> Refusal:
    return refusal("INVALID_ARGUMENT", "VALIDATION_FAILED", field_path)


class Member(NamedTuple):
    """A participant: when it became one, and its positions."""

    join_time: Timestamp
    delivered: int
    read: int


@dataclass
class History:
    """A thread from its creation to its deletion."""

    thread: Thread  # as GetThread returns it
    number: int  # in the order of creation
    log: list[Message] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    #: How many of the newest entries are kept for now; None: all.
    keeps: int | None = None
    #: The senders of the messages that others reply to, by the reply's seq.
    answered: dict[int, str] = field(default_factory=dict)

    def copy(self) -> "History":
        thread = Thread()
        thread.CopyFrom(self.thread)
        return replace(
            self,
            thread=thread,
            log=list(self.log),
            members=dict(self.members),
            answered=dict(self.answered),
        )

    @property
    def head(self) -> int:
        return len(self.log)

    @property
    def first(self) -> int:
        """The seq of the oldest entry that is kept. The log has the others, too."""
        return self.thread.first_seq

    def learn(self, first: int) -> None:
        """Take note that the entries before `first` were removed, if they can have been."""
        if self.keeps is not None and self.first < first <= self.head - self.keeps + 1:
            self.thread.first_seq = first

    def append(self, message: Message) -> None:
        message.seq = self.head + 1
        if message.reply_to >= self.first:
            self.answered[message.seq] = self.log[message.reply_to - 1].sender
        self.log.append(message)
        self.thread.head_seq = message.seq
        self.thread.update_time.CopyFrom(message.create_time)

    def edit(self, message: Message) -> None:
        """Apply an appended edit: the edited message has its seq wherever it is read."""
        edited = Message()  # a new one: copies of the model share the old
        edited.CopyFrom(self.log[message.edit_of - 1])
        edited.edit_seq = message.seq
        self.log[message.edit_of - 1] = edited

    def participate(
        self, agent: str, now: Timestamp, *, delivered: int = 0, read: int = -1
    ) -> None:
        """Make an agent a participant, or raise its positions. `read` -1: it has not started."""
        was = self.members.get(agent, Member(now, 0, -1))
        self.members[agent] = Member(
            was.join_time, max(was.delivered, delivered), max(was.read, read)
        )

    def holds(self, cursor: Cursor) -> bool:
        """Returns whether a cursor is of this history and not past its head."""
        return cursor.epoch in ("", self.thread.epoch) and cursor.after_seq <= self.head

    def at(self, seq: int) -> Cursor:
        return Cursor(thread=self.thread.name, after_seq=seq, epoch=self.thread.epoch)

    def position(self, cursor: Cursor) -> ThreadPosition:
        return ThreadPosition(
            cursor=cursor, head_seq=self.head, first_seq=self.first, state=self.thread.state
        )

    def cursor_invalid(self) -> Refusal:
        return refusal(
            "OUT_OF_RANGE",
            "CURSOR_INVALID",
            first_seq=self.first,
            head_seq=self.head,
            epoch=self.thread.epoch,
        )

    def wanted(
        self, wish: MessageFilter, caller: str, after: int, upto: int, first: int = 0
    ) -> list[Message]:
        """Returns the messages with after < seq <= upto that match the caller's filter.

        `first`: the oldest entry that is kept when they are read; 0: as it is now.
        """
        first = first or self.first
        read = self.log[max(after, first - 1) : upto]
        return [message for message in read if self.wants(wish, caller, message, first)]

    def wants(self, wish: MessageFilter, caller: str, message: Message, first: int = 0) -> bool:
        """Returns whether the filter matches the message, or all but its kind the one it edits."""
        first = first or self.first
        if wish.kinds and message.kind not in wish.kinds:
            return False
        return self._wants(wish, caller, message, first) or (
            message.edit_of >= first
            and self._wants(wish, caller, self.log[message.edit_of - 1], first)
        )

    def _wants(self, wish: MessageFilter, caller: str, message: Message, first: int) -> bool:
        answered = self.answered.get(message.seq, "")
        if answered == message.sender and message.reply_to < first:
            answered = ""  # of what is gone, only other agents are known
        return (
            (not wish.senders or message.sender in wish.senders)
            and message.priority >= wish.min_priority
            and not (wish.exclude_own and message.sender == caller != ANONYMOUS)
            and (
                not wish.addressed_to_me
                or caller in (*message.mentions, message.handoff_to, answered)
            )
        )

    def addresses(self, message: Message) -> set[str]:
        """Returns the agents that a message addresses."""
        answered = self.answered.get(message.seq, "")
        return {*message.mentions, message.handoff_to, answered} - {"", ANONYMOUS, message.sender}

    def wakes_of(self, edit: Message) -> Wake.ValueType:
        """Returns whom an edit wakes: nobody if it repeats the text, else as its message."""
        edited = self.log[edit.edit_of - 1]
        newest = self.log[(edited.edit_seq or edited.seq) - 1]
        adds = edit.reply_to or edit.mentions or edit.handoff_to
        return WAKE_NOBODY if newest.content == edit.content and not adds else edited.wakes

    def wakes(self, message: Message, caller: str) -> bool:
        """Returns whether a message wakes a caller."""
        if message.wakes == WAKE_ADDRESSED:
            return caller in self.addresses(message)
        return message.wakes == WAKE_ALL

    def no_message(self, seq: int) -> Refusal:
        return refusal("NOT_FOUND", "MESSAGE_NOT_FOUND", f"{self.thread.name}/{seq}")

    def page(self, request: ListMessagesRequest, caller: str) -> ListMessagesResponse | Refusal:
        if request.epoch not in ("", self.thread.epoch) or request.after_seq > self.head:
            return self.cursor_invalid()
        low = max(request.after_seq, self.first - 1)
        last = min(request.before_seq - 1, self.head) if request.before_seq else self.head
        found = self.wanted(request.filter, caller, low, last)
        page = found[-request.limit :] if request.newest else found[: request.limit]
        response = ListMessagesResponse(
            messages=page, head_seq=self.head, first_seq=self.first, epoch=self.thread.epoch
        )
        # What lies behind the last message of a full page was not examined.
        full = len(page) == request.limit
        if request.newest:
            response.next_after_seq = last
            response.next_before_seq = page[0].seq if full else min(low, last) + 1
            response.has_more = response.next_before_seq > low + 1
        else:
            response.next_before_seq = request.after_seq + 1
            response.next_after_seq = page[-1].seq if full else max(low, last)
            response.has_more = response.next_after_seq < last
        return response

    def posted(self, message: Message, *, deduplicated: bool) -> PostMessageResponse:
        return PostMessageResponse(
            thread=message.thread,
            seq=message.seq,
            create_time=message.create_time,
            deduplicated=deduplicated,
            last_seq=self.head,
            epoch=self.thread.epoch,
        )

    def repeated(self, message: Message) -> Message | None:
        """Returns the sender's earlier post with this request_id."""
        mine = (message.sender, message.request_id)
        kept = self.log[self.first - 1 :]
        same = (m for m in kept if m.request_id and (m.sender, m.request_id) == mine)
        return next(same, None)


def body(message: Message) -> Message:
    """Returns the fields that posts with one request_id must share."""
    shared = Message()
    shared.CopyFrom(message)
    for name in ("seq", "create_time", "sender_kind", "based_on_seq", "edit_seq"):
        shared.ClearField(name)
    if message.edit_of:  # it wakes as its message
        shared.ClearField("wakes")
    return shared
