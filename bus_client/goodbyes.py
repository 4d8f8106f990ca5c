"""The goodbyes of one client, and what must not take them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Goodbyes:
    """Counts them. Who would come again looks whether the count is still the same."""

    def __init__(self) -> None:
        self._count = 0
        self._saying = asyncio.Lock()

    @asynccontextmanager
    async def saying(self) -> AsyncIterator[None]:
        """Lets one be said; it counts unless that fails."""
        async with self._saying:
            yield
            self._count += 1

    async def count(self, until: float | None) -> int:
        """How many were said, once none is being said.

        TimeoutError if that takes longer than `until`, a time of the loop's clock. None = for ever.
        """
        async with asyncio.timeout_at(until), self._saying:
            return self._count
