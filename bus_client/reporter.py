"""Tells the server what was read, so that an agent which was killed goes on from there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import islice

from bus_client.calls import Calls
from bus_client.errors import BusError
from threadbus.v1.bus_service_pb2 import HeartbeatRequest
from threadbus.v1.message_pb2 import Cursor

_INTERVAL = 0.5  # seconds between two reports
_CURSORS = 1_000  # in one report, the contract's limit
_LAST_REPORT = 2.0  # seconds that closing may take for it


class Reporter:
    """Reports the newest read positions of all threads, many in one call."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._unsent: dict[str, Cursor] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def report(self, cursor: Cursor) -> None:
        """Everything up to `cursor` was read. The server learns it within about a second."""
        self._unsent[cursor.thread] = cursor
        self._news.set()

    async def send(self, *, timeout: float | None = None) -> None:
        """Sends now what was reported. What could not be sent is kept for the next time."""
        batch = dict(islice(self._unsent.items(), _CURSORS))
        if not batch:
            return
        for thread in batch:
            del self._unsent[thread]
        try:
            await self._calls.call(
                self._calls.bus.Heartbeat,
                HeartbeatRequest(read_cursors=batch.values()),
                timeout=timeout,
            )
        except BaseException:
            self._unsent = batch | self._unsent  # newer ones win
            raise
        if self._unsent:
            self._news.set()

    async def close(self) -> None:
        """Sends what is left, if that is quickly done."""
        self._task.cancel()
        await asyncio.wait([self._task])
        with suppress(BusError):  # unreported messages will come again: repeats, but no gaps
            await self.send(timeout=_LAST_REPORT)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            with suppress(BusError):  # kept for the next report
                await self.send()
            await asyncio.sleep(_INTERVAL)
