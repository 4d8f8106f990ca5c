"""What the bus asks of a store: commands, which it commits in batches. interface.py has the reads.

A store is the truth. It decides seqs, and everything that decides about a post (is it a repetition,
does the expectation hold, is the thread open) is decided inside its transaction.
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
    """Return a serialised message with this edit_seq: of a field set twice the last one counts."""
    return body + Message(edit_seq=edit_seq).SerializeToString()


#: Seqs stay below this: a message's id is its thread's id and its seq, 32 bits each.
MAX_SEQ = (1 << 32) - 1


class Command(Generic[R]):
    """A write. R is what it answers; it may raise a BusError instead, and then changes nothing."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """About how many bytes it carries, for the writer's bounds."""
        return 256


# Of these two there is one for each post, and a frozen one takes three times as long to make.
@dataclass(slots=True)
class Append(Command["Appended"]):
    """Append `message` (all but seq and create_time) to its thread; an edit if it has edit_of.

    A request_id that the sender used before is answered first of all: what follows may have
    changed since. Then the epoch (unless empty), the thread's state and mode and expected_last_seq
    (unless None) are checked, then that what the message refers to exists.
    """

    message: Message
    expected_last_seq: int | None = None
    epoch: str = ""
    #: Register the sender at need: the post is an operator's on its behalf.
    register_sender: bool = False
    size: int = 256
    #: How far the sender is in the thread, as far as the store does not know yet.
    position: "Position | None" = None


@dataclass(slots=True)
class Appended:
    """Where a message is."""

    seq: int
    create_time: Timestamp
    deduplicated: bool
    last_seq: int
    epoch: str


@dataclass(frozen=True, slots=True)
class AppendMany(Command["list[Appended | Exception]"]):
    """Append messages one after the other. Each has its own answer: a refused one stops nothing."""

    posts: Sequence[Append]

    @property
    def size(self) -> int:
        return sum(post.size for post in self.posts)


@dataclass(frozen=True, slots=True)
class CreateThread(Command[Thread]):
    """Create the thread: name, topic, labels, sync_mode and creator are taken from `thread`."""

    thread: Thread


@dataclass(frozen=True, slots=True)
class JoinThread(Command["Joined"]):
    """Make `agent` (None: nobody who is remembered) a participant of a thread.

    What it finds there is read afterwards, by Store.entrance: it may have megabytes.
    """

    thread: Thread  # name, and topic and creator for when it is created
    create: bool
    agent: str | None
    from_first: bool
    context_limit: int
    context_bytes: int
    participant_limit: int = 0


class Joined(NamedTuple):
    """Which thread was joined, and where to go on from."""

    thread_id: int
    created: bool
    after_seq: int
    #: Threads whose names differ from its name only by case, if it was created.
    similar: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Entrance:
    """The thread, context and participants for a JoinThread response, in one snapshot."""

    thread: Thread
    context: Sequence[Message]
    participants: Sequence[Participant]


@dataclass(frozen=True, slots=True)
class SetThreadState(Command[Thread]):
    """Set a thread's state, with a THREAD entry by `sender` unless it is in that state already."""

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
    """Make an agent no participant of a thread any more."""

    name: str
    agent: str


@dataclass(frozen=True, slots=True)
class DeleteThread(Command[None]):
    """Delete a thread. What it held is cleared by Purge afterwards."""

    name: str


@dataclass(frozen=True, slots=True)
class Purge(Command[bool]):
    """Clear a part of what deleted threads held. Answers whether there is more."""


class Registered(NamedTuple):
    """An agent, and whether it was registered just now."""

    agent: Agent
    created: bool


@dataclass(frozen=True, slots=True)
class RegisterAgent(Command[Registered]):
    """Register an agent with its token's hash, or find it registered with the same.

    `claim`: one that has no token yet, because an operator posted on its behalf, may be given one.
    """

    agent: Agent
    token_hash: bytes
    claim: bool


@dataclass(frozen=True, slots=True)
class SetOperatorToken(Command[None]):
    """Make this the operator's one token."""

    token_hash: bytes


@dataclass(frozen=True, slots=True)
class UpdateAgent(Command[Agent]):
    """Set these fields to what they are in `settings`."""

    name: str
    settings: Agent
    fields: Sequence[str]


@dataclass(frozen=True, slots=True)
class UnregisterAgent(Command[None]):
    """Take an agent out, with its tokens and its places in threads. Its name stays taken."""

    name: str


@dataclass(frozen=True, slots=True)
class RotateToken(Command[dict[bytes, int]]):
    """Put a token in the place of an agent's others, which end at `expire_time` at the latest.

    Answers when each of those ends, by its hash.
    """

    old_hash: bytes
    new_hash: bytes
    expire_time: int  # on the store's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was last known of an agent. Times are on the store's clock."""

    agent: str
    state: Presence.ValueType
    status_text: str | None  # None: as it was
    last_seen_time: int
    lease_end_time: int


class Position(NamedTuple):
    """How far an agent is in a thread."""

    epoch: str
    delivered: int
    read: int

    def up_to(self, delivered: int, read: int) -> "Position":
        """This one, or further where these are."""
        return Position(self.epoch, max(self.delivered, delivered), max(self.read, read))


def read_in(position: Position | None, epoch: str) -> int:
    """How far it says that an agent has read in the history of this epoch."""
    return position.read if position is not None and position.epoch == epoch else 0


@dataclass(frozen=True, slots=True)
class Checkpoint(Command[None]):
    """Write what is known of agents, and raise their positions in threads.

    Positions are by agent and thread. What fits no participant is dropped, and so is an older
    sighting than the one that is there. Its size does not count: all of it is in memory anyway, and
    what is refused for its size now would be refused for ever.
    """

    sightings: Sequence[Sighting]
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
    """What a batch did."""

    #: One for each command, in order: its answer, or why it was refused.
    outcomes: list[Any | BusError] = field(default_factory=list)
    #: What was appended to each thread, by seq, ascending.
    entries: dict[str, dict[int, Row]] = field(default_factory=dict)
    #: Messages of each thread that were edited, by seq: the seq of the newest edit.
    edited: dict[str, dict[int, int]] = field(default_factory=dict)
    #: Where each of these threads ends now.
    heads: dict[str, Head] = field(default_factory=dict)
    #: Threads deleted: name and epoch.
    deleted: list[tuple[str, str]] = field(default_factory=list)

    def add(self, later: "Commit") -> None:
        """Take in what a later commit did."""
        for name, _ in later.deleted:
            # What comes under the name from here on is another thread's.
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


class Owner(NamedTuple):
    """Whose a token is."""

    agent: str  # empty: an operator
    kind: int
    expire_time: int  # on the store's clock; 0: never
