"""The store on a PostgreSQL server: one connection that writes, and a few that read.

A batch takes two round trips, whatever its size: the first gathers the facts (gather.py), the
second writes what it changes (writes.py). Servers that write to different threads at the same time
do not wait for one another.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from bus_server import logs, store
from bus_server.errors import (
    BusError,
    OutcomeUnknown,
    StorageFull,
    StoreBug,
    StoreBusy,
    StoreFailed,
    StoreRefused,
)
from bus_server.store import apart
from bus_server.store.clock import StoreClock
from bus_server.store.faults import Faults
from bus_server.store.interface import Waker
from bus_server.store.postgres import (
    activity,
    asked,
    checks,
    compact,
    figures,
    memberships,
    participants,
    reads,
    schema,
    servers,
    tokens,
)
from bus_server.store.postgres.clock import DatabaseClock
from bus_server.store.postgres.committer import Committer
from bus_server.store.postgres.connection import Conflict, Connection, ConnectionLost, Database
from bus_server.store.postgres.history import place
from bus_server.store.postgres.notify import NotifyWaker
from bus_server.store.postgres.readers import Readers
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread

logger = logging.getLogger(__name__)

# The names under which faults are logged.
_UNREACHABLE = "the database cannot be reached"
_UNWRITTEN = "the database answers no commit, posts fail"
_FULL = "the database's disk is full, posts are refused"

# Also differs if all threads have got new epochs, by whichever server: there are fewer than 2^40
# commits.
_FOREIGN = """
SELECT (SELECT coalesce(sum(batch), 0)::bigint FROM writer WHERE id <> %(writer)s)
    + (coalesce((SELECT history FROM meta), 0)::bigint << 40)
"""


class PostgresStore:
    """A store in a schema of a PostgreSQL database. `open` creates it.

    Close it after everything that uses it.
    """

    clock: StoreClock
    waker: Waker
    engine = "postgresql"
    token_file: Path | None = None

    def __init__(
        self, database: Database, kind: str, epoch: str, clock: DatabaseClock, committer: Committer
    ) -> None:
        self.name, self.kind = str(database), kind
        self.epoch, self.clock = epoch, clock
        self.waker = NotifyWaker(database, epoch)
        #: Never set: a database that is gone may come back.
        self.lost = asyncio.Event()
        self._faults = Faults()
        #: Whether a commit is to be tried to find out whether that is possible again.
        self._probe = False
        self._database, self._committer = database, committer
        self._readers = Readers(database, self._look_where)
        #: Commits are made one after the other.
        self._turn = asyncio.Lock()
        self._commits: set[asyncio.Task[store.Commit]] = set()

    @classmethod
    async def open(cls, url: str, *, durability: str, busy_timeout: float) -> "PostgresStore":
        """Returns the store in a database, opened. Creates its tables if there are none.

        Args:
            url: a connection URI or string of libpq. The tables are in the first schema of its
                search_path.
            durability: as the setting of this name. Unless it is `fast`, each commit is on disk
                before it is acknowledged, and on a synchronous standby if the database has one.
            busy_timeout: seconds to wait for each lock that others hold.

        Raises:
            StoreRefused: the database cannot be reached or used, or holds a store of a newer
                version.
        """
        # It warns of each connection that broke while it was in use, which is handled here.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        database, clock = Database(url, durability, busy_timeout), DatabaseClock()
        database.check_url()
        try:
            connection = await database.connect()
            try:
                kind = await checks.check(connection, durability)
                epoch = await schema.prepare(connection, database.lock_timeout)
            finally:
                await connection.close()
            committer = await Committer.open(database, clock, epoch, kind)
        except (ConnectionLost, StoreRefused, StoreBusy, StoreFailed, StoreBug) as error:
            hint = (
                ": make the role the owner of the database, or let it create tables in its schema"
                if "(42501)" in str(error)
                else ""
            )
            raise StoreRefused(f"cannot open {database}: {error}{hint}") from error
        return cls(database, kind, epoch, clock, committer)

    async def close(self) -> None:
        """Wait for what is under way, and close the connections."""
        if self._commits:
            await asyncio.wait(self._commits)
        await self._committer.close()
        await self._readers.close()

    # ── Health ──────────────────────────────────────────────────────────────────────────────────

    @property
    def failing(self) -> bool:
        return bool(self._faults)

    def refusal(self) -> BusError:
        return StoreFailed("its database is lost")

    def risks(self) -> list[str]:
        return []

    async def inspect(self) -> None:
        end = asyncio.get_running_loop().time() + 1
        while True:
            ended = self._readers.idle and asyncio.get_running_loop().time() < end
            try:
                await self._readers.read_once(_ping)
            except (ConnectionLost, Conflict, BusError, StoreBug) as error:
                if ended and isinstance(error, ConnectionLost):
                    continue  # the database has ended a session: try the next, then a new one
                self._faults.begin(_UNREACHABLE, f"{self.name}: {error}")
            else:
                self._faults.end(_UNREACHABLE)
            break
        if self._probe and not self._commits:
            self._begin([])  # which writes that it was made

    async def give_up(self) -> None:
        """Does nothing: what is committed is in the database."""

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────

    async def commit(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        # If the caller is cancelled, the commit goes on: it would be unknown what became of it.
        return await asyncio.shield(self._begin(commands))

    def _begin(self, commands: Sequence[store.Command[Any]]) -> asyncio.Task[store.Commit]:
        task = asyncio.create_task(self._commit(commands))
        self._commits.add(task)
        task.add_done_callback(self._committed)
        return task

    def _committed(self, task: asyncio.Task[store.Commit]) -> None:
        self._commits.remove(task)
        if not task.cancelled():
            task.exception()  # retrieve it, or asyncio would log it

    async def _commit(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        async with self._turn:
            try:
                return await self._transact(commands)
            except Exception as error:
                if apart.is_one(commands) or apart.concerns_all(error):
                    raise
                why = logs.reason(error)
                logger.debug("a batch of %d failed (%s): one by one", len(commands), why)
            results: list[store.Commit | Exception] = []
            for command in apart.singles(commands):
                before = results[-1] if results else None
                if isinstance(before, BusError) and apart.concerns_all(before):
                    results.append(before)
                    continue
                try:
                    results.append(await self._transact([command]))
                except Exception as error:  # noqa: BLE001 - it is the outcome
                    results.append(error)
            return apart.merged(commands, results)

    async def _transact(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        """Run commands in one transaction. Raises what Committer.transact raises."""
        try:
            commit = await self._committer.transact(commands)
        except StorageFull:
            self._probe = True
            self._faults.begin(_FULL, self.name)
            raise
        except (StoreBusy, OutcomeUnknown) as error:
            if isinstance(error.__cause__, ConnectionLost):  # not a lock that others hold
                self._probe = True
                self._faults.begin(_UNWRITTEN, f"{self.name}: {error.__cause__}")
            raise
        self._probe = False
        for fault in (_FULL, _UNWRITTEN):
            self._faults.end(fault)
        return commit

    async def foreign_version(self) -> int:
        return await self._readers.read(self._foreign_version)

    async def _foreign_version(self, db: Connection) -> int:
        (rows,) = await db.run((_FOREIGN, {"writer": self._committer.writer}))
        return int(rows[0][0])

    async def _look_where(self, db: Connection) -> None:
        """Connect the committer to the database if it has moved, which a reader has found out.

        The committer gives the threads new epochs if that is needed. Else a server that has nothing
        to commit would not notice.
        """
        if await place(db) != self._committer.history.place:
            self._begin([])

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    async def heads(self, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._readers.read(reads.heads, names)

    async def participations(self, agent: str, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._readers.read(reads.participations, agent, names)

    async def memberships(
        self, agent: str, after: int, limit: int
    ) -> list[tuple[str, store.Head, store.Membership]]:
        return await self._readers.read(memberships.memberships, agent, after, limit)

    async def members(
        self, names: Sequence[str], agents: Sequence[str]
    ) -> dict[str, dict[str, store.Membership]]:
        return await self._readers.read(memberships.members, names, agents)

    async def recently_active(self, since: int) -> tuple[list[str], int]:
        return await self._readers.read(memberships.recently_active, since)

    async def similar(self, names: Sequence[str]) -> list[str]:
        return await self._readers.read(reads.similar, names)

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[store.Row]:
        return await self._readers.read(reads.read, thread_id, after, upto, max_bytes)

    async def excerpt(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> store.Excerpt:
        return await self._readers.read(
            reads.excerpt, name, after, before, limit, max_bytes, newest
        )

    async def senders(self, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
        return await self._readers.read(reads.senders, thread_id, seqs)

    async def threads(self, names: Sequence[str]) -> list[Thread]:
        return await self._readers.read(reads.threads, names)

    async def list_threads(
        self,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: store.ThreadPageKey | None,
    ) -> list[tuple[Thread, store.ThreadPageKey]]:
        return await self._readers.read(
            activity.list_threads, states, prefix, participant, limit, after
        )

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[store.Head, list[Participant]]:
        now = self.clock.now()
        return await self._readers.read(
            participants.participants, name, first=first, after=after, limit=limit, now=now
        )

    async def entrance(self, join: store.JoinThread, joined: store.Joined) -> store.Entrance | None:
        return await self._readers.read(participants.entrance, join, joined, self.clock.now())

    async def unread(
        self,
        agent: str,
        limit: int,
        prefixes: Sequence[str] = (),
        read: Mapping[str, int] | None = None,
    ) -> list[tuple[ThreadUnread, str]]:
        return await self._readers.read(participants.unread, agent, limit, prefixes, read)

    async def addressed(
        self, agent: str, thread_id: int, after: int, upto: int, limit: int
    ) -> list[int] | None:
        return await self._readers.read(
            participants.addressed, agent, thread_id, after, upto, limit
        )

    async def requests(
        self, wanted: store.RequestsWanted, limit: int, before: store.RequestPageKey
    ) -> list[store.StoredRequest]:
        return await self._readers.read(asked.requests, wanted, limit, before)

    async def kept(self, after: int, limit: int, *, every: bool) -> list[store.Kept]:
        return await self._readers.read(compact.kept, after, limit, every)

    async def sizes(self, thread_id: int, after: int, limit: int) -> tuple[int, int]:
        return await self._readers.read(compact.sizes, thread_id, after, limit)

    async def figures(self, presences: Mapping[str, int]) -> store.Figures:
        return await self._readers.read(figures.read, presences, self.clock.now())

    async def presence_rows(self, since: int) -> list[store.PresenceRow]:
        return await self._readers.read(participants.presence_rows, since)

    async def presence_of(self, agents: Collection[str]) -> list[store.PresenceRow]:
        return await self._readers.read(participants.read_presence_of, agents)

    async def servers(self) -> dict[str, store.ServerLease]:
        return await self._readers.read(servers.servers)

    async def server_waits(self, server: str, known: Set[int]) -> tuple[set[int], dict[int, Wait]]:
        return await self._readers.read(servers.waits, server, known)

    async def agent(self, name: str) -> Agent | None:
        return await self._readers.read(reads.agent, name, self.clock.now())

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        return await self._readers.read(reads.list_agents, limit, after, self.clock.now())

    async def owner(self, token_hash: bytes) -> store.TokenOwner | None:
        return await self._readers.read(tokens.owner, token_hash)

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        return await self._readers.read(tokens.expire_times, token_hashes)

    async def list_tokens(
        self, agent: str | None, limit: int, before: store.TokenPageKey = store.FIRST_PAGE
    ) -> list[store.TokenInfo]:
        return await self._readers.read(tokens.list_tokens, agent, limit, before, self.clock.now())


async def _ping(db: Connection) -> None:
    await db.run(("SELECT 1", {}))
