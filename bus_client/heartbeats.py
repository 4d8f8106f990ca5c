"""Tells the server that the agent is alive, what it does, and what it has read."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice

from bus_client.calls import Calls, backoff
from bus_client.errors import BusError, InvalidArgument
from bus_client.responses import seconds
from threadbus.limits import MAX_WAIT_THREADS
from threadbus.v1.agent_pb2 import PRESENCE_UNSPECIFIED, Presence
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    WaitEnding,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor

_PAUSE = 0.5  # seconds between two beats of our own accord, at least
_ATTEMPT = 5.0  # seconds for a beat of our own accord: others wait for it
_LAST_BEAT = 2.0  # seconds that closing may take for it
# What the server says when it does not say how often, and for how long a beat counts.
_INTERVAL, _AGENT_TIMEOUT = 40.0, 60.0
_LONGEST = 3_600.0  # seconds between two beats, whatever the server says
_FOR_EVER = 1e9  # seconds


class Heartbeats:
    """Makes every Heartbeat call of one client, one after the other.

    Each carries all that the agent says of itself, as each replaces what was said before, and the
    newest read positions of all threads. `timed` beats also come when nothing was read: at once,
    at the interval that the server asks for, and after a delivery.
    """

    def __init__(self, calls: Calls, *, anonymous: bool, timed: bool) -> None:
        self._calls = calls
        self._anonymous = anonymous
        self._timed = timed and not anonymous
        self._unsent: dict[str, Cursor] = {}
        self._sent: dict[str, Cursor] = {}
        self._status_text = ""
        self._lease_end = -math.inf  # on the loop's clock
        self._agent_timeout = _AGENT_TIMEOUT
        self._due = asyncio.get_running_loop().time() if self._timed else math.inf
        self._owed = False
        self._resting = False
        self._beating = asyncio.Lock()  # else an older one could overtake a newer one
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def report(self, cursor: Cursor) -> None:
        """Everything up to `cursor` was read. The server learns it within about a second."""
        if self._anonymous or self._sent.get(cursor.thread) == cursor:
            return
        self._unsent[cursor.thread] = cursor
        self._wake()

    def delivered(self) -> None:
        """Messages came. The server takes them for work that may go on in silence for minutes.

        A beat ends that: should the agent be killed over its work, it is found out soon.
        """
        self._owed = self._timed and not self._resting
        self._wake()

    def update_from_frame(self, frame: WaitMessagesResponse) -> None:
        """Has the heartbeats fit what the server takes the agent for after `frame`."""
        if frame.HasField("messages"):
            self.delivered()
        elif frame.ending.reason == WaitEnding.REASON_SESSION_ENDED:
            self.rest()

    def forget(self, thread: str) -> None:
        """What was read of the thread counts no more."""
        self._unsent.pop(thread, None)
        self._sent.pop(thread, None)

    def rest(self) -> None:
        """Makes no beat of its own accord until resume(): any would take back a goodbye."""
        self._resting, self._owed, self._due = True, False, math.inf

    @asynccontextmanager
    async def goodbye(self) -> AsyncIterator[None]:
        """Reports what was read, lets the goodbye be said, and rests; unless that fails."""
        self.rest()
        try:
            await self.send()
            yield
        except BaseException:
            self.resume()
            raise

    def resume(self) -> None:
        """Goes on after a rest: at once."""
        if self._resting:
            self._resting = False
            self._owed = self._timed
            self._wake()

    async def send(self) -> None:
        """Sends now what was reported. What could not be sent is kept for the next time."""
        async with self._beating:
            if self._unsent or self._owed:
                await self._beat()

    async def beat(
        self,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        *,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Beats now; text and lease are kept for the beats to come. None = as before.

        A `lease` in seconds; 0 = the ordinary one again.
        """
        async with self._beating:
            kept = self._status_text, self._lease_end
            if status_text is not None:
                self._status_text = status_text
            if lease is not None:
                self._lease_end = asyncio.get_running_loop().time() + lease
            try:
                return await self._beat(state, lease=lease)
            except InvalidArgument:
                self._status_text, self._lease_end = kept  # all beats to come would be refused
                raise

    async def close(self) -> None:
        """Sends what is left, if that is quickly done."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._task.cancelled():
            with suppress(asyncio.CancelledError):
                self._task.result()  # else it keeps the call that it was in, and the connection
        with suppress(BusError, TimeoutError):  # it will come again: repeats, but no gaps
            async with asyncio.timeout(_LAST_BEAT):
                await self.send()

    async def _run(self) -> None:
        pauses = backoff(_PAUSE, 10.0)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._due if self._due < math.inf else None):
                    await self._news.wait()
            self._news.clear()
            overdue = self._due <= asyncio.get_running_loop().time()
            if self._resting or not (overdue or self._unsent or self._owed):
                continue
            pause = _PAUSE
            if not self._beating.locked():  # else one is under way, and takes what there is along
                async with self._beating:
                    try:
                        await self._beat(timeout=_ATTEMPT)
                        pauses = backoff(_PAUSE, 10.0)
                    except BusError:
                        pause += next(pauses)
            await asyncio.sleep(pause)
            self._wake()

    async def _beat(
        self,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        *,
        lease: float | None = None,
        timeout: float | None = None,
    ) -> HeartbeatResponse:
        loop = asyncio.get_running_loop()
        batch = dict(islice(self._unsent.items(), MAX_WAIT_THREADS))
        request = HeartbeatRequest(
            state=state, status_text=self._status_text, read_cursors=batch.values()
        )
        rest = self._lease_end - loop.time()
        if not lease and rest > self._agent_timeout:  # what is left of it, while it is longer
            lease = rest
        if lease:
            request.lease.FromMicroseconds(int(min(lease, _FOR_EVER) * 1e6))
        for thread in batch:
            del self._unsent[thread]
        self._owed = False
        try:
            response = await self._calls.call(self._calls.bus.Heartbeat, request, timeout=timeout)
        except BaseException as error:
            self._unsent = _unrefused(batch, error) | self._unsent  # newer ones win
            self._owed = self._timed and not self._resting
            raise
        self._sent |= batch
        self._wake()
        if self._timed and not self._resting:
            interval = seconds(
                response.heartbeat_interval, least=_PAUSE, most=_LONGEST, default=_INTERVAL
            )
            self._due = loop.time() + interval * random.uniform(0.9, 1.0)  # noqa: S311
        if response.HasField("agent_timeout"):
            self._agent_timeout = seconds(
                response.agent_timeout, least=0.0, most=_FOR_EVER, default=_AGENT_TIMEOUT
            )
        return response

    def _wake(self) -> None:
        if (self._unsent or self._owed) and not self._resting:
            self._news.set()


def _unrefused(batch: dict[str, Cursor], error: BaseException) -> dict[str, Cursor]:
    """Those of a beat's read positions that may be sent again: others would be refused for ever."""
    if not isinstance(error, InvalidArgument):
        return batch
    refused = {field.partition(".")[0] for field, _ in error.field_violations}
    names = {f"read_cursors[{index}]": thread for index, thread in enumerate(batch)}
    return {thread: batch[thread] for name, thread in names.items() if name not in refused}
