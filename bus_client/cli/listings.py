"""Reads the beginning of a listing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def first(most: int, items: AsyncIterator[T]) -> list[T]:
    """Returns the first items, at most `most`."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == most:
            break
    return found
