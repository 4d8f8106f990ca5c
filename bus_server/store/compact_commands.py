"""The command that removes the oldest entries of a thread, and what it goes by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bus_server.store.commands import Command
from threadbus.v1.thread_pb2 import Retention, Thread

#: Most of what Compact removes at a time: entries, and bytes of them if they are several. It takes
#: a few milliseconds, for which posts wait.
COMPACT_ROWS = 250
COMPACT_BYTES = 512 * 1024
#: Most agents that ForgetAddressed looks at, and rows of one that it deletes.
FORGET_AGENTS, FORGET_ROWS = 200, 500
#: Requests of messages that were removed stay listed until so many further entries are.
LISTED_REQUESTS = 1_000


class Limits(NamedTuple):
    """How long entries are kept. 0: no limit."""

    max_age: int = 0  # in microseconds
    max_messages: int = 0
    max_bytes: int = 0

    @classmethod
    def of(cls, retention: Retention) -> "Limits":
        """Returns the limits of a retention. An age of less than a microsecond is one."""
        age = retention.max_age.seconds * 1_000_000 + -(-retention.max_age.nanos // 1000)
        return cls(age, retention.max_messages, retention.max_bytes)

    def proto(self) -> Retention:
        """Returns these limits as a retention."""
        retention = Retention(max_messages=self.max_messages, max_bytes=self.max_bytes)
        if self.max_age:
            retention.max_age.FromMicroseconds(self.max_age)
        return retention

    def of_thread(self, thread: Thread) -> "Limits":
        """Returns the limits of a thread: its own, or these if it has none."""
        return Limits.of(thread.retention) if thread.HasField("retention") else self

    def exceeded(self, seq: int, time: int, head_seq: int, size: int, now: int) -> bool:
        """Returns whether the oldest entry of a thread is over these limits.

        Args:
            seq, time: of the entry.
            head_seq: of the thread.
            size: of all its entries in bytes, as far as it is known.
            now: in microseconds since the Unix epoch.
        """
        if self.max_age and time + self.max_age < now:
            return True
        if self.max_messages and seq <= head_seq - self.max_messages:
            return True
        return 0 < self.max_bytes < size and seq < head_seq


class Counted(NamedTuple):
    """How many bytes the entries of a thread have, of those that were counted."""

    epoch: str  # of the thread when they were counted
    first_seq: int  # of the first one that was counted
    size: int


class FrontRow(NamedTuple):
    """One of the oldest entries of a thread."""

    seq: int
    time: int  # in microseconds since the Unix epoch
    size: int  # of its body, in bytes
    sender: str
    request_id: str  # empty: there is none


@dataclass(frozen=True, slots=True)
class Removal:
    """The entries that are removed from a thread: all up to a seq."""

    upto: int
    rows: Sequence[FrontRow]


@dataclass(frozen=True, slots=True)
class Compact(Command["Compacted"]):
    """Remove the oldest entries of a thread that are over its limits: at most COMPACT_ROWS.

    Closes their open requests, and appends notices of that. Raises ThreadNotFound.
    """

    name: str
    default: Limits  # of threads that have none of their own
    #: By which max_bytes is checked. None, or of another epoch or first_seq: it is not.
    counted: Counted | None = None


class Compacted(NamedTuple):
    """What Compact removed."""

    first_seq: int  # of the thread, afterwards
    size: int  # the bytes removed
    more: bool  # whether more may be over the limits
    entries: int  # the number removed


class Kept(NamedTuple):
    """What a thread keeps, as far as its limits need it."""

    thread_id: int
    name: str
    epoch: str
    first_seq: int
    head_seq: int
    oldest_time: int  # of the first entry, in microseconds since the Unix epoch; 0: there is none
    retention: Retention | None  # None: it has none of its own


def forgettable(found: Iterable[tuple[str, int]]) -> tuple[list[str], str]:
    """Returns the agents that ForgetAddressed deals with, and the one to continue with.

    `found`: agents that entries of a thread address, by name, each with the number of its rows of
    removed entries, up to FORGET_ROWS: one that has as many is dealt with again. "": none is left.
    """
    agents: list[str] = []
    rows = 0
    for agent, removed in found:
        if len(agents) == FORGET_AGENTS or rows >= FORGET_ROWS:
            return agents, agent
        agents.append(agent)
        if removed == FORGET_ROWS:
            return agents, agent
        rows += removed
    return agents, ""


@dataclass(frozen=True, slots=True)
class ForgetAddressed(Command[str]):
    """Delete some of what is stored about whom removed entries of a thread address.

    It looks at a limited number of agents. Returns the agent to continue with; "": none is left,
    or the thread does not exist.
    """

    name: str
    agent: str = ""  # to begin with
