"""The embedded store: SQLite, one connection that writes and a few that read.

Each connection has a thread of its own (aiosqlite's), and each transaction or query is one plain
function run there: one hop, and nothing of another call can come in between.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from bus_server import store
from bus_server.errors import BusError, StoreBusy, StoreRefused
from bus_server.store import activity, connections, file, participants, reads, threads, writes
from bus_server.turns import TurnLock
from threadbus.v1.agent_pb2 import Agent, Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.thread_pb2 import Thread

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Reads of more rows, and those that may pass over any number of them, are heavy.
HEAVY = 200

#: Seconds between two looks whether it is our turn to write.
TURN = 0.0005


class SqliteStore:
    """A store in one file. Made by `open`; close it last."""

    def __init__(
        self,
        writer: aiosqlite.Connection,
        quick: aiosqlite.Connection,
        heavy: aiosqlite.Connection,
        lock: int,
        epoch: str,
        busy_timeout: float,
    ) -> None:
        self.epoch = epoch
        self._busy_timeout = busy_timeout
        self._writer = writer
        self._lock = lock
        #: A thread for heavy reads, for which callers take turns, so that these delay no quick one.
        self._quick, self._heavy = quick, heavy
        self._heavy_turn = TurnLock()

    @classmethod
    async def open(cls, path: Path, *, full_durability: bool, busy_timeout: float) -> "SqliteStore":
        """Open the store, made anew when there is no file.

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
            lock = os.open(f"{path}-writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _, quick, heavy = opened
            opened_store = cls(writer, quick, heavy, lock, epoch, busy_timeout)
            await _run(writer, opened_store._upgrade)
        except BaseException as error:
            for connection in reversed(opened):
                await connection.close()
            if isinstance(error, (sqlite3.Error, OSError, StoreBusy)):
                raise StoreRefused(f"cannot open {path}: {connections.meaning(error)}") from error
            raise
        return opened_store

    async def close(self) -> None:
        """Close the connections, the writer last: it folds the log into the file."""
        for reader in (self._quick, self._heavy):
            await reader.close()
        with contextlib.suppress(sqlite3.Error, StoreBusy):
            await _run(self._writer, self._checkpoint)
        await self._writer.close()
        os.close(self._lock)

    def _upgrade(self, db: sqlite3.Connection) -> None:
        with self._alone():
            file.upgrade(db)

    async def commit(self, commands: Sequence[store.Command[Any]]) -> store.Commit:
        return await _run(self._writer, self._commit, commands)

    def _commit(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        try:
            return self._transact(db, commands)
        except Exception as error:
            meaning = connections.meaning(error)
            alone = len(commands) == 1 and not isinstance(commands[0], store.AppendMany)
            if isinstance(meaning, BusError) or alone:
                if meaning is error:
                    raise  # from itself it would hold itself, and its frames
                raise meaning from error
            logger.warning("a batch of %d failed (%s): one by one", len(commands), error)
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
            commit = self._transact(db, [command])
        except Exception as error:  # noqa: BLE001 - its caller hears of it
            meaning = connections.meaning(error)
            return meaning.without_traceback() if isinstance(meaning, BusError) else meaning
        (outcome,) = commit.outcomes
        commit.outcomes.clear()
        whole.add(commit)
        return outcome

    def _transact(
        self, db: sqlite3.Connection, commands: Sequence[store.Command[Any]]
    ) -> store.Commit:
        with self._alone():
            db.execute("BEGIN IMMEDIATE")
            try:
                commit = writes.run(db, commands, time.time_ns() // 1000)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return commit

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of all that write to or checkpoint this file, in turn with other servers.

        SQLite's own lock would do for correctness, but those who wait for it sleep for up to 0.1 s
        at a time: with two busy servers on a file the slowest posts took twice as long. Asked for
        again and again, and not waited for in the kernel, which knows no time limit: a server that
        hangs with the lock in hand must not hang the others.
        """
        give_up = time.monotonic() + self._busy_timeout
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise StoreBusy("another server on this file hangs, or is slow") from None
                time.sleep(TURN)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        with self._alone():
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    async def foreign_version(self) -> int:
        # On the writer's connection: on any other our own commits would look foreign.
        try:
            return await _run(self._writer, connections.data_version)
        except sqlite3.Error as error:
            raise connections.meaning(error) from error

    async def heads(self, names: Sequence[str]) -> dict[str, store.Head]:
        return await self._read(len(names) > HEAVY, reads.heads, names)

    async def read(
        self, thread_id: int, after: int, upto: int, max_bytes: int
    ) -> list[tuple[str, bytes]]:
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
        after: store.Place | None,
    ) -> list[tuple[Thread, store.Place]]:
        return await self._read(
            True, activity.list_threads, states, prefix, participant, limit, after
        )

    async def participants(
        self, name: str, *, first: Sequence[str] = (), after: str = "", limit: int
    ) -> tuple[store.Head, list[Participant]]:
        return await self._read(
            limit > HEAVY, participants.participants, name, first=first, after=after, limit=limit
        )

    async def entrance(self, join: store.JoinThread, joined: store.Joined) -> store.Entrance | None:
        return await self._read(True, threads.entrance, join, joined)

    async def unread(self, agent: str, limit: int) -> list[tuple[ThreadUnread, str]]:
        return await self._read(True, participants.unread, agent, limit)

    async def sightings(self, since: int) -> list[store.Sighting]:
        return await self._read(True, participants.sightings, since)

    async def agent(self, name: str) -> Agent | None:
        return await self._read(False, reads.agent, name)

    async def list_agents(self, limit: int, after: str) -> list[Agent]:
        return await self._read(limit > HEAVY, reads.list_agents, limit, after)

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
        try:
            if not heavy:
                return await _run(self._quick, query, *args, **kwargs)
            async with self._heavy_turn:
                # The thread runs it to its end although the caller may leave; nobody else's turn
                # begins before.
                return await _to_the_end(_run(self._heavy, query, *args, **kwargs))
        except sqlite3.Error as error:
            raise connections.meaning(error) from error


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
