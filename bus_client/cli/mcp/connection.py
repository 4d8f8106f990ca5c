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
        self._connecting: asyncio.Task[BusClient] | None = None
        self.bus: BusClient | None = None
        self.joined: dict[str, ThreadHandle] = {}

    async def client(self) -> BusClient:
        """Returns the client, connected, and a participant of the default thread.

        Calls that need it at the same time share one attempt.

        Raises:
            BusError: As BusClient.connect() and join().
        """
        if self.bus is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
            self.bus = await asyncio.shield(self._connecting)
        if self._options.thread and self._options.thread not in self.joined:
            await self._join(self.bus, self._options.thread, create=True)
        return self.bus

    async def enter(self, thread: str, *, create: bool) -> ThreadHandle:
        """Join a thread, and return its handle.

        A newcomer starts at the newest message, unless it was mentioned: it must not miss that.

        Raises:
            BusError: As client() and join().
        """
        return await self._join(await self.client(), thread, create=create)

    async def unread(self) -> dict[str, ThreadUnread]:
        """Returns the threads with entries that the agent has not read and that wake it."""
        return await _unread(await self.client())

    async def left(self) -> list[str]:
        """Returns the threads that the agent joined and is no participant of, and forgets them."""
        bus, gone = await self.client(), []
        any_state = bus_client.ThreadState.THREAD_STATE_UNSPECIFIED
        for thread in self.joined:
            own = bus.list_threads(prefix=thread, participant=bus.agent, states=[any_state])
            if not any([found.name == thread async for found in own]):
                gone.append(thread)
        for thread in gone:
            self.joined.pop(thread, None)
        return gone

    async def close(self) -> None:
        """End the agent's session: others see at once that it has gone."""
        if self.bus is None and self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        bus, self.bus = self.bus, None
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

    async def _join(self, bus: BusClient, thread: str, *, create: bool) -> ThreadHandle:
        start: Literal["first", "head"] = "first" if thread in await _unread(bus) else "head"
        handle = await bus.join(thread, create=create, start=start)
        self.joined[thread] = handle
        return handle


async def _unread(bus: BusClient) -> dict[str, ThreadUnread]:
    return {each.thread: each for each in (await bus.heartbeat()).unread}
