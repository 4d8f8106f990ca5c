"""Tells the pages of a console that there is something new to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Change:
    """Sets the events of those that watch, however often something changes, once a loop's turn."""

    def __init__(self) -> None:
        self._watching = set[asyncio.Event]()
        self._scheduled = False

    @contextmanager
    def watched(self, event: asyncio.Event) -> Iterator[None]:
        """Set the event after each change, until the end of the block."""
        self._watching.add(event)
        try:
            yield
        finally:
            self._watching.discard(event)

    def tell(self) -> None:
        """Something has changed."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._set_all)

    def _set_all(self) -> None:
        self._scheduled = False
        for event in self._watching:
            event.set()
