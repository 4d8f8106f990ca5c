"""The sessions that a client has ended, counted so that no wait reconnects into a new session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

_ANSWER_TIMEOUT = 2.0  # seconds for the server to respond to the waits sent before an EndSession


class SessionGeneration:
    """A number that is incremented with each session that the client ends.

    A wait remembers the number at its start and does not reconnect if it has changed: its new
    stream would start a new session at the server.
    """

    def __init__(self) -> None:
        self._current = 0
        self._unanswered: set[grpc.aio.Call] = set()
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._ending = asyncio.Lock()

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Context manager for an EndSession call: increments the number if the block succeeds.

        Before the block, it lets every wait sent so far get its first response, and after 2 s
        cancels those without one. Waits and EndSession go over different connections: a wait that
        arrived after EndSession would start a new session.
        """
        async with self._ending:
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT):
                    await self._all_answered.wait()
            except TimeoutError:
                for call in self._unanswered:
                    call.cancel()
            yield
            self._current += 1

    def wait_sent(self, call: grpc.aio.Call) -> None:
        """Record that a wait was sent. Call wait_answered() after its first frame, or its end."""
        self._unanswered.add(call)
        self._all_answered.clear()

    def wait_answered(self, call: grpc.aio.Call) -> None:
        """Record that a wait has its first response, or has ended. May be called again."""
        self._unanswered.discard(call)
        if not self._unanswered:
            self._all_answered.set()

    async def current(self, until: float | None) -> int:
        """Returns the number, once no session is being ended.

        Args:
            until: When to give up, on the loop's clock. None = never.

        Raises:
            TimeoutError: A session is still being ended at `until`.
        """
        async with asyncio.timeout_at(until), self._ending:
            return self._current
