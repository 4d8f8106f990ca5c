"""The commands that a store commits in batches, and what they return.

The store is the source of truth. It assigns seqs, and it checks a post in the transaction that
appends it: whether the request_id was used, whether the thread is open, whether expected_last_seq
holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server.errors import BusError
from bus_server.permissions import Conditions
from bus_server.store.asked_rows import Asked, AskedKey
from bus_server.store.bodies import message_body
from bus_server.store.post_hash import post_hash
from threadbus.v1.agent_pb2 import (
    PRESENCE_UNSPECIFIED,
    Agent,
    AgentKind,
    Participant,
    Presence,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, PRIORITY_NORMAL, Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, SyncMode, Thread, ThreadState

R = TypeVar("R")

#: A message as it is stored: its sender and its bytes, a serialised threadbus.v1.Message. A plain
#: tuple, which takes half the time of a named one to create.
Row = tuple[str, bytes]

#: The field Message.wakes in a serialised message: its key, and the value WAKE_ALL.
_WAKES, _ALL = b"\xa0\x01", b"\x01"


def may_be_quiet(body: bytes) -> bool:
    """Returns False if a stored message surely wakes everybody, which is seen without parsing it.

    `wakes` is its last field, except that edit_seq may follow, which takes at most 7 bytes.
    """
    at = body.find(_WAKES, -10)
    return at >= 0 and body[at + 2 : at + 3] != _ALL


#: Maximum of ThreadUnread.addressed_count, and of open_request_count.
MAX_ADDRESSED_COUNT = 1_000

#: The highest seq of a thread: a message's id is its thread's id and its seq, of 32 bits each.
MAX_SEQ = (1 << 32) - 1


class Command(Generic[R]):
    """A write that returns an R. If it is refused with a BusError, it changes nothing."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """The approximate size in bytes, by which the writer limits its queue and batches."""
        return 256


# Append and Appended are not frozen: one of each is created for each post, and creating a frozen
# dataclass takes three times as long.
@dataclass(slots=True)
class Append(Command["Appended"]):
    """Append a message to a thread. The store adds seq and create_time. An edit has edit_of set.

    Checked in this order: whether the thread exists; whether the sender used the request_id before
    (then only whether the post is the same, as all else may have changed since); the epoch; the
    thread's state and sync_mode; expected_last_seq; based_on_seq; whether the message replied to
    and the agents addressed exist; whether the sender may edit the message; whether the thread has
    seqs left; and with register_sender, whether the sender was unregistered.
    """

    thread: str
    sender: str
    sender_kind: AgentKind.ValueType
    #: As `message_body` returns it for the Message without seq, create_time and wakes.
    body: bytes
    #: Empty: there is none. Then post_hash is empty, too; else it is as post_hash.py says.
    request_id: str = ""
    post_hash: bytes = b""
    #: The Message without content and attachments. None for a plain post, which has only content,
    #: priority NORMAL, and perhaps a request_id and a traceparent.
    header: Message | None = None
    #: None: not checked.
    expected_last_seq: int | None = None
    #: Empty: not checked.
    epoch: str = ""
    #: An operator posts on the sender's behalf: register the sender if it is not registered.
    register_sender: bool = False
    size: int = 256
    #: The sender's position in the thread, if it has one that no checkpoint has written.
    position: "Position | None" = None

    @classmethod
    def of(cls, message: Message, **options: Any) -> "Append":
        """Returns the command that appends a message. Clears its content and attachments.

        `options`: any of expected_last_seq, epoch, register_sender and position.
        """
        hashed = post_hash(message) if message.request_id else b""
        wakes = message.wakes
        message.ClearField("wakes")
        body = message_body(message)
        message.wakes = wakes
        message.ClearField("content")
        message.ClearField("attachments")
        header = Message()  # a message keeps the memory of what was cleared
        header.CopyFrom(message)
        return cls(
            message.thread,
            message.sender,
            message.sender_kind,
            body,
            message.request_id,
            hashed,
            header,
            size=len(body) + 256,
            **options,
        )

    def whole_header(self) -> Message:
        """Returns the Message without content and attachments.

        That of a plain post has no request_id and no traceparent, either.
        """
        return self.header or Message(
            thread=self.thread,
            sender=self.sender,
            sender_kind=self.sender_kind,
            kind=MESSAGE_KIND_CHAT,
            priority=PRIORITY_NORMAL,
        )


@dataclass(slots=True)
class Appended:
    """Where a message was appended, now or by an earlier post with its request_id."""

    seq: int
    create_time: Timestamp
    deduplicated: bool  # an earlier post appended it
    last_seq: int  # of the thread, as of this command
    epoch: str


@dataclass(frozen=True, slots=True)
class AppendMany(Command["list[Appended | Exception]"]):
    """Append messages in order. Each has its own outcome: one refusal does not stop the others."""

    posts: Sequence[Append]

    @property
    def size(self) -> int:
        return sum(post.size for post in self.posts)


@dataclass(frozen=True, slots=True)
class CreateThread(Command[Thread]):
    """Create a thread and return it. Raises ThreadExists.

    The store sets epoch, state and times.
    """

    thread: Thread


@dataclass(frozen=True, slots=True)
class JoinThread(Command["Joined"]):
    """Make `agent` a participant of a thread.

    Raises ThreadNotFound if the thread does not exist and `create` is not set.

    The rest of a JoinThread response is read afterwards, by Store.entrance: it may be megabytes.
    """

    thread: Thread  # the name, and what the thread is created with
    create: bool  # create the thread if it does not exist
    agent: str | None  # None: an anonymous caller, which does not become a participant
    from_first: bool  # a new participant starts before the first entry, not at the head
    #: Limits of the response, for Store.entrance.
    context_limit: int
    context_bytes: int
    participant_limit: int = 0


class Joined(NamedTuple):
    """The thread that was joined, and the seq after which the agent continues reading."""

    thread_id: int
    created: bool
    after_seq: int
    #: If the thread was created: names of threads that differ from its name only by case.
    similar: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Entrance:
    """The thread, context and participants of a JoinThread response, read in one snapshot."""

    thread: Thread
    context: Sequence[Message]
    participants: Sequence[Participant]


@dataclass(frozen=True, slots=True)
class SetThreadState(Command[Thread]):
    """Set a thread's state and return the thread. Raises ThreadNotFound.

    Appends a THREAD entry if the state changes. Raises QuotaExceeded if the thread is full, and
    CursorInvalid or AccessDenied if the conditions do not hold.
    """

    name: str
    state: ThreadState.ValueType
    entry: Message  # of the THREAD entry: sender, sender_kind and traceparent
    position: "Position | None" = None  # as in Append
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class UpdateThread(Command[Thread]):
    """Copy `fields` of a thread from `settings` and return the thread. Raises ThreadNotFound.

    Appends a THREAD entry if any of them changes. Raises QuotaExceeded if the thread is full, and
    CursorInvalid or AccessDenied if the conditions do not hold.
    """

    name: str
    entry: Message  # of the THREAD entry: sender, sender_kind and traceparent
    settings: Thread
    fields: Sequence[str]
    position: "Position | None" = None  # as in Append
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class LeaveThread(Command[None]):
    """Remove an agent from a thread's participants, if it is one. Raises ThreadNotFound."""

    name: str
    agent: str


@dataclass(frozen=True, slots=True)
class DeleteThread(Command[None]):
    """Delete a thread. Purge deletes its messages afterwards. Raises ThreadNotFound.

    Raises CursorInvalid or AccessDenied if the conditions do not hold.
    """

    name: str
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class Purge(Command[bool]):
    """Delete some rows of deleted threads. Returns False if there were none."""


class Registered(NamedTuple):
    """An agent, and whether this command registered it."""

    agent: Agent
    created: bool


@dataclass(frozen=True, slots=True)
class RegisterAgent(Command[Registered]):
    """Register an agent with its token's hash. If it is registered with that token, return it.

    Raises AgentExists, TokenExpired, ValidationFailed if the token belongs to another agent, and
    AccessDenied if it is a new person and no operator registers it.
    """

    agent: Agent
    token_hash: bytes
    #: Whether an operator registers it. An agent without a valid token, such as one that a post on
    #: its behalf registered, then gets this token.
    operator: bool


@dataclass(frozen=True, slots=True)
class UpdateAgent(Command[Agent]):
    """Copy `fields` of an agent from `settings` and return the agent. Raises AgentNotFound."""

    name: str
    settings: Agent
    fields: Sequence[str]


@dataclass(frozen=True, slots=True)
class UnregisterAgent(Command[None]):
    """Remove an agent, its tokens, and its participation in threads. Raises AgentNotFound.

    Only an operator can register its name again.
    """

    name: str


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """The stored presence of an agent, as of a checkpoint.

    It consists of three parts, each with the time of its newest evidence: several servers may have
    evidence about an agent, and of each part the newest counts. Times are in microseconds on the
    store's clock.
    """

    agent: str
    #: Its last sign of life, and the end of its lease; 0: it was found to be LAPSED.
    last_seen_time: int
    lease_end_time: int
    #: What it reported, until newer evidence replaced that (then UNSPECIFIED); OFFLINE: that it
    #: ended its session. The time is 0 if the server only knows of other calls: they end an
    #: OFFLINE that is older than they are.
    state_time: int = 0
    reported: Presence.ValueType = PRESENCE_UNSPECIFIED
    status_text: str | None = None  # None: the stored text is kept
    #: When messages were last delivered to it, or its work on them was done; and until when it
    #: counts as WORKING on them; 0: it does not.
    work_time: int = 0
    working_end_time: int = 0
    #: Whether it sent a heartbeat since it was last LAPSED or OFFLINE, so that it does not count as
    #: WORKING once its lease has ended. Goes by state_time.
    sends_heartbeats: bool = False


class Position(NamedTuple):
    """The last seqs of a thread that were delivered to an agent, and read by it.

    `passed_over` is the last one that it read through a filter; 0: none.
    """

    epoch: str
    delivered: int
    read: int
    passed_over: int = 0

    def up_to(self, other: "Position") -> "Position":
        """Returns this position raised to the seqs of another where they are higher."""
        return Position(self.epoch, *map(max, self[1:], other[1:]))


def read_in(position: Position | None, epoch: str) -> int:
    """Returns a position's read seq; 0 if there is no position or the epochs differ."""
    return position.read if position is not None and position.epoch == epoch else 0


@dataclass(frozen=True, slots=True)
class Checkpoint(Command[None]):
    """Store the presence of agents, and raise their positions in threads.

    Positions of agents that are not participants, or of other epochs, are dropped. So are parts of
    presence that are older than the stored ones, and the presence of an unregistered agent. Stored
    parts whose time is in the future are always replaced.
    """

    presence: Sequence[PresenceRow]
    #: By agent and thread.
    positions: Mapping[tuple[str, str], Position]
    #: When tokens were last used, by hash, in microseconds since the Unix epoch.
    token_uses: Mapping[bytes, int] = field(default_factory=dict)


class Head(NamedTuple):
    """The first and last seq of a thread's log, and its state.

    The epoch identifies one thread of this name, and one history of it; it is never reused. Of two
    threads with the same name, the newer one has the greater id.
    """

    thread_id: int
    epoch: str
    seq: int  # of the newest entry; 0: there is none
    state: ThreadState.ValueType
    sync_mode: SyncMode.ValueType = SYNC_MODE_OFF
    first_seq: int = 1


@dataclass(slots=True)
class Commit:
    """The result of committing a batch of commands."""

    #: The result or exception of each command, in order.
    outcomes: list[Any | BusError] = field(default_factory=list)
    #: The entries appended to each thread, by seq, ascending.
    entries: dict[str, dict[int, Row]] = field(default_factory=dict)
    #: By thread, and by the seq of a message that was edited: the seq of its newest edit.
    edited: dict[str, dict[int, int]] = field(default_factory=dict)
    #: The new heads of threads to which entries were appended.
    heads: dict[str, Head] = field(default_factory=dict)
    #: The new heads of threads whose oldest entries were removed. Later ones are in `heads`.
    compacted: dict[str, Head] = field(default_factory=dict)
    #: The name and epoch of each thread deleted.
    deleted: list[tuple[str, str]] = field(default_factory=list)
    #: Agents that became participants of threads, each with the thread's head then and its
    #: read_seq (as in Membership), or that no longer are (None); by thread and agent.
    members: dict[str, dict[str, tuple[Head, int] | None]] = field(default_factory=dict)
    #: The agents to which the entries that were appended are addressed, by thread.
    addressed: dict[str, set[str]] = field(default_factory=dict)
    #: The requests that were opened or changed, by thread and AskedKey.
    asked: dict[str, dict[AskedKey, Asked]] = field(default_factory=dict)
    #: Whether it created or changed a thread that has a retention of its own.
    retained: bool = False
    #: Whether it ended tokens, or changed the presence, positions or open waits of agents.
    agents_changed: bool = False
    #: When it was committed, in seconds on the system's monotonic clock; 0: not yet.
    time: float = 0.0

    def add(self, later: "Commit") -> None:
        """Merge the results of a later commit into this one."""
        for name, _ in later.deleted:
            self._forget(name)  # these changes were made to the deleted thread
            self.heads.pop(name, None)
            self.compacted.pop(name, None)
        for name, head in later.heads.items():
            if name in self.heads and self.heads[name].epoch != head.epoch:
                # Another server deleted and recreated the thread between the two commits.
                self._forget(name)
        self.outcomes += later.outcomes
        shortened = {name: head for name, head in later.compacted.items() if name in self.heads}
        self.heads |= shortened | later.heads
        self.compacted |= later.compacted
        self.deleted += later.deleted
        self.retained |= later.retained
        self.agents_changed |= later.agents_changed
        self.time = later.time
        for name, entries in later.entries.items():
            self.entries.setdefault(name, {}).update(entries)
        for name, edited in later.edited.items():
            self.edited.setdefault(name, {}).update(edited)
        for name, members in later.members.items():
            self.members.setdefault(name, {}).update(members)
        for name, addressed in later.addressed.items():
            self.addressed.setdefault(name, set()).update(addressed)
        for name, asked in later.asked.items():
            self.asked.setdefault(name, {}).update(asked)

    def new_heads(self) -> dict[str, Head]:
        """Returns the new heads of all threads, by name."""
        return self.compacted | self.heads

    def _forget(self, thread: str) -> None:
        """Forget what was changed in a thread."""
        changed: tuple[dict[str, Any], ...]
        changed = self.entries, self.edited, self.members, self.addressed, self.asked
        for changes in changed:
            changes.pop(thread, None)


class Excerpt(NamedTuple):
    """Consecutive rows of a thread's log, ascending, and its head in the same snapshot."""

    head: Head
    start: int  # seq of the first row
    rows: list[Row]


class Membership(NamedTuple):
    """What is stored of an agent as a participant of a thread."""

    read_seq: int  # NOT_STARTED: it was only mentioned or handed off to
    passed_over: int
    addressed_seq: int = 0  # of the newest entry that addresses it; 0: there is none


class ThreadPageKey(NamedTuple):
    """A thread's position in the list of threads, which is in descending order of these keys."""

    active: int  # the order time of its last activity: see sqlite/order.py
    thread_id: int
