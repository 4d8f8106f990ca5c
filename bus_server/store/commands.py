"""The commands that a store commits, in batches, and what they return. interface.py has the reads.

The store is the source of truth. It assigns seqs, and it checks a post within its transaction:
whether the request_id was used, whether the thread is open, whether expected_last_seq holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server.errors import BusError
from threadbus.v1.agent_pb2 import Agent, Participant, Presence
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, SyncMode, Thread, ThreadState

R = TypeVar("R")

#: A message as it is stored: its sender and its bytes, a serialised threadbus.v1.Message. A plain
#: tuple, which takes half the time of a named one to create.
Row = tuple[str, bytes]


def with_edit_seq(body: bytes, edit_seq: int) -> bytes:
    """Returns a serialised message with edit_seq appended: a field's last value counts."""
    return body + Message(edit_seq=edit_seq).SerializeToString()


#: Seqs stay below this: a message's id is its thread's id and its seq, 32 bits each.
MAX_SEQ = (1 << 32) - 1


class Command(Generic[R]):
    """A write that returns an R, or fails with a BusError and then changes nothing."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Its approximate size in bytes, by which the writer limits its queue and batches."""
        return 256


# Not frozen, as one of the next two is created for each post: that would take three times as long.
@dataclass(slots=True)
class Append(Command["Appended"]):
    """Append `message` to its thread. The store sets seq and create_time. An edit has edit_of set.

    Checked in this order: whether the sender used the request_id before (then nothing else is
    checked, as it may have changed since), the epoch (unless empty), the thread's state and mode,
    expected_last_seq (unless None), and whether the messages and agents that it names exist.
    """

    message: Message
    expected_last_seq: int | None = None
    epoch: str = ""
    #: Whether to register the sender if needed: an operator posts on its behalf.
    register_sender: bool = False
    size: int = 256
    #: The sender's position in the thread, if it is newer than the stored one.
    position: "Position | None" = None


@dataclass(slots=True)
class Appended:
    """Where a message was appended, now or by an earlier post with its request_id."""

    seq: int
    create_time: Timestamp
    deduplicated: bool
    last_seq: int
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
    """Create a thread. Its epoch, state and times are set by the store."""

    thread: Thread


@dataclass(frozen=True, slots=True)
class JoinThread(Command["Joined"]):
    """Make `agent` (None: an anonymous caller) a participant of a thread.

    The rest of a JoinThread response is read afterwards, by Store.entrance: it may be megabytes.
    """

    thread: Thread  # the name, and what the thread is created with
    create: bool
    agent: str | None
    from_first: bool
    context_limit: int
    context_bytes: int
    participant_limit: int = 0


class Joined(NamedTuple):
    """The thread that was joined, and the seq from which to continue reading."""

    thread_id: int
    created: bool
    after_seq: int
    #: If it was created: threads whose names differ from its name only by case.
    similar: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Entrance:
    """Thread, context and participants of a JoinThread response, read in one snapshot."""

    thread: Thread
    context: Sequence[Message]
    participants: Sequence[Participant]


@dataclass(frozen=True, slots=True)
class SetThreadState(Command[Thread]):
    """Set a thread's state, with a THREAD entry if that changes it."""

    name: str
    state: ThreadState.ValueType
    entry: Message  # sender and sender_kind
    position: "Position | None" = None  # as in Append


@dataclass(frozen=True, slots=True)
class UpdateThread(Command[Thread]):
    """Copy these fields from `settings`, with a THREAD entry if that changes any of them."""

    name: str
    entry: Message  # sender and sender_kind
    settings: Thread
    fields: Sequence[str]
    position: "Position | None" = None  # as in Append


@dataclass(frozen=True, slots=True)
class LeaveThread(Command[None]):
    """Remove an agent from a thread's participants."""

    name: str
    agent: str


@dataclass(frozen=True, slots=True)
class DeleteThread(Command[None]):
    """Delete a thread. Purge deletes its messages afterwards."""

    name: str


@dataclass(frozen=True, slots=True)
class Purge(Command[bool]):
    """Delete some rows of deleted threads. Returns whether there are more."""


class Registered(NamedTuple):
    """An agent, and whether this call registered it."""

    agent: Agent
    created: bool


@dataclass(frozen=True, slots=True)
class RegisterAgent(Command[Registered]):
    """Register an agent with its token's hash, or return it if it is registered with that token.

    `claim`: whether to allow it for an agent without a token, which a post on its behalf
    registered.
    """

    agent: Agent
    token_hash: bytes
    claim: bool


@dataclass(frozen=True, slots=True)
class SetOperatorToken(Command[None]):
    """Replace the operator's token."""

    token_hash: bytes


@dataclass(frozen=True, slots=True)
class UpdateAgent(Command[Agent]):
    """Copy these fields from `settings`."""

    name: str
    settings: Agent
    fields: Sequence[str]


@dataclass(frozen=True, slots=True)
class UnregisterAgent(Command[None]):
    """Remove an agent, its tokens, and its participation in threads. Its name remains taken."""

    name: str


@dataclass(frozen=True, slots=True)
class RotateToken(Command[dict[bytes, int]]):
    """Add a token to an agent. Its others expire at `expire_time` at the latest.

    Returns the expire time of each of those, by its hash.
    """

    old_hash: bytes
    new_hash: bytes
    expire_time: int  # on the store's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRow:
    """The stored presence of an agent, as of a checkpoint. Times are on the store's clock."""

    agent: str
    state: Presence.ValueType
    status_text: str | None  # None: unchanged
    last_seen_time: int
    lease_end_time: int


class Position(NamedTuple):
    """The last seqs that were delivered to an agent and read by it in a thread."""

    epoch: str
    delivered: int
    read: int

    def up_to(self, delivered: int, read: int) -> "Position":
        """Returns this position raised to these seqs where they are higher."""
        return Position(self.epoch, max(self.delivered, delivered), max(self.read, read))


def read_in(position: Position | None, epoch: str) -> int:
    """Returns a position's read seq; 0 if there is no position or it is of another epoch."""
    return position.read if position is not None and position.epoch == epoch else 0


@dataclass(frozen=True, slots=True)
class Checkpoint(Command[None]):
    """Store the presence of agents, and raise their positions in threads.

    Positions are by agent and thread. Positions of agents that are not participants are dropped,
    and so is presence older than the stored one. Its size is 0: all of it is in memory anyway, and
    a checkpoint that is refused for its size now would be refused every time.
    """

    presence: Sequence[PresenceRow]
    positions: Mapping[tuple[str, str], Position]


class Head(NamedTuple):
    """Where a thread's log begins and ends.

    The epoch identifies one thread of this name, and one history of it; it is never reused. Of two
    threads with the same name, the newer one has the greater id.
    """

    thread_id: int
    epoch: str
    seq: int
    state: ThreadState.ValueType
    sync_mode: SyncMode.ValueType = SYNC_MODE_OFF
    first_seq: int = 1


@dataclass(slots=True)
class Commit:
    """The result of committing a batch of commands."""

    #: The result or error of each command, in order.
    outcomes: list[Any | BusError] = field(default_factory=list)
    #: The entries appended to each thread, by seq, ascending.
    entries: dict[str, dict[int, Row]] = field(default_factory=dict)
    #: Messages of each thread that were edited, by seq: the seq of the newest edit.
    edited: dict[str, dict[int, int]] = field(default_factory=dict)
    #: The new heads of threads to which entries were appended.
    heads: dict[str, Head] = field(default_factory=dict)
    #: Threads deleted: name and epoch.
    deleted: list[tuple[str, str]] = field(default_factory=list)

    def add(self, later: "Commit") -> None:
        """Add the result of a later commit."""
        for name, _ in later.deleted:
            # From now on, the name belongs to another thread.
            self.heads.pop(name, None)
            self.entries.pop(name, None)
            self.edited.pop(name, None)
        for name, head in later.heads.items():
            if name in self.heads and self.heads[name].epoch != head.epoch:
                # Another server deleted and recreated the thread between the two commits.
                self.entries.pop(name, None)
                self.edited.pop(name, None)
        self.outcomes += later.outcomes
        self.heads |= later.heads
        self.deleted += later.deleted
        for name, entries in later.entries.items():
            self.entries.setdefault(name, {}).update(entries)
        for name, edited in later.edited.items():
            self.edited.setdefault(name, {}).update(edited)


class Excerpt(NamedTuple):
    """Part of a thread's log, ascending without gaps, and its head in the same snapshot."""

    head: Head
    start: int  # seq of the first row
    rows: list[Row]


class ThreadPageKey(NamedTuple):
    """A thread's position in the list of threads, which is in descending order of these keys."""

    active: int  # its last activity, an order time (order.py)
    thread_id: int


class TokenOwner(NamedTuple):
    """The agent that a token belongs to."""

    agent: str  # empty: an operator
    kind: int
    expire_time: int  # on the store's clock; 0: never
