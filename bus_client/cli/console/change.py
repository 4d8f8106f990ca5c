"""Tells the pages of a console that there is something new to read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Change:
    """Wakes the tasks that watch something, once per turn of the event loop.

    An event carries nothing: a task that is woken reads what is new. All methods are for the loop.
    """

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
        """Set the events of all that watch, in the loop's next turn."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._set_all)

    def _set_all(self) -> None:
        self._scheduled = False
        for event in self._watching:
            event.set()
