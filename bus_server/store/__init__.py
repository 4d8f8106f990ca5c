"""What the bus asks of a store: commands, which it commits in batches, and reads.

A store is the truth. It decides seqs, and everything that decides about a post (is it a repetition,
does the expectation hold, is the thread open) is decided inside its transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from bus_server.errors import BusError
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread, ThreadState

R = TypeVar("R")

#: Seqs stay below this: a message's id is its thread's id and its seq, 32 bits each.
MAX_SEQ = (1 << 32) - 1


class Command(Generic[R]):
    """A write. R is what it answers; it may raise a BusError instead, and then changes nothing."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """About how many bytes it carries, for the writer's bounds."""
        return 256


@dataclass(frozen=True, slots=True)
class Append(Command["Appended"]):
    """Append `message` (all of it but seq and create_time) to its thread.

    A request_id that the sender used before is answered first of all: what follows may have
    changed since. Then the epoch (unless empty), the thread's state and expected_last_seq (unless
    None) are checked, then that what the message refers to exists.
    """

    message: Message
    expected_last_seq: int | None = None
    epoch: str = ""
    #: Register the sender at need: the post is an operator's on its behalf.
    register_sender: bool = False

    @property
    def size(self) -> int:
        return self.message.ByteSize() + 256


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a message is."""

    seq: int
    create_time: int  # microseconds since the epoch
    deduplicated: bool
    last_seq: int
    epoch: str


@dataclass(frozen=True, slots=True)
class CreateThread(Command[Thread]):
    """Create the thread: name, topic, labels and creator are taken from `thread`."""

    thread: Thread


@dataclass(frozen=True, slots=True)
class JoinThread(Command["Joined"]):
    """Make `agent` (None: nobody who is remembered) a participant of a thread."""

    thread: Thread  # name, and topic and creator for when it is created
    create: bool
    agent: str | None
    from_first: bool
    context_limit: int
    context_bytes: int


@dataclass(frozen=True, slots=True)
class Joined:
    """A thread as it was entered."""

    thread: Thread
    created: bool
    after_seq: int
    context: Sequence[Message]


@dataclass(frozen=True, slots=True)
class SetThreadState(Command[Thread]):
    """Set a thread's state, with a THREAD entry by `sender` unless it is in that state already."""

    name: str
    state: ThreadState.ValueType
    entry: Message  # sender and sender_kind


@dataclass(frozen=True, slots=True)
class DeleteThread(Command[None]):
    """Delete a thread. What it held is cleared by Purge afterwards."""

    name: str


@dataclass(frozen=True, slots=True)
class Purge(Command[bool]):
    """Clear a part of what deleted threads held. Answers whether there is more."""


@dataclass(frozen=True, slots=True)
class RegisterAgent(Command[Agent]):
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
class SaveReads(Command[None]):
    """Raise what agents have read, (agent, thread, epoch) → seq. What fits no thread is dropped."""

    reads: Mapping[tuple[str, str, str], int]

    @property
    def size(self) -> int:
        return 256 * len(self.reads)


class Head(NamedTuple):
    """Where a thread's log ends."""

    thread_id: int
    epoch: str
    seq: int
    state: ThreadState.ValueType


@dataclass(slots=True)
class Commit:
    """What a batch did."""

    #: One for each command, in order: its answer, or why it was refused.
    outcomes: list[Any | BusError] = field(default_factory=list)
    #: What was appended to each thread, ascending.
    entries: dict[str, list[Message]] = field(default_factory=dict)
    #: Where each of these threads ends now.
    heads: dict[str, Head] = field(default_factory=dict)
    #: Threads deleted: name and id.
    deleted: list[tuple[str, int]] = field(default_factory=list)

    def add(self, later: "Commit") -> None:
        """Take in what a later commit did."""
        for name, _ in later.deleted:
            # What comes under the name from here on is another thread's.
            self.heads.pop(name, None)
            self.entries.pop(name, None)
        self.outcomes += later.outcomes
        self.heads |= later.heads
        self.deleted += later.deleted
        for name, entries in later.entries.items():
            self.entries.setdefault(name, []).extend(entries)


class Page(NamedTuple):
    """A run of a thread's log, ascending, and its head in the same snapshot."""

    head: Head
    messages: list[Message]


class Place(NamedTuple):
    """Where a thread stands among the threads, last active first.

    The order is that of one moment, `as_of`, so that a thread which gets a post while somebody
    pages through the list is neither left out nor listed twice.
    """

    as_of: int  # microseconds since the epoch, as the next
    active: int  # its last activity until then
    thread_id: int


class Owner(NamedTuple):
    """Whose a token is."""

    agent: str  # empty: an operator
    kind: int


class Store(Protocol):
    """The interface the bus really calls. Reads see what was committed before they began."""

    epoch: str

    async def commit(self, commands: Sequence[Command[Any]]) -> Commit:
        """Run the commands as one transaction, durable when this returns.

        A command that is refused, or fails, does so alone. Raises StoreBusy when the store is
        locked by somebody else for too long, StorageFull when the disk is; then nothing was done.
        """

    async def foreign_version(self) -> int:
        """A number that changes when somebody else has written to the store."""

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        """Where these threads end; those that do not exist are left out."""

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[Message]:
        """Messages after < seq <= upto of a thread, ascending, until max_bytes; [] if deleted."""

    async def page(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> Page:
        """Messages after < seq < before (0: no bound). Raises ThreadNotFound."""

    async def senders(self, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
        """Who sent these messages of a thread."""

    async def threads(self, names: Sequence[str]) -> list[Thread]:
        """Threads by name; those that do not exist are left out."""

    async def list_threads(
        self,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: Place | None,
    ) -> list[tuple[Thread, Place]]:
        """Threads, last active first, each with its place in that order; those after a place."""

    async def agent(self, name: str) -> Agent | None:
        """An agent, if it is registered."""

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        """Agents by name, after the name given."""

    async def owner(self, token_hash: bytes) -> Owner | None:
        """Whose token has this hash."""
