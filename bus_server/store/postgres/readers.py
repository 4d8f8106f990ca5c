"""The connections that read."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from bus_server.errors import StoreBusy
from bus_server.store.postgres.connection import Conflict, Connection, ConnectionLost, Database

P = ParamSpec("P")
T = TypeVar("T")

#: How many connections read. Few are enough for many reads: each is in use for about a millisecond.
READERS = 4
#: Seconds for which a read is tried again while the database cannot be reached: open waits outlive
#: a restart of the database, or another taking its place.
PATIENCE = 30.0
#: Seconds between tries.
RETRY_DELAY = 0.2


class Readers:
    """At most READERS connections, which are made when they are needed."""

    def __init__(
        self, database: Database, on_connect: Callable[[Connection], Awaitable[None]]
    ) -> None:
        """`on_connect`: called with each new connection."""
        self._database, self._on_connect = database, on_connect
        self._slots = asyncio.Semaphore(READERS)
        #: The connections that are not in use; the one that was used last is the last.
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def idle(self) -> int:
        """The number of connections that are open and not in use."""
        return len(self._idle)

    async def read(
        self,
        query: Callable[Concatenate[Connection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a query. Returns what it returns, and raises its BusErrors.

        If the caller is cancelled, the query goes on: its connection would be lost otherwise.

        Raises:
            StoreBusy: the database could not be reached for PATIENCE.
            StoreFailed, StoreBug: it failed.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while True:
            try:
                return await self.read_once(query, *args, **kwargs)
            except (ConnectionLost, Conflict) as error:
                if loop.time() > end:
                    raise StoreBusy(f"the database cannot be reached ({error})") from error
            await asyncio.sleep(RETRY_DELAY)

    async def read_once(
        self,
        query: Callable[Concatenate[Connection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `read`, but raises ConnectionLost or Conflict instead of trying again."""
        await self._slots.acquire()
        return await self._completed(self._read(lambda db: query(db, *args, **kwargs)))

    async def _completed(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to completion. Returns its result, unless this task is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        if not task.cancelled():
            task.exception()  # retrieve it, or asyncio would log it

    async def _read(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a query on a connection, and give back its slot."""
        try:
            new = not self._idle
            connection = await self._database.connect() if new else self._idle.pop()
            try:
                if new:
                    await self._on_connect(connection)
                return await read(connection)
            finally:
                if connection.usable:
                    self._idle.append(connection)
                else:
                    await connection.close()
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Wait for the reads that are under way, and close the connections."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._idle:
            await connection.close()
