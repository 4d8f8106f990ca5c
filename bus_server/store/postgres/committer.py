"""Runs a store's write transactions, and finds out about those whose answer was lost."""

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Sequence
from typing import Any

from bus_server.errors import BusError, OutcomeUnknown, StoreBug, StoreBusy, StoreRefused
from bus_server.store.batch import Batch
from bus_server.store.commands import Command, Commit
from bus_server.store.decide import decide
from bus_server.store.facts import needs
from bus_server.store.faults import Faults
from bus_server.store.postgres import writes
from bus_server.store.postgres.checks import check
from bus_server.store.postgres.clock import DatabaseClock, monotonic
from bus_server.store.postgres.connection import (
    NOW,
    Conflict,
    Connection,
    ConnectionLost,
    Database,
)
from bus_server.store.postgres.gather import gather
from bus_server.store.postgres.history import CONFIRMED, History, follow
from bus_server.store.postgres.serving import check_uncopied
from threadbus.limits import MAX_GRACE

logger = logging.getLogger(__name__)

#: Seconds for which a batch is tried again while the database cannot be reached.
PATIENCE = 10.0
#: Seconds between tries: up to this, at random.
RETRY_DELAY = 0.2
#: How often a batch is run at most if it conflicts with those of other servers.
MAX_CONFLICTS = 20
#: Milliseconds to wait for an earlier session to end while it may still commit.
END_TIMEOUT = 2_000
#: Microseconds without a commit after which the row of a store is deleted when another one opens. A
#: store that is idle for so long inserts its row again.
KEPT = 24 * 3600 * 1_000_000

# The numbers of deleted rows are added to the new one: what `foreign_version` returns to the other
# stores stays the same.
_OPEN = f"""
WITH old AS (DELETE FROM writer WHERE seen_time < {NOW} - %(kept)s RETURNING batch)
INSERT INTO writer (id, batch, seen_time, confirmed)
SELECT %(id)s, coalesce(sum(batch), 0), {NOW}, {CONFIRMED} FROM old
RETURNING id, batch
"""  # noqa: S608
# As the database's clock may have been ahead when the tokens were rotated.
_CUT = f"""
UPDATE token SET expire_time = {NOW} + %(longest)s
WHERE expire_time > {NOW} + %(longest)s AND expire_time <> end_time
"""  # noqa: S608
_WHO = f"""
SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint, {NOW}
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""  # noqa: S608
# A process of the same id may be another one by now. With `wait` 0, returns true at once.
_END = """
SELECT pg_terminate_backend(pid, %(wait)s) FROM pg_stat_activity
WHERE pid = %(pid)s AND (extract(epoch FROM backend_start) * 1000000)::bigint = %(start)s
"""
# Waits for a transaction that writes the row, and writes it, so that on a synchronous standby, too,
# what it returns is there to stay. The other columns stay those of the last commit, for `follow`.
_SETTLE = f"""
INSERT INTO writer (id, batch, seen_time, confirmed)
VALUES (%(writer)s, %(committed)s, {NOW}, false)
ON CONFLICT (id) DO UPDATE SET batch = writer.batch RETURNING batch
"""  # noqa: S608


# The name under which it is logged that writes wait for locks in vain.
_LOCKED = (
    "writes are refused, as a session in the database holds locks for longer than --busy-timeout"
)


class Committer:
    """The runner of write transactions, one at a time, on a connection of its own.

    Each transaction writes its number into the store's row in the table writer. If the connection
    is lost before the COMMIT is answered, that row says whether the transaction was committed, once
    the old session has ended.
    """

    def __init__(
        self, database: Database, clock: DatabaseClock, epoch: str, kind: str, history: History
    ) -> None:
        """`kind`: what `check` has returned."""
        self._database, self._clock, self._epoch = database, clock, epoch
        self._kind = kind
        #: As of the last connection.
        self.history = history
        self._connection: Connection | None = None
        self._faults = Faults(logging.WARNING)
        #: The database's process that serves the connection, or served the last one: its id, and
        #: when it began.
        self._process = [0, 0]
        #: When the row was last known to be there, on the event loop's clock.
        self._seen = asyncio.get_running_loop().time()
        #: The id of the row in the table writer.
        self.writer = 0
        #: The number of the last batch that was written, and of the last one of which is known
        #: whether it was committed.
        self._number = self._settled = 0
        #: The number of the last batch that is known to be committed, which the row has.
        self._committed = 0

    @classmethod
    async def open(
        cls, database: Database, clock: DatabaseClock, epoch: str, kind: str
    ) -> "Committer":
        """Returns a committer that is connected, and has inserted its row.

        Also cuts the expire times of rotated tokens to the longest grace. Raises ConnectionLost,
        BusError or StoreBug, and StoreRefused if the store is being copied.
        """
        connection = await database.connect()
        try:
            await check_uncopied(connection)
            history, sent = await follow(connection, None, lost=False, epoch=epoch), monotonic()
            (own,), (row,), _ = await connection.run(
                (_WHO, {}),
                (_OPEN, {"kept": KEPT, "id": secrets.randbits(62)}),
                (_CUT, {"longest": round(MAX_GRACE * 1e6)}),
            )
        except BaseException:
            await connection.close()
            raise
        opened = cls(database, clock, epoch, kind, history)
        opened._connection, opened._process = connection, list(own[:2])
        clock.observe(sent, own[2])
        opened.writer, opened._number = row
        opened._settled = opened._committed = opened._number
        return opened

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def transact(self, commands: Sequence[Command[Any]]) -> Commit:
        """Run commands in one transaction. Must not be cancelled.

        Raises:
            OutcomeUnknown: it is unknown whether the transaction was committed, or an earlier one.
            StoreBusy: others held locks for too long, or the database cannot be reached. Nothing
                was committed.
            StorageFull, StoreFailed, StoreBug: the database failed. Nothing was committed. The same
                holds for any other exception.
        """
        loop = asyncio.get_running_loop()
        # From the first lost connection on: an answer can be waited for longer than that.
        end, conflicts = math.inf, 0
        written: Batch | None = None
        while True:
            try:
                connection = await self._connected()
                if written is not None and self._committed == self._number:
                    written.commit.time = time.monotonic()
                    return written.commit
                written = await self._decided(connection, commands)
                await self._write(connection, written)
            except Conflict as error:
                await self._roll_back()
                written, conflicts = None, conflicts + 1
                if conflicts == MAX_CONFLICTS:
                    raise StoreBug(f"{conflicts} conflicts, the last one: {error}") from error
            except ConnectionLost as error:
                if self._connection is not None:
                    logger.warning("the connection to the database is lost: %s", error)
                await self.close()
                end = min(end, loop.time() + PATIENCE)
                if loop.time() > end:
                    raise self._gave_up(error) from error
            except StoreBusy:
                self._faults.begin(_LOCKED, "pg_blocking_pids() names it")
                await self._roll_back()
                raise
            except BaseException:
                await self._roll_back()
                raise
            else:
                self._faults.end(_LOCKED)
                written.commit.time = time.monotonic()
                return written.commit
            await asyncio.sleep(random.uniform(0, RETRY_DELAY))  # noqa: S311 - not a secret

    def _gave_up(self, error: ConnectionLost) -> OutcomeUnknown | StoreBusy:
        if self._settled < self._number:
            return OutcomeUnknown(f"the connection to the database was lost ({error})")
        return StoreBusy(f"the database cannot be reached ({error})")

    async def _connected(self) -> Connection:
        """Returns the connection; makes a new one if it was lost. Raises ConnectionLost."""
        if self._connection is None:
            connection = await self._database.connect()
            try:
                await self._settle(connection)
                await self._check(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _settle(self, connection: Connection) -> None:
        """End the last session, and find out which batches were committed.

        Raises ConnectionLost if that is not possible: then it is as unknown as before.
        """
        pid, start = self._process
        wait = END_TIMEOUT if self._settled < self._number else 0
        # Others delete the row of a store that is idle for KEPT. A row missing before that is lost.
        idle = asyncio.get_running_loop().time() - self._seen > KEPT / 1e6 / 2
        try:
            await check_uncopied(connection)
            _, ((found,),), (own,) = await connection.run(
                (_END, {"pid": pid, "start": start, "wait": wait}),
                (_SETTLE, {"writer": self.writer, "committed": self._committed if idle else 0}),
                (_WHO, {}),
                timeout=self._database.lock_timeout,
            )
        except StoreRefused as error:
            raise ConnectionLost(str(error)) from error
        except (Conflict, BusError, StoreBug) as error:
            raise ConnectionLost(f"an earlier session does not end: {error}") from error
        # That the session has not ended in time, or as in _write.
        if connection.warning is not None:
            raise ConnectionLost(connection.warning)
        if lost := found < self._committed:
            logger.critical(
                "the database lacks %d commits that this server acknowledged",
                self._committed - found,
            )
        try:
            self.history = await follow(connection, self.history, lost=lost, epoch=self._epoch)
        except (Conflict, BusError, StoreBug) as error:
            raise ConnectionLost(f"cannot look what is missing: {error}") from error
        self._committed, self._settled = found, self._number
        self._process = list(own[:2])

    async def _check(self, connection: Connection) -> None:
        """Warn if a commit survives something else than before: a standby has its own settings."""
        try:
            kind = await check(connection, self._database.durability)
        except StoreRefused as error:
            kind = f"not as --durability {self._database.durability} demands: {error}"
        if kind != self._kind:
            logger.warning("the database is now: %s", kind)
            self._kind = kind

    async def _decided(self, connection: Connection, commands: Sequence[Command[Any]]) -> Batch:
        """Begin a transaction, and decide the commands in it."""
        wanted, timeout = needs(commands), self._database.lock_timeout
        facts = await gather(connection, wanted, self._clock, self._epoch, timeout)
        return decide(commands, facts)

    async def _write(self, connection: Connection, batch: Batch) -> None:
        """Write what a batch changes, and commit the transaction."""
        steps = writes.statements(batch, self.writer, self._number + 1)
        self._number, connection.warning = self._number + 1, None
        try:
            await connection.run(*steps, timeout=self._database.lock_timeout)
        except (Conflict, BusError, StoreBug):
            self._settled = self._number  # it was not committed
            raise
        if connection.warning is not None:
            # The wait for the synchronous standby was cancelled: it may not have the commit.
            raise ConnectionLost(connection.warning)
        self._settled = self._committed = self._number
        self._seen = asyncio.get_running_loop().time()

    async def _roll_back(self) -> None:
        """Roll the transaction back. If that is not possible, close the connection instead."""
        try:
            if self._connection is not None and self._settled == self._number:
                await self._connection.run(("ROLLBACK", {}))
                return
        except (ConnectionLost, BusError, StoreBug):
            pass  # the first error is the one to raise
        await self.close()
