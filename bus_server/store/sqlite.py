"""The embedded store: SQLite, one connection that writes and a few that read.

Each connection has a thread of its own (aiosqlite's), and each transaction or query is one plain
function run there: one hop, and nothing of another call can come in between.
"""

import asyncio
import contextlib
import functools
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from bus_server import store
from bus_server.errors import (
    BusError,
    OutcomeUnknown,
    StorageFull,
    StoreBug,
    StoreBusy,
    StoreFailed,
    StoreLost,
    StoreRefused,
)
from bus_server.fair_queue import FairLock
from bus_server.store import (
    activity,
    connections,
    file,
    participants,
    reads,
    rescue,
    threads,
    writes,
)
from bus_server.store.clock import StoreClock, boot_id
from bus_server.store.committer import Committer
from bus_server.store.damage import confirmed
from bus_server.store.faults import Faults
from bus_server.store.monitor import FileMonitor
from bus_server.store.order import Order
from bus_server.store.upgrade import upgrade
from bus_server.store.write_lock import WriteLock
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Reads of more rows, and those that may pass over any number of them, are heavy.
HEAVY = 200

#: A log of more bytes is worth a warning: several checkpoints could not fold it in.
LARGE_LOG = 32 * 1024 * 1024
#: A disk with fewer bytes left still counts as full: the next post may not fit.
NEARLY_FULL = 1024 * 1024

# Faults, as the log names them.
_FULL = "the disk is full, posts are refused"
_WRITES = "the database cannot be written, posts fail"
_READS = "a part of the database cannot be read"
_LARGE = "the log is large"
_LOCK = "servers on the database cannot take turns"


class SqliteStore:
    """A store in one file. Made by `open`; close it last."""

    clock: StoreClock

    def __init__(
        self,
        writer: aiosqlite.Connection,
        quick: aiosqlite.Connection,
        heavy: aiosqlite.Connection,
        lock: WriteLock,
        files: FileMonitor,
        epoch: str,
    ) -> None:
        self.epoch = epoch
        #: Set when the files are not the store's any more: see `give_up`.
        self.lost = asyncio.Event()
        self._given_up = False
        self._faults, self._warnings = Faults(), Faults()
        #: What could not be read last.
        self._failed_read: Callable[[], Coroutine[Any, Any, object]] | None = None
        self._writer = writer
        self._order = Order()
        self._foreign_version: int | None = None
        self._lock = lock
        self._files = files
        self._committer = Committer(files, lock)
        #: A thread for heavy reads, for which callers take turns, so that these delay no quick one.
        self._quick, self._heavy = quick, heavy
        self._heavy_turn = FairLock()

    @classmethod
    async def open(cls, path: Path, *, full_durability: bool, busy_timeout: float) -> "SqliteStore":
        """Open the store. Creates it if there is no file.

        Args:
            path: the database file.
            full_durability: sync each commit to disk before it counts.
            busy_timeout: seconds to wait for somebody else who locks the file.

        Raises:
            StoreRefused: the file is not ours, damaged, newer, or not writable. It is untouched.
        """
        file.prepare(path)
        logging.getLogger("aiosqlite").setLevel(logging.INFO)
        opened: list[aiosqlite.Connection] = []
        try:
            writer = await aiosqlite.connect(path, isolation_level=None, timeout=busy_timeout)
            opened.append(writer)
            epoch = await _run(writer, connections.set_up_writer, full_durability)
            for _ in ("quick", "heavy"):
                read_only = f"file:{file.quoted(path)}?mode=ro"
                opened.append(await aiosqlite.connect(read_only, uri=True, isolation_level=None))
                await _run(opened[-1], connections.set_up_reader)
            lock = WriteLock(path, busy_timeout)
            _, quick, heavy = opened
            files = FileMonitor(path)
            opened_store = cls(writer, quick, heavy, lock, files, epoch)
            await _run(writer, opened_store._upgrade)
        except BaseException as error:
            for connection in reversed(opened):
                await connection.close()
            if isinstance(error, (sqlite3.Error, OSError, StoreBusy)):
                raise StoreRefused(f"cannot open {path}: {connections.meaning(error)}") from error
            raise
        return opened_store

    async def close(self) -> None:
        """Close the connections, the writer last: it folds the log into the file.

        Raises StoreLost, after `give_up`, when the files are not the store's any more.
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
            self.clock = StoreClock.of(db, boot_id())

    # ── Faults ──────────────────────────────────────────────────────────────────────────────────

    @property
    def failing(self) -> bool:
        """Whether the disk fails, or is full, or the store is lost."""
        return bool(self._faults) or self._files.loss is not None

    async def inspect(self) -> None:
        """Look whether the files are still the store's, and whether what failed works again.

        To be called about once a second. What is found is in `lost`, `failing` and the log.
        """
        if self._files.loss:
            self.lost.set()
            return
        try:
            await _run(self._writer, self._inspect)
        except StoreBusy:
            pass
        except (BusError, StoreBug) as error:
            self._write_failed(error)
        else:
            self._written()
        if self._failed_read is not None:
            failed_read, self._failed_read = self._failed_read, None
            with contextlib.suppress(BusError, StoreBug):
                await self._readable(failed_read)  # which keeps it if it fails again
            if self._failed_read is None:
                self._faults.end(_READS)
        size = self._files.log_size
        if size > LARGE_LOG:
            self._warnings.begin(
                _LARGE,
                f"{self._files.log} takes {size / 2**20:.0f} MiB; some program holds a read "
                "transaction open (a backup, a forgotten sqlite3): end it",
            )
        else:
            self._warnings.end(_LARGE)

    def _inspect(self, db: sqlite3.Connection) -> None:
        try:
            self._files.check()
            self._reopen_lock()
            if self._faults:
                touch = functools.partial(connections.touch, db)
                confirmed(self._files, lambda: self._committer.transact(db, touch))
        except Exception as error:
            raise self._meaning(error) from error

    def refusal(self) -> BusError:
        """Returns the error for calls to a lost store."""
        refusal = OutcomeUnknown if self._committer.unresolved else StoreFailed
        return refusal("its file is lost")

    def _reopen_lock(self) -> None:
        try:
            if self._lock.reopen():
                rescue.record(self._lock.descriptor, self._files.path)
            self._warnings.end(_LOCK)
        except OSError as error:  # SQLite's own lock holds
            self._warnings.begin(_LOCK, f"cannot use {self._lock.path}: {error.strerror}")

    async def give_up(self) -> None:
        """Save what a lost store still holds, and leave nothing behind that could be replayed.

        The connections stay open where closing them could write to another database: the process
        must end without doing so. Does nothing when called again.
        """
        if self._given_up:
            return
        self._given_up = True
        files = self._files
        logger.error("%s: posts are refused from now on", files.loss)
        saved, sound = None, False
        try:
            saved, sound = await _run(self._writer, rescue.save, files)
            told = f"What it held is in {saved}{'' if sound else ', which is damaged'}"
        except (sqlite3.Error, OSError) as error:
            told = f"What it held could not be saved ({error})"
        if sound and files.log_is_gone() and not files.is_moved():
            # The last one folds the log into the database, unless another server has it. Not
            # without a copy: on a full disk that could end half-way.
            with contextlib.suppress(sqlite3.Error):
                await self._close_connections()
        remedy = rescue.leave(files, self._lock.descriptor, saved if sound else None)
        logger.critical("%s. %s. End every server on it, then: %s", files.loss, told, remedy)

    def _meaning(self, error: Exception) -> Exception:
        """Returns the error to raise to the store's callers."""
        meaning = connections.meaning(error)
        if isinstance(meaning, OSError):
            meaning = StoreFailed(f"its files cannot be looked at ({meaning.strerror})")
        if isinstance(meaning, StoreLost):
            self._files.loss = self._files.loss or meaning
            meaning = StoreFailed(str(self._files.loss))
        return meaning

    def _write_failed(self, error: Exception) -> None:
        if self._files.loss:
            self.lost.set()
        elif isinstance(error, StorageFull):
            self._faults.begin(_FULL, f"make room on the disk of {self._files.path}")
        elif isinstance(error, StoreFailed | OutcomeUnknown):
            self._faults.begin(_WRITES, str(error.__cause__ or error))

    def _written(self) -> None:
        if not self._faults or not self._committer.stored:
            return
        self._faults.end(_WRITES)
        if shutil.disk_usage(self._files.path.parent).free > NEARLY_FULL:
            self._faults.end(_FULL)

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────

    async def commit(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        if self._files.loss:
            raise self._write_meaning(self._files.loss)
        try:
            commit = await _run(self._writer, self._commit, commands)
        except (BusError, StoreBug) as error:
            self._write_failed(error)
            raise
        self._written()
        return commit

    def _commit(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        write = functools.partial(self._write, db, commands)
        try:
            return confirmed(self._files, lambda: self._committer.transact(db, write))
        except Exception as error:
            meaning = self._write_meaning(error)
            alone = len(commands) == 1 and not isinstance(commands[0], store.AppendMany)
            if isinstance(meaning, BusError) or alone:
                if meaning is error:
                    raise  # from itself it would hold itself, and its frames
                raise meaning from error
            logger.debug("a batch of %d failed (%s): one by one", len(commands), error)
        # Something unforeseen in one of them: find out in which, so that it fails alone.
        whole = store.Commit()
        for command in commands:
            if isinstance(command, store.AppendMany):
                each = [self._alone_in_a_transaction(db, whole, post) for post in command.posts]
                whole.outcomes.append(each)
            else:
                whole.outcomes.append(self._alone_in_a_transaction(db, whole, command))
        return whole

    def _alone_in_a_transaction(
        self, db: sqlite3.Connection, whole: store.Commit, command: store.Command[Any]
    ) -> Any:
        """What becomes of a command; what it did is added to the whole."""
        try:
            commit = self._committer.transact(db, lambda: self._write(db, [command]))
        except Exception as error:  # noqa: BLE001 - its caller hears of it
            meaning = self._write_meaning(error)
            return meaning.without_traceback() if isinstance(meaning, BusError) else meaning
        (outcome,) = commit.outcomes
        commit.outcomes.clear()
        whole.add(commit)
        return outcome

    def _write(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        now = time.time_ns() // 1000
        order = self._order.next(db, now)
        return writes.run(db, commands, now, self.clock.now(), order)

    def _write_meaning(self, error: Exception) -> Exception:
        meaning = self._meaning(error)
        if self._committer.unresolved and isinstance(
            meaning, StoreFailed | StorageFull | StoreBusy
        ):
            # It may be the repetition of what is unresolved: that nothing was done is not known.
            return OutcomeUnknown(str(error))
        return meaning

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        with self._lock.held():
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    async def foreign_version(self) -> int:
        # On the writer's connection: on any other our own commits would look foreign.
        read = functools.partial(_run, self._writer, connections.data_version)
        version = await self._readable(read)
        if version != self._foreign_version:
            self._foreign_version, self._order.unsure = version, True
        return version

    async def heads(self, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._read(len(names) > HEAVY, reads.heads, names)

    async def similar(self, names: Sequence[str]) -> list[str]:
        return await self._read(False, reads.similar, names)

    async def read(self, thread_id: int, after: int, upto: int, max_bytes: int) -> list[store.Row]:
        heavy = upto - after > HEAVY
        return await self._read(heavy, reads.read, thread_id, after, upto, max_bytes)

    async def page(
        self, name: str, after: int, before: int, limit: int, max_bytes: int, newest: bool
    ) -> store.Page:
        heavy = limit > HEAVY
        return await self._read(heavy, reads.page, name, after, before, limit, max_bytes, newest)

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
        return await self._read(True, threads.entrance, join, joined, self.clock.now())

    async def unread(self, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
        return await self._read(True, participants.unread, agent, limit)

    async def sightings(self, since: int) -> list[store.Sighting]:
        return await self._read(True, participants.sightings, since)

    async def agent(self, name: str) -> Agent | None:
        return await self._read(False, reads.agent, name, self.clock.now())

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        now = self.clock.now()
        return await self._read(limit > HEAVY, reads.list_agents, limit, after, now)

    async def owner(self, token_hash: bytes) -> store.Owner | None:
        return await self._read(False, reads.owner, token_hash)

    async def expire_times(self, token_hashes: Collection[bytes]) -> dict[bytes, int]:
        return await self._read(len(token_hashes) > HEAVY, reads.expire_times, token_hashes)

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
            # The thread runs it to its end although the caller may leave; nobody else's turn
            # begins before.
            return await _to_the_end(_run(self._heavy, run))

    async def _readable(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Read. Raises StoreFailed, StoreBusy or StoreBug, and remembers what cannot be read."""
        if self._files.loss:
            raise StoreFailed(str(self._files.loss))
        try:
            return await read()
        except (sqlite3.Error, StoreFailed, StoreLost) as error:
            meaning = self._meaning(error)
            if self._files.loss:
                self.lost.set()
            elif isinstance(meaning, StoreFailed):
                self._failed_read = read
                self._faults.begin(_READS, str(meaning))
            if meaning is error:
                raise
            raise meaning from error


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What comes of it; if this is cancelled, that is raised once it is done."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody else will look at it
        raise


async def _run(
    connection: aiosqlite.Connection,
    function: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run a function on a connection's thread, in one hop.

    aiosqlite has no public call for this: every statement would be a hop of its own, with room for
    other calls between them. The two names used here are why its version is bounded.
    """
    execute: Any = connection._execute
    result: T = await execute(function, connection._conn, *args, **kwargs)
    return result
