"""The other servers on the store: which are alive, and which waits they have open.

Each server writes a row of its own once, by which those that are running learn of it. While there
are several, each renews its lease, and writes with its checkpoints which waits it has open. One
that is alone writes nothing more.
"""

import asyncio
import contextlib
import logging
import math
import secrets

from bus_server import logs
from bus_server.errors import BusError, StoreBug
from bus_server.presence.changes import Changes
from bus_server.presence.remote_waits import RemoteWaits
from bus_server.store import RemoveServers, SaveServer
from bus_server.store.interface import Store
from bus_server.waits import OpenWait, Waits
from bus_server.writer import Writer
from threadbus.v1.message_pb2 import Cursor

logger = logging.getLogger(__name__)

#: A lease is renewed when this share of it is over.
RENEWAL = 1 / 3
#: Maximum number of waits removed by a transaction, and of threads of the waits that it adds,
#: exceeded by those of one wait at most.
BATCH = 1_000
#: Seconds until it is checked again whether a server whose lease has ended is dead.
RETRY_DELAY = 0.1
#: Seconds that a server which stops waits until it is removed from the store.
LEAVE_TIMEOUT = 2.0


class Servers:
    """This server among the others on the store.

    Another server is alive until it has not renewed its lease for as long as the lease says. That
    time is measured here, on the event loop's clock: the clocks of two servers are never compared.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        waits: Waits,
        remote: RemoteWaits,
        changes: Changes,
        *,
        lease: float,
    ) -> None:
        """`lease`: that of this server, in seconds."""
        #: This server's name on the store. Each run has another.
        self.name = secrets.token_hex(8)
        self._store = store
        self._writer = writer
        self._waits = waits
        self._remote = remote
        self._changes = changes
        self._lease = lease
        #: When each other server last renewed its lease, on the store's clock, and when the lease
        #: ends, on the event loop's clock.
        self._others: dict[str, tuple[int, float]] = {}
        #: Set when there is another server that was not there before.
        self._joined = asyncio.Event()
        #: Servers whose leases have ended, and which are to be removed from the store, with the
        #: times of their last renewals.
        self._dead: dict[str, int] = {}
        #: The numbers of this server's waits that are in the store, and of those that may be there:
        #: a commit that stored them failed.
        self._written: set[int] = set()
        self._uncertain: set[int] = set()
        #: Whether the lease must be renewed.
        self._renew = False
        #: Whether this server is in the store, and whether it has left.
        self._stored = self._left = False
        self._looking = asyncio.Lock()

    async def enter(self) -> None:
        """Look, and write this server's row with the next checkpoint. Raises what `look` does."""
        self._renew_soon()
        await self.look()

    async def look(self) -> None:
        """Read which servers there are, and which waits they have. Raises what the store raises."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        stored = await self._store.servers()
        if stored.pop(self.name, None) is None and self._stored and not self._left:
            self._renew_soon()  # another server removed this one, with its waits
        for name in self._others.keys() - stored.keys():
            await self._forget(name, "it has left")
        for name, (renew_time, lease) in stored.items():
            known = self._others[name][0] if name in self._others else self._dead.get(name)
            if renew_time == known:
                continue
            numbers, new = await self._store.server_waits(name, self._remote.numbers(name))
            await self._remote.update(name, numbers, new)
            if name not in self._others:
                self._joined.set()
                text = "another server is on the store: %s"
                logs.event(logger, logging.INFO, "server_joined", text, name, server=name)
            now = asyncio.get_running_loop().time()
            self._others[name] = renew_time, now + lease / 1e6
            self._dead.pop(name, None)
            if not self._changes.several_servers:
                self._changes.several_servers = True
                self._changes.unsaved.set()  # it must learn which waits are open here

    async def save(self) -> None:
        """Write which waits are open, if there are other servers. Raises what `submit` raises.

        The next call writes what this one could not.
        """
        if self._dead:
            dead = dict(self._dead)
            await self._writer.submit(RemoveServers(dead))
            for name in dead.keys() & self._dead.keys():
                del self._dead[name]
        waits = dict(self._waits.find("", "", 0)) if self._others else {}
        opened = sorted(waits.keys() - self._written, reverse=True)
        closed = sorted((self._written | self._uncertain) - waits.keys())
        while not self._left and (opened or closed or self._renew):
            bodies, threads = dict[int, bytes](), 0
            while opened and threads < BATCH:
                wait = waits[opened.pop()]
                bodies[wait.number] = _body(wait)
                threads += len(wait.threads)
            gone, closed = closed[:BATCH], closed[BATCH:]
            command = SaveServer(self.name, round(self._lease * 1e6), bodies, gone)
            self._uncertain |= bodies.keys()
            if not await self._writer.submit(command):
                # It was not there: this is the first time, or another server had removed it.
                self._uncertain |= self._written
                self._written.clear()
                self._changes.unsaved.set()
            self._renew, self._stored = False, True
            self._written |= bodies.keys()
            self._uncertain -= bodies.keys()
            for numbers in (self._written, self._uncertain):
                numbers.difference_update(gone)

    async def run(self) -> None:
        """Renew the lease in time, and notice which servers have died, until cancelled."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._lease * RENEWAL
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(renew_at, self._next_end())):
                    await self._joined.wait()
            self._joined.clear()
            if loop.time() >= renew_at:
                renew_at = loop.time() + self._lease * RENEWAL
                if self._others:
                    self._renew_soon()
            if loop.time() >= self._next_end():
                with contextlib.suppress(BusError, StoreBug):
                    await self._expire()
                # If it cannot be known whether they are dead, try again later.
                await asyncio.sleep(RETRY_DELAY)

    async def _expire(self) -> None:
        """Forget the servers whose leases have ended. Raises what the store raises."""
        async with self._looking:
            await self._look()  # they may have renewed their leases since
            now = asyncio.get_running_loop().time()
            for name, (renew_time, end) in list(self._others.items()):
                if end <= now:
                    await self._forget(name, "its lease has ended")
                    self._dead[name] = renew_time

    def count_others(self) -> int:
        """Returns how many other servers on the store are known to be alive."""
        now = asyncio.get_running_loop().time()
        return sum(end > now for _, end in self._others.values())

    def is_first(self) -> bool:
        """Returns whether this is the first by name of the servers that are known to be alive."""
        now = asyncio.get_running_loop().time()
        return all(self.name < name or end <= now for name, (_, end) in self._others.items())

    async def leave(self) -> None:
        """Remove this server from the store. A failure is ignored: the lease will end."""
        self._left = True
        if not self._stored:
            return
        with contextlib.suppress(BusError, StoreBug, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._writer.submit(RemoveServers({self.name: None}))

    def _next_end(self) -> float:
        """Returns when the next lease of another server ends, on the event loop's clock."""
        return min((end for _, end in self._others.values()), default=math.inf)

    def _renew_soon(self) -> None:
        """Renew the lease with the next checkpoint."""
        self._renew = True
        self._changes.unsaved.set()

    async def _forget(self, name: str, why: str) -> None:
        """Forget another server and its waits."""
        fields = {"server": name, "why": why}
        text = "another server is no longer on the store: %s: %s"
        logs.event(logger, logging.INFO, "server_left", text, name, why, **fields)
        await self._remote.update(name, frozenset(), {})
        del self._others[name]
        self._changes.several_servers = bool(self._others)
        self._changes.unsaved.set()  # there may be something to remove from the store


def _body(wait: OpenWait) -> bytes:
    """Returns a wait as it is stored."""
    found = wait.to_proto()
    if not found.threads:  # it is starting
        found.threads.extend(Cursor(thread=name) for name in wait.threads)
    return found.SerializeToString()
