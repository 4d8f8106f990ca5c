"""Items that come in batches, such as the messages of a frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


async def items_of(batches: AsyncGenerator[Iterable[T]]) -> AsyncGenerator[T]:
    """Yields the items of all batches, one by one. Closes `batches`."""
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                yield item


class LastingItems(AsyncGenerator[T]):
    """The items of all batches, one by one. Cancelling anext() does not end it, and loses nothing.

    A generator would end, as what it awaits is cancelled. Here, each batch is awaited in a task of
    its own, which goes on for the next anext(). It is cancelled when the iterator is closed, or
    dropped.
    """

    def __init__(self, batches: AsyncGenerator[Iterable[T]]) -> None:
        """Closes `batches` when it is closed."""
        self._batches = batches
        self._items: Iterator[T] = iter(())
        self._coming: asyncio.Task[Iterable[T] | None] | None = None
        self._running = self._closed = False

    async def asend(self, value: None) -> T:
        """Returns the next item. Raises StopAsyncIteration after the last."""
        if self._running:
            raise RuntimeError("anext(): the iterator is running already")
        self._running = True
        try:
            while not self._closed:
                for item in self._items:
                    return item
                self._items = await self._next_batch()
        except Exception:
            await self.aclose()
            raise
        finally:
            self._running = False
        raise StopAsyncIteration

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> T:
        """Close the iterator, and raise the exception."""
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        """Close the iterator."""
        self._closed, self._items = True, iter(())
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        await self._batches.aclose()

    async def close_if_left(self) -> None:
        """Close the iterator if the last anext() was cancelled, and there was none since.

        No-op in the task that gets its next batch.
        """
        left = self._coming is not None and not self._running
        if left and self._coming is not asyncio.current_task():
            await self.aclose()

    async def _next_batch(self) -> Iterator[T]:
        """Returns the items of the next batch. Closes the iterator after the last."""
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_task(_next(self._batches))
            self._coming.add_done_callback(_retrieve)
        await asyncio.wait([self._coming])
        coming, self._coming = self._coming, None
        try:
            batch = None if self._closed else coming.result()
        finally:
            del coming  # the traceback of its exception has this frame
        if batch is None:
            self._closed = True
            return iter(())
        return iter(batch)

    def __del__(self) -> None:
        coming = self._coming
        if coming is not None and not coming.done():
            with suppress(RuntimeError):  # its loop is closed
                coming.get_loop().call_soon_threadsafe(coming.cancel)


async def _next(batches: AsyncGenerator[Iterable[T]]) -> Iterable[T] | None:
    return await anext(batches, None)


def _retrieve(task: asyncio.Task[object]) -> None:
    """Take note of a task's exception, so that it is not logged if nobody asks for it."""
    if not task.cancelled():
        task.exception()
