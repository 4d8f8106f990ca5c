"""One WaitMessages call: replay from the cursors, then live messages, then the ending."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from bus_server.budget import SMALL
from bus_server.encoding import BatchEncoder
from bus_server.errors import BusError, StoreBusy, ThreadNotFound, TokenExpired
from bus_server.follow.position import WaitPosition
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.participants import Participants
from bus_server.recent import Recent
from bus_server.store import Row
from bus_server.store.interface import Store
from bus_server.tail import Tails, Waiter
from bus_server.waits import OpenWait, WaitRequest
from threadbus.limits import MAX_MESSAGE_BYTES
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitKeepalive,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Cursor

#: Limits of a frame, in bytes of messages and in messages. One message is always allowed.
FRAME_BYTES = 1024 * 1024
FRAME_MESSAGES = 1_000
#: Maximum number of messages that a filter parses at a time, which takes the event loop half a
#: millisecond.
FILTER_MESSAGES = 250

#: Seconds to wait for room for a frame before checking whether the wait must end.
ROOM_TIMEOUT = 0.25

#: Keepalives are sent at multiples of a tick, which is at most this many seconds. With ten thousand
#: idle waits, a hundred keepalives sent at once cost a quarter of a hundred separate wake-ups.
TICK = 0.5


_NOTHING = nullcontext()


class Frames(Protocol):
    """The outgoing frames of a call."""

    @property
    def timeout(self) -> float:
        """The default timeout of `reserve`, in seconds."""

    async def reserve(self, size: int, timeout: float | None = None) -> None:
        """Wait for room for a frame of about `size` bytes, and reserve it.

        Raises StoreBusy if there is none within `timeout` seconds (None: within `self.timeout`), or
        if too many calls wait for room.
        """

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a serialised WaitMessagesResponse. Completes when the next one may be sent.

        Raises StoreBusy if no room was reserved, and there is none in time.
        """

    def release(self) -> None:
        """Release the room reserved for a frame that will not be sent."""


@dataclass(frozen=True, slots=True)
class WaitResources:
    """The objects that all wait loops of a server share."""

    store: Store
    tails: Tails
    recent: Recent
    encoder: BatchEncoder
    participants: Participants
    cache: ParticipantCache


class WaitLoop:
    """The loop that sends the frames of one wait. It runs in the task of the call.

    There may be ten thousand idle ones, so each holds little memory: of the request, only its
    WaitRequest.
    """

    __slots__ = (
        *("_clock", "_cramped_since", "_cut", "_deadline", "_delivered", "_expire_time"),
        *("_frames", "_keepalive_at", "_last_pass", "_limited", "_max_wait_at", "_open"),
        *("_positions", "_request", "_resources", "_silence", "_tick"),
    )

    def __init__(self, request: WaitRequest, resources: WaitResources, frames: Frames) -> None:
        self._request = request
        self._resources = resources
        self._frames = frames
        self._open = OpenWait(request)
        self._positions: tuple[WaitPosition, ...] = ()
        #: Number of messages sent.
        self._delivered = 0
        # The times below are on the event loop's clock unless stated otherwise.
        clock = asyncio.get_running_loop().time
        self._clock = clock
        self._max_wait_at = None if request.max_wait is None else clock() + request.max_wait
        self._deadline: float | None = None
        #: When to abort a pass over the threads: soon after `_deadline`.
        self._cut = 0.0
        if request.time_remaining is not None:
            # Random: many waits may have the same deadline, and they cannot all end at once.
            margin = min(random.uniform(0.2, 1.0), request.time_remaining / 10)  # noqa: S311
            self._deadline = clock() + request.time_remaining - margin
            self._cut = self._deadline + margin / 2
        #: Whether max_wait is over.
        self._limited = False
        #: When the token expires, on the store's clock, as of the last pass.
        self._expire_time = 0
        self._last_pass = False
        self._keepalive_at = 0.0
        interval = request.keepalive_interval
        #: Seconds without a frame before a keepalive is due, and the tick at which it is sent.
        #: Jittered: waits that one post woke together must not send their keepalives together.
        self._silence = interval * random.uniform(0.7, 0.98)  # noqa: S311
        self._tick = min(TICK, interval / 90)
        #: Since when there has been no room for a frame; 0: there was room at the last attempt.
        self._cramped_since = 0.0

    async def run(self) -> None:
        """Send every frame, from `started` to `ending`.

        Raises:
            ThreadNotFound: A thread does not exist, or was deleted.
            QuotaExceeded: There are too many open waits.
            TokenExpired: The token that the wait was opened with expired.
            TokenInvalid: The token that the wait was opened with was revoked.
            StoreBusy: There was no room for a frame for too long, or the store is locked.
            StoreFailed: The store's file is lost, or cannot be read.
            StoreBug: The store failed unexpectedly.
        """
        resources = self._resources
        resources.participants.wait_opened(self._open)
        try:
            while True:
                waiter = resources.tails.watch(self._open.threads)
                try:
                    if await self._enter(waiter):
                        await self._start()
                        # A loop here, as one more coroutine would take 264 bytes for each wait.
                        with self._participants_held(waiter):
                            while not await self._pass():
                                await waiter.until(self._ready, self._next_time())
                        return
                finally:
                    resources.tails.unwatch(waiter)
        finally:
            resources.participants.wait_closed(self._open)

    async def _enter(self, waiter: Waiter) -> bool:
        """Set the wait's position in each thread. Raises ThreadNotFound.

        Returns False if a thread was deleted while its head was read: the caller must try again.
        Call this after the tails are watched, so that no commit after the read is missed.
        """
        store, tails = self._resources.store, self._resources.tails
        heads = await store.heads(waiter.names)
        missing = [name for name in waiter.names if name not in heads]
        if missing:
            raise ThreadNotFound(missing, await store.similar(missing))
        for name, head in heads.items():
            await tails.advance(name, head)
        for name, tail in zip(waiter.names, waiter.tails, strict=True):
            if tail.deleted or tail.head is None or tail.head.epoch != heads[name].epoch:
                await asyncio.sleep(ROOM_TIMEOUT / 10)
                return False
        self._positions = tuple(
            WaitPosition(start, tail, heads[start[0]])
            for start, tail in zip(self._request.starts, waiter.tails, strict=True)
        )
        # Bound to the positions, as a method of the loop would be a reference cycle.
        self._open.cursors = functools.partial(_cursors, self._positions)
        self._open.waiter = waiter
        return True

    async def _start(self) -> None:
        granted = Duration()
        granted.FromMilliseconds(round(self._request.keepalive_interval * 1000))
        # A position for which a resync follows is sent as requested: if the connection breaks
        # before the resync frame, the next wait must get the same resync.
        positions = [p.to_proto(p.requested if p.resync else None) for p in self._positions]
        started = WaitStarted(threads=positions, keepalive_interval=granted)
        await self._send(WaitMessagesResponse(started=started))
        for p in self._positions:
            if p.resync is not None:
                resync = WaitResync(reason=p.resync, position=p.to_proto(), requested=p.requested)
                await self._send(WaitMessagesResponse(resync=resync))

    def _participants_held(self, waiter: Waiter) -> AbstractContextManager[None]:
        """Returns a context manager that holds the threads' participants, if they are wanted."""
        return self._hold_participants(waiter) if self._request.include_participants else _NOTHING

    @contextmanager
    def _hold_participants(self, waiter: Waiter) -> Iterator[None]:
        with self._resources.cache.watch(waiter.names, waiter) as threads:
            for p, cached in zip(self._positions, threads, strict=True):
                p.cached = cached
            yield

    async def _pass(self) -> bool:
        """Send what is due. Returns whether that ended the wait. Raises what `run` does."""
        if self._request.include_participants:
            await self._send_participants()
        skipped = await self._deliver()
        if self._max_wait_at is not None and not self._limited:
            await self._limit(self._max_wait_at)
        reason = self._ended()
        if reason is not None:
            await self._end(reason)
            return True
        if self._clock() >= self._keepalive_at:
            positions = [p.to_proto() for p in self._positions if p.sent_after != p.after]
            await self._send(WaitMessagesResponse(keepalive=WaitKeepalive(threads=positions)))
        self._expire_time = self._open.expire_time
        if skipped:
            await asyncio.sleep(0)  # as nothing was sent, no other task has run
        return False

    def _next_time(self) -> float:
        """Returns when the loop must run again, on the event loop's clock."""
        earliest = self._keepalive_at
        for at in (self._max_wait_at, self._deadline, self._expires_at):
            if at is not None and at < earliest:
                earliest = at
        return earliest

    def _ready(self) -> bool:
        """Returns whether the loop has something to do. `run` waits for this."""
        wait = self._open
        return (
            self._resources.tails.draining
            or wait.ended is not None
            or wait.expire_time != self._expire_time
            or any(map(WaitPosition.ready, self._positions))
        )

    async def _deliver(self) -> bool:
        """Send at most one frame of messages for each thread, and `caught_up` where it is due.

        Stops early if the wait must end. Returns whether a cursor moved past messages that are not
        sent.
        """
        skipped = False
        for p in self._positions:
            while (moved := p.follow_epoch()) is not None:
                await self._send(moved)
            if p.after < p.target:
                # While the frame is sent, the messages that it was made of are not held.
                before = p.after
                frame = await self._next_frame(p)
                if frame is not None:
                    await self._send_bytes(frame)
                    del frame
                elif p.after > before:
                    skipped = True
            if not p.caught_up and p.after >= p.start_seq and p.head.epoch == p.epoch:
                p.caught_up = True
                await self._send(WaitMessagesResponse(caught_up=p.to_proto()))
            late = self._deadline is not None and self._clock() >= self._cut
            if self._full or self._resources.tails.draining or late or self._open.ended is not None:
                break
        return skipped

    async def _next_frame(self, p: WaitPosition) -> bytes | None:
        """Advance in a thread. Returns a frame of the wanted messages.

        None if there are none, no room, or if the thread has changed meanwhile. Raises
        ThreadNotFound, StoreBusy as `_reserve`, and what the store raises.
        """
        resources, wanted = self._resources, self._request.filter
        most = FILTER_MESSAGES if wanted.parses else FRAME_MESSAGES
        head, upto = p.head, min(p.target, p.after + most)
        rows, size = resources.recent.read(head.epoch, p.after, upto, FRAME_BYTES)
        size = size if rows else MAX_MESSAGE_BYTES
        if size > SMALL:
            # Reserve room first: a wait whose client does not read must not fill the memory.
            if not await self._reserve(size):
                return None
            rows, _ = resources.recent.read(head.epoch, p.after, upto, FRAME_BYTES)
        if not rows:
            rows = await resources.store.read(head.thread_id, p.after, upto, FRAME_BYTES)
            if not rows or p.head.epoch != head.epoch:
                self._frames.release()
                await self._look_again(p)
                return None
        frame = self._frame(p, rows, await wanted.select(resources.store, head.thread_id, rows))
        if frame is None:
            self._frames.release()
        return frame

    async def _look_again(self, p: WaitPosition) -> None:
        """Look what became of a thread whose messages are missing.

        It was deleted, or the store has lost them. Raises ThreadNotFound, and what the store
        raises.
        """
        heads = await self._resources.store.heads([p.name])
        if p.name not in heads:
            raise ThreadNotFound([p.name])
        await self._resources.tails.advance(p.name, heads[p.name])
        if p.head.epoch == p.epoch:
            await asyncio.sleep(ROOM_TIMEOUT)  # until the thread gets a new epoch

    async def _reserve(self, size: int) -> bool:
        """Wait briefly for room. Returns False if there is none, and the caller may retry.

        Until then the loop can end the wait or send a keepalive. Raises StoreBusy if there has been
        no room for too long.
        """
        try:
            await self._frames.reserve(size, ROOM_TIMEOUT)
        except StoreBusy:
            now = self._clock()
            self._cramped_since = self._cramped_since or now
            if now > self._cramped_since + self._frames.timeout:
                raise
            await asyncio.sleep(ROOM_TIMEOUT / 10)  # `reserve` may have raised without waiting
            return False
        self._cramped_since = 0.0
        return True

    def _frame(self, p: WaitPosition, rows: Sequence[Row], wanted: Sequence[int]) -> bytes | None:
        """Advance past these rows. Returns a frame of those with the `wanted` indices.

        None if there are none.
        """
        if self._request.max_messages:
            wanted = wanted[: self._request.max_messages - self._delivered]
        self._delivered += len(wanted)
        start = p.after + 1
        # A full wait stops at its last message: later ones may be wanted by the next wait.
        p.after = start + wanted[-1] if self._full else p.after + len(rows)
        if not wanted:
            return None
        # Set before it is sent: the agent may report it as read before the send returns.
        p.sent_after = p.after
        head, upto = p.head, start + wanted[-1]
        senders = {rows[index][0] for index in wanted}
        self._resources.participants.delivered(self._request.agent, p.name, head, upto, senders)
        bodies = [rows[index][1] for index in wanted]
        return self._resources.encoder.encode(p.name, p.after, p.epoch, bodies)

    async def _send_participants(self) -> None:
        """Send the changes of each thread's participants since the last frame."""
        for p in self._positions:
            if p.cached is not None and p.cached.version != p.sent_version:
                p.sent_version = p.cached.version
                now = await p.cached.read(self._resources.participants)
                before, p.participants = p.participants, now
                for frame in p.cached.updates(before):
                    await self._send_bytes(frame)

    @property
    def _expires_at(self) -> float | None:
        """When the token expires, on the event loop's clock; None: never."""
        if not self._open.expire_time:
            return None
        return self._clock() + (self._open.expire_time - self._resources.store.clock.now()) / 1e6

    @property
    def _full(self) -> bool:
        return 0 < self._request.max_messages <= self._delivered

    async def _limit(self, at: float) -> None:
        """Once max_wait is over, limit delivery to what has been committed. Raises ThreadNotFound.

        `at` is when max_wait is over, on the event loop's clock.
        """
        if self._clock() < at:
            return
        self._limited = True
        if not self._request.max_wait:  # the heads were just read
            for p in self._positions:
                p.limit = p.start_seq
            return
        heads = await self._resources.store.heads([p.name for p in self._positions])
        for p in self._positions:  # another server's commits count, too
            if p.name not in heads:
                raise ThreadNotFound([p.name])
            await self._resources.tails.advance(p.name, heads[p.name])
            # Not that of the tail, which is further if the store has lost messages.
            p.limit = heads[p.name].seq

    def _ended(self) -> WaitEnding.Reason.ValueType | None:
        """Returns why the wait is over; None if it is not. Called after each pass over the threads.

        Raises TokenExpired, ThreadNotFound, and the error with which the wait was ended.
        """
        positions, now = self._positions, self._clock()
        expires_at = self._expires_at
        if expires_at is not None and now >= expires_at:
            raise TokenExpired
        if isinstance(self._open.ended, BusError):
            raise self._open.ended
        if self._open.ended is not None:
            return self._open.ended
        if self._full:
            return WaitEnding.REASON_MAX_MESSAGES
        enough = 0 < self._request.min_messages <= self._delivered
        if enough and all(p.caught_up for p in positions):
            return WaitEnding.REASON_MIN_MESSAGES
        if all(map(WaitPosition.finished, positions)):
            return WaitEnding.REASON_THREADS_CLOSED
        if self._resources.tails.draining:
            return WaitEnding.REASON_DRAINING
        if self._limited and all(map(WaitPosition.reached, positions)):
            return WaitEnding.REASON_MAX_WAIT
        if self._deadline is not None and now >= self._deadline:
            # One more pass sends what was committed until now, at most one frame for each thread.
            if self._last_pass:
                return WaitEnding.REASON_DEADLINE
            self._last_pass = True
        return None

    async def _end(self, reason: WaitEnding.Reason.ValueType) -> None:
        ending = WaitEnding(reason=reason, threads=[p.to_proto() for p in self._positions])
        if reason == WaitEnding.REASON_DRAINING:
            ending.retry_delay.FromMilliseconds(random.randint(100, 1000))  # noqa: S311
        await self._send(WaitMessagesResponse(ending=ending))

    async def _send(self, frame: WaitMessagesResponse) -> None:
        await self._send_bytes(frame.SerializeToString())

    async def _send_bytes(self, frame: bytes) -> None:
        await self._frames.send(frame)
        self._keepalive_at = -(-(self._clock() + self._silence) // self._tick) * self._tick


def _cursors(positions: Sequence[WaitPosition]) -> list[Cursor]:
    """Returns the cursor in each thread that has not been deleted."""
    return [p.cursor for p in positions if not p.tail.deleted]
