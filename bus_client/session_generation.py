"""The goodbyes of one client, and what must not take them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

_PATIENCE = 2.0  # seconds for the server to answer the waits that were sent before a goodbye


class Goodbyes:
    """Counts them. Who would come again looks whether the count is still the same."""

    def __init__(self) -> None:
        self._count = 0
        self._opening: set[grpc.aio.Call] = set()
        self._all_open = asyncio.Event()
        self._all_open.set()
        self._saying = asyncio.Lock()

    @asynccontextmanager
    async def saying(self) -> AsyncIterator[None]:
        """Lets one be said; it counts unless that fails."""
        async with self._saying:
            # Waits have a connection of their own: the server could see one that was sent before
            # the goodbye after it, and would take it for the agent's return.
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._all_open.wait()
            except TimeoutError:
                for call in self._opening:
                    call.cancel()
            yield
            self._count += 1

    def opening(self, wait: grpc.aio.Call) -> None:
        """A wait was sent: until opened(), a goodbye is held back, and cancels it after 2 s."""
        self._opening.add(wait)
        self._all_open.clear()

    def opened(self, wait: grpc.aio.Call) -> None:
        """The server answered a wait, or it ended."""
        self._opening.discard(wait)
        if not self._opening:
            self._all_open.set()

    async def count(self, until: float | None) -> int:
        """How many were said, once none is being said.

        TimeoutError if that takes longer than `until`, a time of the loop's clock. None = for ever.
        """
        async with asyncio.timeout_at(until), self._saying:
            return self._count
