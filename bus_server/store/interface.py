"""What the bus really calls of a store; sqlite.py is the one there is."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from bus_server.store import (
    Command,
    Commit,
    Entrance,
    Head,
    Joined,
    JoinThread,
    Owner,
    Page,
    Row,
    Sighting,
    ThreadPageKey,
)
from bus_server.store.clock import StoreClock
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread


class Store(Protocol):
    """A store. Reads see what was committed before they began."""

    epoch: str
    #: What the times of sightings and the ends of tokens are told by.
    clock: StoreClock

    async def commit(self, commands: Sequence[Command[Any]]) -> Commit:
        """Run the commands as one transaction, durable when this returns.

        A command that is refused, or fails, does so alone. Raises StoreBusy when the store is
        locked by somebody else for too long, StorageFull when the disk is; then nothing was done.
        """

    async def foreign_version(self) -> int:
        """A number that changes when somebody else has written to the store."""

    async def heads(self, names: Sequence[str]) -> dict[str, Head]:
        """Where these threads end; those that do not exist are left out."""

    async def similar(self, names: Sequence[str]) -> list[str]:
        """Threads whose names differ from one of these only by case; a few at most."""

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[Row]:
        """Return messages after < seq <= upto of a thread, ascending; none if it was deleted.

        At most `max_bytes` of them, but always the first one. No seq is left out.
        """

    async def page(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> Page:
        """Return messages after < seq < before (0: no bound). Raises ThreadNotFound.

        At most `limit` and `max_bytes` of them, the newest or the oldest, but always one if there
        is one.
        """

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
        after: ThreadPageKey | None,
    ) -> list[tuple[Thread, ThreadPageKey]]:
        """Threads after a key, last active first, each with its own key.

        One that gets a post moves to the front, and so out of what is after the key.
        """

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[Head, list[Participant]]:
        """Where a thread ends, and at most `limit` of those in it.

        First those named, whoever they are; then participants by name, after a name if one is
        given. Their presence is that of the last checkpoint. Raises ThreadNotFound.
        """

    async def entrance(self, join: JoinThread, joined: Joined) -> Entrance | None:
        """Returns what a JoinThread response tells, or None if the thread was deleted since.

        The context is the newest messages up to `joined.after_seq`. The participants are
        sorted by name and include the caller; their presence is that of the last checkpoint.
        """

    async def unread(self, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
        """Threads, and their epochs, that an agent has not read to their heads, newest first."""

    async def sightings(self, since: int) -> list[Sighting]:
        """What was last known of agents that were seen after this time (as above)."""

    async def agent(self, name: str) -> Agent | None:
        """An agent, if it is registered; its presence is that of the last checkpoint."""

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        """Agents by name, after the name given."""

    async def owner(self, token_hash: bytes) -> Owner | None:
        """Whose token has this hash."""

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        """When these tokens end (0: never); those that are no more are left out."""
