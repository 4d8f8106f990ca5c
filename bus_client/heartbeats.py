"""Heartbeats: reports that the agent is alive, what it is doing, and what it has read."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bus_client.calls import Calls
from bus_client.errors import BusError, InvalidArgument
from bus_client.read_position import ReadPosition
from bus_client.responses import bounded_seconds
from bus_client.retry import backoff
from threadbus.limits import MAX_WAIT_THREADS
from threadbus.v1.agent_pb2 import PRESENCE_UNSPECIFIED, Presence
from threadbus.v1.bus_service_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    WaitEnding,
    WaitMessagesResponse,
)

_MIN_PAUSE = 0.5  # minimum seconds between two automatic heartbeats
_TIMEOUT = 5.0  # seconds for an automatic heartbeat, for which other heartbeats wait
_LAST_TIMEOUT = 2.0  # seconds for the last heartbeat, sent by close()
# Seconds: the heartbeat interval and agent timeout to assume if the server does not report them.
_INTERVAL, _AGENT_TIMEOUT = 40.0, 60.0
_MAX_INTERVAL = 3_600.0  # seconds: a longer interval of the server is lowered to this
_NO_LIMIT = 1e9  # seconds: longer leases and timeouts are lowered to this


class Heartbeats:
    """The Heartbeat calls of one client, made one at a time.

    A heartbeat replaces the status text and the lease of the one before it, so each repeats both.
    It also carries the read positions that have not been sent, of at most 1,000 threads.

    Heartbeats are sent after report(); if `automatic`, also at once, at the interval that the
    server asks for, and after a delivery. For an `anonymous` client, whose presence and positions
    the server does not keep, only beat() sends one.

    Belongs to the event loop in which it was created; its background task runs until close().
    """

    def __init__(self, calls: Calls, *, anonymous: bool, automatic: bool) -> None:
        self._calls = calls
        self._anonymous = anonymous
        self._automatic = automatic and not anonymous
        self._loop = asyncio.get_running_loop()
        #: The read positions to send. Another thread may add to _read at any time, as a lock could
        #: be held by what a signal handler interrupts.
        self._unsent: dict[str, ReadPosition] = {}
        self._read: dict[str, ReadPosition] = {}
        self._sent: dict[str, ReadPosition] = {}
        self._status_text = ""
        self._lease_end = -math.inf  # on the loop's clock
        self._agent_timeout = _AGENT_TIMEOUT
        self._due = asyncio.get_running_loop().time() if self._automatic else math.inf
        self._needed = False  # whether to send a heartbeat even if no position is unsent
        self._paused = False
        self._sending = asyncio.Lock()  # keeps an older heartbeat from overtaking a newer one
        self._wakeup = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def report(self, thread: str, position: ReadPosition) -> None:
        """Schedule a report, within about a second, of how far a thread was read."""
        if not self._anonymous and self._sent.get(thread) != position:
            self._merge(thread, position)
            self._wake()

    def report_read(self, thread: str, position: ReadPosition) -> None:
        """As report(), but may be called in any thread."""
        if self._anonymous or self._sent.get(thread) == position:
            return
        self._read[thread] = self._read.get(thread, position).up_to(position)
        if not self._wakeup.is_set():
            self._loop.call_soon_threadsafe(self._wake)

    def update_from_frame(self, frame: WaitMessagesResponse) -> None:
        """Adjust heartbeats to how the server sees the agent after it has sent this frame.

        If the agent has sent no heartbeat yet, the server lets it be silent for minutes after a
        delivery. A heartbeat ends that, so that the death of a working agent is noticed soon. When
        the agent's session has ended, heartbeats are paused.
        """
        if frame.HasField("messages"):
            self._needed = self._automatic and not self._paused
            self._wake()
        elif frame.ending.reason == WaitEnding.REASON_SESSION_ENDED:
            self.pause()

    def forget(self, thread: str) -> None:
        """Drop a thread's read position, whether or not it has been sent."""
        self._unsent.pop(thread, None)
        self._read.pop(thread, None)
        self._sent.pop(thread, None)

    def pause(self) -> None:
        """Stop all heartbeats but those of flush() and beat(), until resume().

        Any heartbeat would start a new session.
        """
        self._paused, self._needed, self._due = True, False, math.inf

    @property
    def paused(self) -> bool:
        """Whether they are paused."""
        return self._paused

    def resume(self) -> None:
        """End pause(), and send a heartbeat at once if they are automatic. No-op if not paused."""
        if self._paused:
            self._paused = False
            self._needed = self._automatic
            self._wake()

    @asynccontextmanager
    async def ending_session(self) -> AsyncIterator[None]:
        """Context manager for the call that ends the session.

        Before the block, it pauses heartbeats and sends the reported positions. If this or the
        block fails, it resumes heartbeats.

        Raises:
            BusError: As in flush(). The block does not run.
        """
        self.pause()
        try:
            await self.flush()
            yield
        except BaseException:
            self.resume()
            raise

    async def flush(self) -> None:
        """Send the reported positions that have not been sent yet, of at most 1,000 threads.

        Raises:
            BusError: The call failed. The positions are sent later, except those that were refused.
        """
        async with self._sending:
            if self._unsent or self._read or self._needed:
                await self._send()

    async def beat(
        self,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        *,
        status_text: str | None = None,
        lease: float | None = None,
    ) -> HeartbeatResponse:
        """Send a heartbeat now, and return the response.

        Later heartbeats repeat the text, and what is left of a lease longer than agent_timeout,
        even if the call fails.

        Args:
            state: PRESENCE_UNSPECIFIED = unchanged.
            status_text: None = unchanged.
            lease: Seconds from now. 0 = the server's agent_timeout. None = what is left of the last
                lease, or agent_timeout if that is longer.

        Raises:
            InvalidArgument: A value was refused. Text and lease remain as before the call.
            BusError: The call failed.
        """
        async with self._sending:
            before = self._status_text, self._lease_end
            if status_text is not None:
                self._status_text = status_text
            if lease is not None:
                self._lease_end = asyncio.get_running_loop().time() + lease
            try:
                return await self._send(state, lease=lease)
            except InvalidArgument:
                # Otherwise all later heartbeats would be refused, too.
                self._status_text, self._lease_end = before
                raise

    async def close(self) -> None:
        """Stop all heartbeats, and send the remaining positions within 2 s. Ignores failures.

        Messages that could not be reported as read are delivered again when the agent joins their
        thread again.
        """
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._task.cancelled():
            with suppress(asyncio.CancelledError):
                # Otherwise the task would keep a reference to its last call, and so to the
                # connection.
                self._task.result()
        with suppress(BusError, TimeoutError):
            async with asyncio.timeout(_LAST_TIMEOUT):
                await self.flush()

    async def _run(self) -> None:
        pauses = backoff(_MIN_PAUSE, 10.0)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._due if self._due < math.inf else None):
                    await self._wakeup.wait()
            self._wakeup.clear()
            overdue = self._due <= asyncio.get_running_loop().time()
            if self._paused or not (overdue or self._unsent or self._read or self._needed):
                continue
            pause = _MIN_PAUSE
            if not self._sending.locked():  # otherwise the lock's holder sends the positions
                async with self._sending:
                    try:
                        await self._send(timeout=_TIMEOUT)
                        pauses = backoff(_MIN_PAUSE, 10.0)
                    except BusError:
                        pause += next(pauses)
            await asyncio.sleep(pause)
            self._wake()

    async def _send(
        self,
        state: Presence.ValueType = PRESENCE_UNSPECIFIED,
        *,
        lease: float | None = None,
        timeout: float | None = None,
    ) -> HeartbeatResponse:
        """Make the Heartbeat call, and return the response. The caller must hold `_sending`."""
        loop = asyncio.get_running_loop()
        for thread in list(self._read):
            self._merge(thread, self._read.pop(thread))
        batch = {
            thread: self._unsent.pop(thread) for thread in list(self._unsent)[:MAX_WAIT_THREADS]
        }
        request = HeartbeatRequest(
            state=state,
            status_text=self._status_text,
            read_cursors=[position.cursor(thread) for thread, position in batch.items()],
        )
        left = self._lease_end - loop.time()
        if not lease and left > self._agent_timeout:  # an earlier, longer lease has not expired
            lease = left
        if lease:
            request.lease.FromMicroseconds(int(min(lease, _NO_LIMIT) * 1e6))
        self._needed = False
        try:
            response = await self._calls.call(self._calls.bus.Heartbeat, request, timeout=timeout)
        except BaseException as error:
            for thread, position in _retriable(batch, error).items():
                newer = self._unsent.get(thread, position)
                self._unsent[thread] = position.up_to(newer)
            self._needed = self._automatic and not self._paused
            raise
        self._sent |= batch
        self._wake()
        if self._automatic and not self._paused:
            interval = bounded_seconds(
                response.heartbeat_interval,
                least=_MIN_PAUSE,
                most=_MAX_INTERVAL,
                default=_INTERVAL,
            )
            self._due = loop.time() + interval * random.uniform(0.9, 1.0)  # noqa: S311
        if response.HasField("agent_timeout"):
            self._agent_timeout = bounded_seconds(
                response.agent_timeout, least=0.0, most=_NO_LIMIT, default=_AGENT_TIMEOUT
            )
        return response

    def _merge(self, thread: str, position: ReadPosition) -> None:
        """Add a position to `_unsent`, or raise that of its epoch there."""
        self._unsent[thread] = self._unsent.get(thread, position).up_to(position)

    def _wake(self) -> None:
        if (self._unsent or self._read or self._needed) and not self._paused:
            self._wakeup.set()


def _retriable(batch: dict[str, ReadPosition], error: BaseException) -> dict[str, ReadPosition]:
    """Returns the read positions of a failed heartbeat, without those that the server refused."""
    if not isinstance(error, InvalidArgument):
        return batch
    refused = {field.partition(".")[0] for field, _ in error.field_violations}
    names = {f"read_cursors[{index}]": thread for index, thread in enumerate(batch)}
    return {thread: batch[thread] for name, thread in names.items() if name not in refused}
