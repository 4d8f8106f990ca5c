"""Hints between the servers on one database, with NOTIFY.

They are not part of the transactions that they tell about: PostgreSQL commits transactions with a
NOTIFY one after the other. With 16 clients and commits of 10 ms, 90 posts a second were left of
1,356.
"""

import asyncio
import dataclasses
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping

from bus_server.errors import BusError, StoreBug
from bus_server.store import hints
from bus_server.store.faults import Faults
from bus_server.store.interface import OnHint
from bus_server.store.postgres.connection import Conflict, ConnectionLost, Database

#: Maximum number of threads in a notification: it has room for 7,999 bytes, a name has up to 128.
THREADS = 40
#: Seconds between notifications of a server: what changes meanwhile is sent together. With 5 ms, a
#: post every 5 ms was seen at another server after 3.6 ms at p50; with 2 ms, after 1.3.
INTERVAL = 0.002
#: Seconds after which a server that has nothing to send notifies itself, and after which one that
#: has heard nothing, not even from itself, connects again.
ECHO_INTERVAL, DEAF_AFTER = 10.0, 25.0
#: Seconds between attempts to connect.
RETRY_DELAY = 1.0

# The name under which it is logged that hints do not arrive.
_LOST = (
    "hints between servers are lost, what other servers write is only seen at the next "
    "--fallback-interval"
)

_NOTIFY = "SELECT pg_notify(%(channel)s, %(payload)s)"


class NotifyWaker:
    """A Waker over NOTIFY and LISTEN, each on a connection of its own."""

    def __init__(self, database: Database, epoch: str) -> None:
        """`epoch`: the store's. Channels are shared by all stores in a database."""
        # Nobody waits for a hint to be on disk.
        self._database = dataclasses.replace(database, durability="fast")
        self._channel = f"threadbus_{epoch}"
        #: Names this server in its notifications.
        self._sender = secrets.token_hex(4)
        #: What is to be sent. None while the waker does not run.
        self._pending: dict[str, int] | None = None
        self._due = asyncio.Event()
        self._faults = Faults(logging.WARNING)

    def publish(self, changed: Mapping[str, int]) -> None:
        if self._pending is not None and changed:
            hints.merge(self._pending, changed)
            self._due.set()

    async def run(self, on_hint: OnHint) -> None:
        self._pending = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._send))
                tasks.create_task(self._repeat(lambda: self._listen(on_hint)))
        finally:
            self._pending = None

    async def _send(self) -> None:
        """Send what is pending. Raises what `Connection.run` does."""
        connection = await self._database.connect()
        try:
            while True:
                part = self._take()
                payload = f"{self._sender} {json.dumps(part)}"
                await connection.run((_NOTIFY, {"channel": self._channel, "payload": payload}))
                await asyncio.sleep(INTERVAL)
                try:
                    async with asyncio.timeout(ECHO_INTERVAL):
                        await self._due.wait()
                except TimeoutError:
                    pass  # an echo
        finally:
            await connection.close()

    def _take(self) -> dict[str, int]:
        """Returns a part of what is pending, and removes it."""
        pending = self._pending or {}
        part = hints.first(pending, THREADS)
        for thread in part:
            del pending[thread]
        if not pending:
            self._due.clear()
        return part

    async def _listen(self, on_hint: OnHint) -> None:
        """Receive the hints of other servers. Raises what `Connection.run` does."""

        def received(payload: str) -> None:
            sender, _, hint = payload.partition(" ")
            if sender == self._sender:
                self._faults.end(_LOST)
            elif changed := hints.parse(hint):
                on_hint(changed)

        connection = await self._database.connect()
        try:
            await connection.listen(self._channel)
            self._due.set()  # to hear whether hints arrive
            await connection.receive(received, DEAF_AFTER)
        finally:
            await connection.close()

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work again each time that its connection is lost, or a statement fails."""
        while True:
            try:
                await work()
            except (ConnectionLost, Conflict, BusError, StoreBug) as error:
                self._faults.begin(_LOST, str(error))
            await asyncio.sleep(RETRY_DELAY)
