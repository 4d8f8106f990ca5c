"""The store's interface; sqlite/ implements it."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from bus_server.store.clock import StoreClock
from bus_server.store.commands import (
    Command,
    Commit,
    Entrance,
    Excerpt,
    Head,
    Joined,
    JoinThread,
    PresenceRow,
    Row,
    ThreadPageKey,
    TokenOwner,
)
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread


class Store(Protocol):
    """A store. Reads see everything committed before they began.

    Every method raises StoreFailed if the store cannot be read or written, and StoreBusy if another
    program has locked it.
    """

    epoch: str
    #: The clock of presence and of tokens' expire times.
    clock: StoreClock

    async def commit(self, commands: Sequence[Command[Any]]) -> Commit:
        """Run commands as one transaction, which is durable when this returns.

        A command that is refused or fails has no effect on the others. Raises StoreBusy when the
        store is locked for too long, StorageFull when the disk is full, and StoreFailed; then
        nothing was done. Raises OutcomeUnknown when it is unknown whether anything was stored.
        """

    async def foreign_version(self) -> int:
        """Returns a number that changes when another process wrote to the store."""

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        """Returns the heads of threads by name; those that do not exist are left out."""

    async def similar(self, names: Sequence[str]) -> list[str]:
        """Returns a few names of threads that differ from one of these only by case."""

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[Row]:
        """Returns messages after < seq <= upto of a thread, ascending; none if it was deleted.

        At most `max_bytes` bytes of them, but always the first one. Without gaps.
        """

    async def excerpt(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> Excerpt:
        """Returns messages after < seq < before (0: no bound). Raises ThreadNotFound.

        At most `limit` messages and `max_bytes` bytes, the newest or the oldest ones, but always
        one if there is any.
        """

    async def senders(self, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
        """Returns the senders of messages, by seq."""

    async def threads(self, names: Sequence[str]) -> list[Thread]:
        """Returns threads by name; those that do not exist are left out."""

    async def list_threads(
        self,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: ThreadPageKey | None,
    ) -> list[tuple[Thread, ThreadPageKey]]:
        """Returns threads after a key, last active first, each with its own key.

        A thread moves to the front when an entry is appended: it may be missing from later pages.
        """

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[Head, list[Participant]]:
        """Returns a thread's head and at most `limit` participants.

        Those named in `first` come first, whether or not they are participants; then participants
        by name, after the name `after`. Their presence is that of the last checkpoint. Raises
        ThreadNotFound.
        """

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        """Returns the rest of a JoinThread response, or None if the thread has been deleted since.

        The context is the newest messages up to `joined.after_seq`. The participants are
        sorted by name and include the caller; their presence is that of the last checkpoint.
        """

    async def unread(self, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
        """Returns threads in which an agent has unread entries, newest first, with their epochs."""

    async def presence_rows(self, since: int) -> list[PresenceRow]:
        """Returns the stored presence of agents seen after `since`, on the store's clock."""

    async def agent(self, name: str) -> Agent | None:
        """Returns a registered agent, or None. Its presence is that of the last checkpoint."""

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        """Returns up to `limit` registered agents, sorted by name, after the name `after`."""

    async def owner(self, token_hash: bytes) -> TokenOwner | None:
        """Returns the owner of the token with this hash, or None."""

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        """Returns when tokens expire (0: never); those that do not exist are left out."""
