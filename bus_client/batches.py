"""Items that come in batches, such as the messages of a frame."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def items_of(batches: AsyncGenerator[Iterable[T]]) -> AsyncGenerator[T]:
    """Yields the items of all batches, one by one. Closes `batches`."""
    async with aclosing(batches):
        async for batch in batches:
            for item in batch:
                yield item
