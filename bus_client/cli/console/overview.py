"""What every page of a console shows beside its thread: threads, requests, and the bus's state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bus_client
from bus_client.cli.console.change import Change
from bus_client.cli.console.connection import Connection
from bus_client.cli.documents import document
from bus_client.cli.listings import first
from bus_client.cli.requests import request_documents, server_time

_POLL = 1.0  # seconds between two looks, while a page is open
_ANSWER = 3.0  # seconds without an answer after which the bus counts as unreachable
_MOST_THREADS, _MOST_REQUESTS = 200, 100


class Overview:
    """The latest threads, what is unread, and the open requests, of one console.

    Attributes:
        change: Tells of each change.
        version: Counts the changes.
        text: All of it, as JSON: threads, requests, unread, `live` (whether the bus answers), and
            `signed_out` (why the console's token is not valid, "" if it is). Empty until it was
            read, and while no page wants it.
    """

    def __init__(self, connection: Connection) -> None:
        self.change = Change()
        self.version = 0
        self.text = ""
        self._connection = connection
        self._pages = 0
        self._wanted = asyncio.Event()
        self._seen: tuple[Any, ...] = ()
        self._shown: dict[str, Any] = {"threads": [], "requests": [], "unread": []}

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep it up to date until the end of the block."""
        self._pages += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                self._wanted.clear()
                self.text = ""

    async def run(self) -> None:
        """Look at the bus once a second while it is wanted, until the task is cancelled."""
        while True:
            await self._wanted.wait()
            state = {"live": True, "signed_out": ""}
            try:
                async with asyncio.timeout(_ANSWER):
                    await self._look()
            except (
                bus_client.Unauthenticated,
                bus_client.AgentExists,
                bus_client.AccessDenied,
            ) as error:
                state["signed_out"] = error.message
            except (bus_client.BusError, TimeoutError):
                state["live"] = False
            self._show(state)
            await asyncio.sleep(_POLL)

    def _show(self, state: dict[str, Any]) -> None:
        text = json.dumps(self._shown | state)
        if text != self.text:
            self.text = text
            self.version += 1
            self.change.tell()

    async def _look(self) -> None:
        bus = self._connection.bus
        threads = await first(_MOST_THREADS, bus.list_threads())
        requests = await first(_MOST_REQUESTS, bus.list_requests())
        person = self._connection.kind != "operator"
        unread = list((await bus.heartbeat()).unread) if person else []
        now = await server_time(bus) if requests else None
        if self._seen != (threads, unread):
            self._seen = (threads, unread)
            self._shown["threads"] = [document(each, whole=True) for each in threads]
            self._shown["unread"] = [document(each, whole=True) for each in unread]
        self._shown["requests"] = request_documents(requests, now)
