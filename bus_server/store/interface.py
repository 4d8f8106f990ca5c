"""The store's interface; sqlite/ implements it."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from bus_server.errors import BusError
from bus_server.store.asked_rows import RequestPageKey, RequestsWanted, StoredRequest
from bus_server.store.clock import StoreClock
from bus_server.store.commands import (
    Command,
    Commit,
    Entrance,
    Excerpt,
    Head,
    Joined,
    JoinThread,
    Membership,
    PresenceRow,
    Row,
    ThreadPageKey,
)
from bus_server.store.compact_commands import Kept
from bus_server.store.figures import Figures
from bus_server.store.server_commands import ServerLease
from bus_server.store.token_commands import FIRST_PAGE, TokenInfo, TokenOwner, TokenPageKey
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread

#: Called with the hints of other servers, as in `Waker.publish`.
OnHint = Callable[[Mapping[str, int]], None]


#: See `Waker.publish`. No thread has this name.
AGENTS = ""


class Waker(Protocol):
    """Hints between the servers on a store: what has changed.

    A hint carries no data, so that it need not be trusted: who gets one reads the store. It may be
    late or lost.
    """

    def publish(self, changed: Mapping[str, int]) -> None:
        """Send a hint to the other servers. Never blocks, never raises.

        `changed`: the threads that a commit has changed, each with the seq of its head; 0: it was
        deleted. The name AGENTS stands for agents' tokens, presence, positions and open waits; its
        seq is ignored.
        """

    async def run(self, on_hint: OnHint) -> None:
        """Call `on_hint` with the hints of other servers, until cancelled. Runs once at a time.

        Without it, `publish` does nothing.
        """


class Store(Protocol):
    """A store. Reads see everything committed before they began.

    The presence in an Agent or Participant is that of the last checkpoint, or LAPSED if the agent's
    lease has ended since.

    Every method raises StoreFailed if the store cannot be read or written, StoreBusy if another
    program has locked it, and StoreBug on an error that the store does not expect.
    """

    #: The store's identity. It changes when the store is recreated.
    epoch: str
    #: The clock of presence and of tokens' expire times.
    clock: StoreClock

    #: Its hints to and from other servers.
    waker: Waker

    async def commit(self, commands: Sequence[Command[Any]]) -> Commit:
        """Run commands in order as one transaction, and commit it.

        Returns the outcomes and what was changed. A command that is refused has no effect on the
        others: its outcome is its BusError. If a command fails unexpectedly, or the disk has no
        space for all of them, each is run in a transaction of its own, and has its own outcome:
        also StoreBug, or any error below. Here, an AppendMany counts as several commands, one for
        each post.

        Raises:
            StoreBusy, StoreFailed: the store is locked for too long, or cannot be written. Nothing
                was done.
            OutcomeUnknown: it is unknown whether anything was stored.
            StorageFull, StoreBug: the disk has no space for the only command, or it failed
                unexpectedly.
        """

    async def foreign_version(self) -> int:
        """Returns a number that changes when another process has written to the store."""

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        """Returns the heads of threads by name; those that do not exist are left out."""

    async def participations(self, agent: str, names: Sequence[str]) -> dict[str, Head]:
        """As `heads`, but only of threads of which an agent is a participant."""

    async def memberships(
        self, agent: str, after: int, limit: int
    ) -> list[tuple[str, Head, Membership]]:
        """Returns up to `limit` threads of which an agent is a participant, by ascending id.

        Read positions are as stored, without unsaved ones. `after`: only threads with greater ids.
        """

    async def members(
        self, names: Sequence[str], agents: Sequence[str]
    ) -> dict[str, dict[str, Membership]]:
        """Returns which of these agents are participants of threads, by thread and agent.

        Reads all participants of the threads.
        """

    async def recently_active(self, since: int) -> tuple[list[str], int]:
        """Returns the threads with new entries since an earlier call, and `since` for the next one.

        Also returns threads that were active shortly before. `since`: 0 in the first call, which
        returns only the latter.
        """

    async def similar(self, names: Sequence[str]) -> list[str]:
        """Returns up to five names of threads that differ from one of these only by case."""

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[Row]:
        """Returns the rows of a thread with after < seq <= upto, ascending and without gaps.

        At most `max_bytes` bytes of them, but always the first one. Returns [] if the thread was
        deleted, or the first one removed: it is before first_seq.
        """

    async def excerpt(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> Excerpt:
        """Returns the rows of a thread with after < seq < before, and its head.

        Raises ThreadNotFound.

        Args:
            before: 0: no bound.
            limit: maximum number of rows.
            max_bytes: maximum bytes of them; one row is always returned if there is any.
            newest: whether to keep the newest rows within these limits instead of the oldest.
        """

    async def senders(self, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
        """Returns the senders of a thread's messages, by seq; missing messages are left out."""

    async def threads(self, names: Sequence[str]) -> list[Thread]:
        """Returns the threads with these names, in any order; missing ones are left out."""

    async def list_threads(
        self,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: ThreadPageKey | None,
    ) -> list[tuple[Thread, ThreadPageKey]]:
        """Returns threads, most recently active first, each with its own key.

        A thread moves to the front when an entry is appended: it may be missing from later pages.

        Args:
            states: only threads in one of these; empty: none.
            prefix: only threads whose names begin with it; empty: all.
            participant: only threads of which this agent is a participant; empty: all.
            limit: maximum number of threads.
            after: only threads after this key, that of the last thread on the previous page; None:
                from the first.
        """

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[Head, list[Participant]]:
        """Returns a thread's head and at most `limit` participants.

        Those named in `first` come first, in this order, whether or not they are participants; then
        participants with names after `after`, sorted by name. Raises ThreadNotFound.
        """

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        """Returns the rest of a JoinThread response; None if the thread has been deleted since.

        The context is the newest messages up to `joined.after_seq`. The participants are sorted by
        name and include `join.agent`.
        """

    async def unread(
        self,
        agent: str,
        limit: int,
        prefixes: Sequence[str] = (),
        read: Mapping[str, int] | None = None,
    ) -> list[tuple[ThreadUnread, str]]:
        """Returns up to `limit` threads in which an agent has unread entries, with their epochs.

        Most recently active first. Only entries that wake the agent count.

        Args:
            prefixes: only threads whose names begin with one of them; empty: all.
            read: only threads with these names, each with the seq up to which the agent has read
                it, if that is past the stored position; None: all threads, by stored positions.
        """

    async def addressed(
        self, agent: str, thread_id: int, after: int, upto: int, limit: int
    ) -> list[int] | None:
        """Returns the seqs of the entries of a thread that address an agent, ascending.

        Entries that mention it, hand off to it, or reply to an entry that it wrote, whether or not
        they wake it; not its own. Only those with after < seq <= upto, at most `limit`. None: the
        thread was deleted, or the entry that follows `after` was removed.
        """

    async def kept(self, after: int, limit: int, *, every: bool) -> list[Kept]:
        """Returns what up to `limit` threads keep, by ascending id.

        Args:
            after: only threads with greater ids.
            every: of all threads; else of those with a retention of their own.
        """

    async def sizes(self, thread_id: int, after: int, limit: int) -> tuple[int, int]:
        """Returns the last seq and the size in bytes of up to `limit` entries of a thread.

        They are those that follow `after`; if there are none, this is (after, 0).
        """

    async def requests(
        self, wanted: RequestsWanted, limit: int, before: RequestPageKey
    ) -> list[StoredRequest]:
        """Returns up to `limit` requests, newest first.

        `before`: the page key of the last request of the previous page, or FIRST_REQUEST.
        """

    async def figures(self, presences: Mapping[str, int]) -> Figures:
        """Returns how much the store holds.

        Counts all threads, agents and open requests. With 100,000 threads, 10,000 agents and 32,000
        open requests, that takes 50 ms on SQLite, and 150 ms on PostgreSQL.

        `presences`: the current presence of agents, by name; those that are not registered are
        ignored. UNSPECIFIED: as it is stored, but WAITING in place of LAPSED.
        """

    async def presence_rows(self, since: int) -> list[PresenceRow]:
        """Returns the presence rows with any evidence after `since`, on the store's clock."""

    async def presence_of(self, agents: Collection[str]) -> list[PresenceRow]:
        """Returns the presence rows of agents; those that were never seen are left out."""

    async def servers(self) -> dict[str, ServerLease]:
        """Returns the lease of each server that is stored, by its name."""

    async def server_waits(self, server: str, known: Set[int]) -> tuple[set[int], dict[int, Wait]]:
        """Returns the numbers of a server's open waits, and by number the waits not in `known`."""

    async def agent(self, name: str) -> Agent | None:
        """Returns a registered agent; None if there is none of this name."""

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        """Returns up to `limit` registered agents with names after `after`, sorted by name."""

    async def owner(self, token_hash: bytes) -> TokenOwner | None:
        """Returns the owner of the token with this hash, even if expired; None if there is none."""

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        """Returns when tokens expire, on the store's clock (0: never), by hash.

        Tokens that do not exist are left out.
        """

    async def list_tokens(
        self, agent: str | None, limit: int, before: TokenPageKey = FIRST_PAGE
    ) -> list[TokenInfo]:
        """Returns up to `limit` tokens that have not expired, newest first.

        Of the tokens that rotations made of one, only the newest.

        Args:
            agent: only tokens of this agent, or of operators if empty; None: all.
            before: the page key of the last token of the previous page.
        """


class ServedStore(Store, Protocol):
    """A store with what its server needs besides: its health, its end, and how it is announced."""

    #: Where it is, for messages to people; without passwords.
    name: str
    #: `sqlite` or `postgresql`.
    engine: str
    #: Its engine, and what a commit survives, in a few words.
    kind: str
    #: The default file of the operator's token; None: there is none, as other machines use it, too.
    token_file: Path | None
    #: Set when what it held is gone: its files were removed, say. Then call `give_up`.
    lost: asyncio.Event

    @property
    def failing(self) -> bool:
        """Whether it cannot be read or written for now, or is lost."""

    def refusal(self) -> BusError:
        """Returns the error for calls to a lost store."""

    def risks(self) -> list[str]:
        """Returns how other users could read or change it, one sentence each. Raises OSError."""

    async def inspect(self) -> None:
        """Check its health, and retry what failed. Sets `lost`, updates `failing`, logs faults.

        Call it about once a second.
        """

    async def give_up(self) -> None:
        """Save what a lost store still holds, and log what the user should do."""

    async def close(self) -> None:
        """Close it, after everything that uses it. Raises StoreLost if it is lost."""
