"""The commands that a store commits, in batches, and what they return. interface.py has the reads.

The store is the truth. It assigns seqs, and it checks a post inside its transaction: whether the
request_id was used, whether the thread is open, whether expected_last_seq holds.
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

#: A message as it is stored: its sender and its bytes, a serialised threadbus.v1.Message. Plain
#: tuples, which are made in half the time of named ones.
Row = tuple[str, bytes]


def with_edit_seq(body: bytes, edit_seq: int) -> bytes:
    """Returns a serialised message with this edit_seq: of a field set twice the last one counts."""
    return body + Message(edit_seq=edit_seq).SerializeToString()


#: Seqs stay below this: a message's id is its thread's id and its seq, 32 bits each.
MAX_SEQ = (1 << 32) - 1


class Command(Generic[R]):
    """A write that returns an R, or fails with a BusError and then changes nothing."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """About how many bytes it carries. The writer bounds its queue and batches by it."""
        return 256


# There is one of these two for each post. A frozen dataclass takes three times as long to create.
@dataclass(slots=True)
class Append(Command["Appended"]):
    """Append `message` to its thread; the store sets seq and create_time. An edit has edit_of.

    Checked in this order: whether the sender used the request_id before (then nothing else is
    checked, as it may have changed since), the epoch (unless empty), the thread's state and mode,
    expected_last_seq (unless None), and whether the messages and agents that it names exist.
    """

    message: Message
    expected_last_seq: int | None = None
    epoch: str = ""
    #: Register the sender if needed: an operator posts on its behalf.
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
    """Append messages in order. Each has its own outcome: one that is refused stops none."""

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

    The rest of a JoinThread response is read afterwards, by Store.entrance: it may have megabytes.
    """

    thread: Thread  # the name, and what the thread is created with
    create: bool
    agent: str | None
    from_first: bool
    context_limit: int
    context_bytes: int
    participant_limit: int = 0


class Joined(NamedTuple):
    """The thread that was joined, and the seq to read on from."""

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
    """Set these fields to what they are in `settings`, with a THREAD entry if that changes any."""

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
    """Delete a part of what deleted threads left behind. Returns whether there is more."""


class Registered(NamedTuple):
    """An agent, and whether this call registered it."""

    agent: Agent
    created: bool


@dataclass(frozen=True, slots=True)
class RegisterAgent(Command[Registered]):
    """Register an agent with its token's hash. Returns the agent if it is registered with the same.

    `claim`: allow this for an agent without a token, which an operator's post registered.
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
    """Set these fields to what they are in `settings`."""

    name: str
    settings: Agent
    fields: Sequence[str]


@dataclass(frozen=True, slots=True)
class UnregisterAgent(Command[None]):
    """Remove an agent with its tokens and its participation in threads. Its name stays taken."""

    name: str


@dataclass(frozen=True, slots=True)
class RotateToken(Command[dict[bytes, int]]):
    """Add a token to an agent. Its others expire at `expire_time` at the latest.

    Returns when each of those expires, by its hash.
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
    """The seqs that an agent was delivered and has read in a thread."""

    epoch: str
    delivered: int
    read: int

    def up_to(self, delivered: int, read: int) -> "Position":
        """Returns this position raised to these seqs where they are higher."""
        return Position(self.epoch, max(self.delivered, delivered), max(self.read, read))


def read_in(position: Position | None, epoch: str) -> int:
    """Returns the read seq of a position in the history of this epoch; 0 without one."""
    return position.read if position is not None and position.epoch == epoch else 0


@dataclass(frozen=True, slots=True)
class Checkpoint(Command[None]):
    """Store the presence of agents, and raise their positions in threads.

    Positions are by agent and thread. Those of agents that take no part are dropped, and so is
    presence that is older than what is stored. Its size does not count: all of it is in memory
    anyway, and what is refused for its size now would always be refused.
    """

    presence: Sequence[PresenceRow]
    positions: Mapping[tuple[str, str], Position]


class Head(NamedTuple):
    """Where a thread's log begins and ends.

    The epoch says which thread of this name, and which history of it, is meant; it is never used
    again. Of two threads of one name the newer one has the greater id.
    """

    thread_id: int
    epoch: str
    seq: int
    state: ThreadState.ValueType
    sync_mode: SyncMode.ValueType = SYNC_MODE_OFF
    first_seq: int = 1


@dataclass(slots=True)
class Commit:
    """What a batch of commands did."""

    #: What each command returned or raised, in order.
    outcomes: list[Any | BusError] = field(default_factory=list)
    #: What was appended to each thread, by seq, ascending.
    entries: dict[str, dict[int, Row]] = field(default_factory=dict)
    #: Messages of each thread that were edited, by seq: the seq of the newest edit.
    edited: dict[str, dict[int, int]] = field(default_factory=dict)
    #: The new heads of threads that got entries.
    heads: dict[str, Head] = field(default_factory=dict)
    #: Threads deleted: name and epoch.
    deleted: list[tuple[str, str]] = field(default_factory=list)

    def add(self, later: "Commit") -> None:
        """Add what a later commit did."""
        for name, _ in later.deleted:
            # From here on the name is another thread's.
            self.heads.pop(name, None)
            self.entries.pop(name, None)
            self.edited.pop(name, None)
        for name, head in later.heads.items():
            if name in self.heads and self.heads[name].epoch != head.epoch:
                # Another server made it anew between the two.
                self.entries.pop(name, None)
                self.edited.pop(name, None)
        self.outcomes += later.outcomes
        self.heads |= later.heads
        self.deleted += later.deleted
        for name, entries in later.entries.items():
            self.entries.setdefault(name, {}).update(entries)
        for name, edited in later.edited.items():
            self.edited.setdefault(name, {}).update(edited)


class Page(NamedTuple):
    """A run of a thread's log, ascending without gaps, and its head in the same snapshot."""

    head: Head
    start: int  # seq of the first row
    rows: list[Row]


class ThreadPageKey(NamedTuple):
    """A thread's place in the list of threads, which goes from the greatest key down."""

    active: int  # its last activity, an order time (order.py)
    thread_id: int


class TokenOwner(NamedTuple):
    """The agent that a token belongs to."""

    agent: str  # empty: an operator
    kind: int
    expire_time: int  # on the store's clock; 0: never
