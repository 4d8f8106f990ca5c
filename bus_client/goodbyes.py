"""The goodbyes of one client, and what must not take them back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Goodbyes:
    """Counts them. Who would come again asks `since` first."""

    def __init__(self) -> None:
        #: How often the agent said goodbye.
        self.count = 0
        self._saying = asyncio.Lock()

    @asynccontextmanager
    async def saying(self) -> AsyncIterator[None]:
        """Lets one be said; it counts unless that fails."""
        async with self._saying:
            yield
            self.count += 1

    async def since(self, count: int) -> bool:
        """Whether one was said after so many; waits for one that is being said."""
        async with self._saying:
            return self.count != count
