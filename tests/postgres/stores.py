"""Opens stores on PostgreSQL, and loads them with posts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bus_server.errors import BusError
from bus_server.store.postgres.store import PostgresStore
from tests import polling
from tests.store.commits import commit, log, post


@contextlib.asynccontextmanager
async def opened(
    url: str, *, durability: str = "full", busy_timeout: float = 5
) -> AsyncIterator[PostgresStore]:
    """A store in a schema. Several in one schema behave like several servers."""
    store = await PostgresStore.open(url, durability=durability, busy_timeout=busy_timeout)
    try:
        yield store
    finally:
        await store.close()


@dataclass
class Posters:
    """Posts to thread t through several stores, one after the other, until stopped.

    No post has a request_id: one that was made twice would be stored twice.
    """

    stores: list[PostgresStore]
    each: int = 4
    #: The seq of each post that was acknowledged, by its content.
    acknowledged: dict[str, int] = field(default_factory=dict)
    errors: list[BusError] = field(default_factory=list)
    _stopping: bool = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Post until the end of the block, and wait for all answers."""
        tasks = [
            asyncio.create_task(self._post(store, f"{number}-{poster}"))
            for number, store in enumerate(self.stores)
            for poster in range(self.each)
        ]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _post(self, store: PostgresStore, name: str) -> None:
        number = 0
        while not self._stopping:
            content = f"{name}-{number}"
            number += 1
            try:
                (appended,) = await commit(store, post(content=content, sender=name))
                self.acknowledged[content] = appended.seq
            except BusError as error:
                self.errors.append(error)

    async def wait_for(self, count: int) -> None:
        """Wait until `count` more posts were acknowledged."""
        count += len(self.acknowledged)
        await polling.until(lambda: len(self.acknowledged) >= count)

    async def check(self) -> None:
        """Fails if a post was refused or is not stored exactly once where it was acknowledged."""
        assert not self.errors
        assert {entry.content: entry.seq for entry in await log(self.stores[0])} == (
            self.acknowledged
        )
