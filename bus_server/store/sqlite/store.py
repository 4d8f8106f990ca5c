"""The embedded store: SQLite, with one connection that writes and two that read.

Each connection has its own OS thread (aiosqlite's). Each transaction or query is one plain function
that runs there: statements of other calls do not come in between, and the event loop waits for the
other OS thread only once.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from bus_server import logs, store
from bus_server.errors import (
    BusError,
    StoreBug,
    StoreBusy,
    StoreFailed,
    StoreLost,
    StoreRefused,
)
from bus_server.fair_queue import FairLock
from bus_server.store import apart
from bus_server.store.clock import StoreClock, boot_id
from bus_server.store.interface import Waker
from bus_server.store.sqlite import (
    activity,
    asked,
    compact,
    connections,
    figures,
    file,
    memberships,
    participants,
    reads,
    rescue,
    servers,
    tokens,
    writes,
)
from bus_server.store.sqlite.clock import load_clock
from bus_server.store.sqlite.committer import Committer
from bus_server.store.sqlite.completion import run_to_completion
from bus_server.store.sqlite.damage import confirmed
from bus_server.store.sqlite.datagrams import DatagramWaker
from bus_server.store.sqlite.health import Health
from bus_server.store.sqlite.monitor import FileMonitor
from bus_server.store.sqlite.order import Order
from bus_server.store.sqlite.remembered import Remembered
from bus_server.store.sqlite.upgrade import upgrade
from bus_server.store.sqlite.write_lock import WriteLock
from threadbus.v1.admin_service_pb2 import Wait
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Reads of more rows than this, and those that may scan any number of rows, are heavy.
HEAVY = 200


class SqliteStore:
    """A store in one SQLite file. `open` creates it. Close it after everything that uses it."""

    clock: StoreClock
    waker: Waker
    engine = "sqlite"
    kind = "sqlite, fsync"
    token_file: Path | None

    def __init__(
        self,
        writer: aiosqlite.Connection,
        quick: aiosqlite.Connection,
        heavy: aiosqlite.Connection,
        lock: WriteLock,
        files: FileMonitor,
        epoch: str,
    ) -> None:
        self.name, self.token_file = str(files.path), file.token_file(files.path)
        self.epoch = epoch
        self._given_up = False
        #: The last read that failed, which `inspect` retries; None if there is none.
        self._failed_read: Callable[[], Coroutine[Any, Any, object]] | None = None
        self._writer = writer
        self._order = Order()
        self._remembered = Remembered()
        self._foreign_version: int | None = None
        self._lock = lock
        self._files = files
        self.waker = DatagramWaker(files.path)
        self._committer = Committer(files, lock)
        self._health = Health(files, lock, self._committer)
        #: Set when the files were removed, replaced, truncated or damaged. Then call `give_up`.
        self.lost = self._health.lost
        #: Heavy reads run one at a time on their own connection, so as not to delay quick reads.
        self._quick, self._heavy = quick, heavy
        self._heavy_turn = FairLock()

    @classmethod
    async def open(cls, path: Path, *, full_durability: bool, busy_timeout: float) -> "SqliteStore":
        """Returns the store at `path`, opened. Creates it if there is no file.

        Args:
            path: the database file.
            full_durability: whether each commit is synced to disk before it is acknowledged.
            busy_timeout: seconds to wait for another program that has locked the file.

        Raises:
            StoreRefused: the file is not a store, is damaged, of a newer version, locked or not
                writable, or others can write to it. Its messages were not changed.
        """
        logging.getLogger("aiosqlite").setLevel(logging.INFO)
        opened: list[aiosqlite.Connection] = []
        try:
            logged: Any = {"isolation_level": None, "factory": connections.LoggedConnection}
            with file.prepared(path):
                writer = await aiosqlite.connect(path, timeout=busy_timeout, **logged)
                opened.append(writer)
                epoch = await _run(writer, connections.set_up_writer, full_durability)
            for _ in ("quick", "heavy"):
                read_only = f"file:{file.quoted(path)}?mode=ro"
                opened.append(await aiosqlite.connect(read_only, uri=True, **logged))
                await _run(opened[-1], connections.set_up_reader)
            lock = WriteLock(path, busy_timeout)
            _, quick, heavy = opened
            files = FileMonitor(path)
            opened_store = cls(writer, quick, heavy, lock, files, epoch)
            if not full_durability:
                opened_store.kind = "sqlite, no fsync: --durability fast"
            await _run(writer, opened_store._upgrade)
        except BaseException as error:
            for connection in reversed(opened):
                await connection.close()
            if isinstance(error, (sqlite3.Error, OSError, StoreBusy)):
                reason = connections.translate_error(error)
                raise StoreRefused(f"cannot open {path}: {reason}") from error
            raise
        return opened_store

    async def close(self) -> None:
        """Close the connections, the writer last: closing it checkpoints the log into the database.

        If the store is lost, calls `give_up` instead and raises StoreLost.
        """
        await self.inspect()
        if self._files.loss:
            await self.give_up()
            raise self._files.loss
        with contextlib.suppress(sqlite3.Error, OSError, StoreBusy):
            await _run(self._writer, self._checkpoint)
        await self._close_connections()
        with contextlib.suppress(OSError, StoreBusy), self._lock.held():
            rescue.forget(self._lock.descriptor, self._files.path)
        self._lock.close()

    async def _close_connections(self) -> None:
        for connection in (self._quick, self._heavy, self._writer):
            await connection.close()
        self._files.close()

    def _upgrade(self, db: sqlite3.Connection) -> None:
        with self._lock.held():
            upgrade(db)
            rescue.record(self._lock.descriptor, self._files.path)
            self.clock = load_clock(db, boot_id())

    # ── Health ──────────────────────────────────────────────────────────────────────────────────

    @property
    def failing(self) -> bool:
        """Whether the disk is failing or full, or the store is lost."""
        return self._health.failing

    def refusal(self) -> BusError:
        return self._health.refusal()

    def risks(self) -> list[str]:
        return file.risks(self._files.path, os.geteuid())

    async def inspect(self) -> None:
        if self._files.loss:
            self.lost.set()
            return
        try:
            await _run(self._writer, self._health.check)
        except StoreBusy:
            pass
        except (BusError, StoreBug) as error:
            self._health.write_failed(error)
        else:
            self._health.write_succeeded()
        if self._failed_read is not None:
            failed_read, self._failed_read = self._failed_read, None
            with contextlib.suppress(BusError, StoreBug):
                await self._readable(failed_read)  # sets `_failed_read` if it fails again
            if self._failed_read is None:
                self._health.read_succeeded()
        self._health.check_log_size()

    async def give_up(self) -> None:
        """Save what a lost store still holds, and prevent the next start from replaying its log.

        Connections are left open where closing them could write to another database: the process
        must end without closing them. A second call does nothing.
        """
        if self._given_up:
            return
        self._given_up = True
        files = self._files
        text = "%s: posts are refused from now on"
        logs.event(logger, logging.ERROR, "store_lost", text, files.loss, loss=str(files.loss))
        saved, sound = None, False
        try:
            saved, sound = await _run(self._writer, rescue.save, files)
            told = f"What it held is in {saved}{'' if sound else ', which is damaged'}"
        except (sqlite3.Error, OSError) as error:
            told = f"What it held could not be saved ({error})"
        if sound and files.log_is_gone() and not files.is_moved():
            # Closing the last connection checkpoints the log into the database, unless another
            # server has it open. It is done only with a sound copy, as the checkpoint could fail
            # half-way on a full disk.
            with contextlib.suppress(sqlite3.Error):
                await self._close_connections()
        remedy = rescue.leave(files, self._lock.descriptor, saved if sound else None)
        logger.critical("%s. %s. Stop every server on it, then: %s", files.loss, told, remedy)

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────

    async def commit(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        if self._files.loss:
            raise self._health.translate_write(self._files.loss)
        try:
            commit, failures = await _run(self._writer, self._commit, commands)
        except (BusError, StoreBug) as error:
            self._health.write_failed(error)
            raise
        for failure in failures:
            self._health.write_failed(failure)
        if not failures:
            self._health.write_succeeded()
        return commit

    def _commit(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> tuple[store.Commit, list[Exception]]:
        """Returns what `commit` does, and the errors of the commands that could not be run."""
        try:
            return confirmed(self._files, lambda: self._transact(db, commands)), []
        except Exception as error:
            translated = self._health.translate_write(error)
            if apart.is_one(commands) or apart.concerns_all(translated):
                if translated is error:
                    raise  # `from` itself would make a reference cycle
                raise translated from error
            why = logs.reason(error)
            logger.debug("a batch of %d failed (%s): one by one", len(commands), why)
        results: list[store.Commit | Exception] = []
        failures: list[Exception] = []
        for command in apart.singles(commands):
            if failures and apart.concerns_all(failures[-1]):
                results.append(failures[-1])
                continue
            try:
                transact = functools.partial(self._transact, db, [command])
                results.append(confirmed(self._files, transact))
            except Exception as error:  # noqa: BLE001 - it is the outcome
                failures.append(self._health.translate_write(error))
                results.append(failures[-1])
        return apart.merged(commands, results), failures

    def _transact(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        """Run commands in one transaction. Raises what Committer.transact raises."""
        try:
            commit = self._committer.transact(db, lambda: self._write(db, commands))
        except BaseException:
            self._remembered.forget()
            raise
        commit.time = time.monotonic()
        return commit

    def _write(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        now = time.time_ns() // 1000
        order = self._order.next(db, now)
        return writes.run(db, commands, now, self.clock.now(), order, self._remembered)

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        with self._lock.held():
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    async def foreign_version(self) -> int:
        # On the writer's connection: on others, this server's own commits would look foreign.
        read = functools.partial(_run, self._writer, connections.data_version)
        version = await self._readable(read)
        if version != self._foreign_version:
            self._foreign_version, self._order.unsure = version, True
        return version

    async def heads(self, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._read(len(names) > HEAVY, reads.heads, names)

    async def participations(self, agent: str, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._read(len(names) > HEAVY, reads.participations, agent, names)

    async def memberships(
        self, agent: str, after: int, limit: int
    ) -> list[tuple[str, store.Head, store.Membership]]:
        return await self._read(limit > HEAVY, memberships.memberships, agent, after, limit)

    async def members(
        self, names: Sequence[str], agents: Sequence[str]
    ) -> dict[str, dict[str, store.Membership]]:
        return await self._read(True, memberships.members, names, agents)

    async def recently_active(self, since: int) -> tuple[list[str], int]:
        return await self._read(False, memberships.recently_active, since)

    async def similar(self, names: Sequence[str]) -> list[str]:
        return await self._read(False, reads.similar, names)

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[store.Row]:
        heavy = upto - after > HEAVY
        return await self._read(heavy, reads.read, thread_id, after, upto, max_bytes)

    async def excerpt(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> store.Excerpt:
        heavy = limit > HEAVY
        return await self._read(heavy, reads.excerpt, name, after, before, limit, max_bytes, newest)

    async def senders(self, thread_id: int, seqs: Sequence[int]) -> dict[int, str]:
        return await self._read(len(seqs) > HEAVY, reads.senders, thread_id, seqs)

    async def threads(self, names: Sequence[str]) -> list[Thread]:
        return await self._read(len(names) > HEAVY, reads.threads, names)

    async def list_threads(
        self,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: store.ThreadPageKey | None,
    ) -> list[tuple[Thread, store.ThreadPageKey]]:
        return await self._read(
            True, activity.list_threads, states, prefix, participant, limit, after
        )

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[store.Head, list[Participant]]:
        return await self._read(
            limit > HEAVY,
            participants.participants,
            name,
            first=first,
            after=after,
            limit=limit,
            now=self.clock.now(),
        )

    async def entrance(self, join: store.JoinThread, joined: store.Joined) -> store.Entrance | None:
        return await self._read(True, participants.entrance, join, joined, self.clock.now())

    async def unread(
        self,
        agent: str,
        limit: int,
        prefixes: Sequence[str] = (),
        read: Mapping[str, int] | None = None,
    ) -> list[tuple[ThreadUnread, str]]:
        return await self._read(True, participants.unread, agent, limit, prefixes, read)

    async def addressed(
        self, agent: str, thread_id: int, after: int, upto: int, limit: int
    ) -> list[int] | None:
        return await self._read(False, participants.addressed, agent, thread_id, after, upto, limit)

    async def requests(
        self, wanted: store.RequestsWanted, limit: int, before: store.RequestPageKey
    ) -> list[store.StoredRequest]:
        return await self._read(True, asked.requests, wanted, limit, before)

    async def kept(self, after: int, limit: int, *, every: bool) -> list[store.Kept]:
        return await self._read(True, compact.kept, after, limit, every)

    async def sizes(self, thread_id: int, after: int, limit: int) -> tuple[int, int]:
        return await self._read(True, compact.sizes, thread_id, after, limit)

    async def figures(self, presences: Mapping[str, int]) -> store.Figures:
        now = self.clock.now()
        return await self._read(True, figures.read, self._files, presences, now)

    async def presence_rows(self, since: int) -> list[store.PresenceRow]:
        return await self._read(True, participants.presence_rows, since)

    async def presence_of(self, agents: Collection[str]) -> list[store.PresenceRow]:
        return await self._read(len(agents) > HEAVY, participants.presence_of, agents)

    async def servers(self) -> dict[str, store.ServerLease]:
        return await self._read(False, servers.servers)

    async def server_waits(self, server: str, known: Set[int]) -> tuple[set[int], dict[int, Wait]]:
        return await self._read(True, servers.waits, server, known)

    async def agent(self, name: str) -> Agent | None:
        return await self._read(False, reads.agent, name, self.clock.now())

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        now = self.clock.now()
        return await self._read(limit > HEAVY, reads.list_agents, limit, after, now)

    async def owner(self, token_hash: bytes) -> store.TokenOwner | None:
        return await self._read(False, tokens.owner, token_hash)

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        return await self._read(len(token_hashes) > HEAVY, tokens.expire_times, token_hashes)

    async def list_tokens(
        self, agent: str | None, limit: int, before: store.TokenPageKey = store.FIRST_PAGE
    ) -> list[store.TokenInfo]:
        return await self._read(True, tokens.list_tokens, agent, limit, before, self.clock.now())

    async def _read(
        self,
        heavy: bool,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._readable(functools.partial(self._read_on, heavy, query, *args, **kwargs))

    async def _read_on(
        self,
        heavy: bool,
        query: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def run(db: sqlite3.Connection) -> T:
            return confirmed(self._files, lambda: query(db, *args, **kwargs))

        if not heavy:
            return await _run(self._quick, run)
        async with self._heavy_turn:
            # The connection's OS thread completes the read even if this task is cancelled, so the
            # next heavy read must wait for it.
            return await run_to_completion(_run(self._heavy, run))

    async def _readable(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a read. Returns its result.

        If the store fails, `inspect` retries the read later. Raises StoreFailed, StoreBusy or
        StoreBug, and the BusErrors of the read.
        """
        if self._files.loss:
            raise StoreFailed(str(self._files.loss))
        try:
            return await read()
        except (sqlite3.Error, StoreFailed, StoreLost) as error:
            translated = self._health.translate(error)
            if isinstance(translated, StoreFailed):
                self._failed_read = read
            self._health.read_failed(translated)
            if translated is error:
                raise
            raise translated from error


async def _run(
    connection: aiosqlite.Connection,
    function: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function on a connection's OS thread. Returns what it returns.

    aiosqlite has no public method for this: its methods run one statement at a time, and those of
    other calls could come in between. Because private names are used here, its version has an upper
    bound.
    """
    execute: Any = connection._execute
    result: T = await execute(function, connection._conn, *args, **kwargs)
    return result
