"""The connection of a bridge to the bus, opened when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import bus_client
from bus_client.cli.daemon import in_daemon_thread
from threadbus.names import THREAD

if TYPE_CHECKING:
    from bus_client import BusClient, ThreadHandle
    from threadbus.v1.bus_service_pb2 import ThreadUnread

_CALL_TIMEOUT = 4.0  # seconds for a call with its retries, and to connect
_GOODBYE_TIMEOUT = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Options:
    """What a bridge is started with.

    Attributes:
        server: The server's address.
        agent: The name of the agent, registered if it is new.
        token: Its token. None = the one stored for it.
        tls: The arguments of BusClient with the files for TLS.
        thread: The thread to use if a call names none and none was used before. None = none.
        wait: Seconds that bus_wait waits if the call does not say.
        wait_max: Seconds that it waits at most.
    """

    server: str
    agent: str
    token: str | None
    tls: Mapping[str, Any]
    thread: str | None
    wait: float
    wait_max: float


class Connection:
    """One agent on the bus, and the threads that it has joined.

    Attributes:
        bus: The client, once it is connected.
        joined: The threads that were joined, by name.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        #: The default thread, until it is joined.
        self._to_join = options.thread
        self._connecting: asyncio.Task[BusClient] | None = None
        self.bus: BusClient | None = None
        self.joined: dict[str, ThreadHandle] = {}

    async def client(self) -> BusClient:
        """Returns the client, connected, and a participant of the default thread if it may be.

        Joins that thread once: if it is deleted later, it stays so. Calls that need the client at
        the same time share one attempt to connect.

        Raises:
            BusError: As BusClient.connect().
            Unavailable: The server cannot handle the join now.
        """
        if self.bus is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
            self.bus = await asyncio.shield(self._connecting)
        if self._to_join is not None:
            await self._join_default(self.bus, self._to_join)
        return self.bus

    async def enter(self, thread: str, *, create: bool) -> ThreadHandle:
        """Join a thread, and return its handle.

        A newcomer starts at the newest message, unless it was mentioned: it must not miss that.

        Raises:
            BusError: As client() and join().
        """
        return await self._join(await self.client(), thread, create=create)

    async def unread(self) -> list[ThreadUnread]:
        """Returns the threads with entries that the agent has not read and that wake it."""
        bus = await self.client()
        return list((await bus.heartbeat()).unread)

    async def left(self) -> list[str]:
        """Returns the threads that the agent joined and is no participant of, and forgets them."""
        bus = await self.client()
        joined = list(self.joined)  # other calls may add to it
        gone = [thread for thread in joined if not await _takes_part(bus, thread)]
        for thread in gone:
            self.joined.pop(thread, None)
        return gone

    async def close(self) -> None:
        """End the agent's session: others see at once that it has gone."""
        bus, self.bus = self.bus, None
        if bus is None and self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            if not self._connecting.cancelled() and self._connecting.exception() is None:
                bus = self._connecting.result()  # the call that needed it was cancelled
        if bus is None:
            return
        with suppress(bus_client.BusError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_TIMEOUT):
                await bus.end_session()
        await bus.close()

    async def _connect(self) -> BusClient:
        # Imports gRPC, which takes a while: meanwhile the host is answered.
        await in_daemon_thread(lambda: import_module("bus_client.client"))
        bus = bus_client.BusClient(
            self._options.server,
            agent=self._options.agent,
            token=self._options.token,
            timeout=_CALL_TIMEOUT,
            **self._options.tls,
        )
        await bus.connect()
        return bus

    async def _join_default(self, bus: BusClient, thread: str) -> None:
        try:
            await self._join(bus, thread, create=True)
        except bus_client.Unavailable:
            raise
        except bus_client.BusError:
            return  # the calls that need the thread fail, and say why; the others do not
        self._to_join = None

    async def _join(self, bus: BusClient, thread: str, *, create: bool) -> ThreadHandle:
        # "first" has no effect if it was joined before: it is for those that were only mentioned.
        start: Literal["first", "head"] = "first" if await _takes_part(bus, thread) else "head"
        handle = await bus.join(thread, create=create, start=start)
        self.joined[thread] = handle
        return handle


async def _takes_part(bus: BusClient, thread: str) -> bool:
    if not THREAD.fullmatch(thread):
        return False  # joining it fails, and says why
    any_state = bus_client.ThreadState.THREAD_STATE_UNSPECIFIED
    async for found in bus.list_threads(prefix=thread, participant=bus.agent, states=[any_state]):
        if found.name == thread:
            return True
    return False
