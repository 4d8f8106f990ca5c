"""One WaitMessages call: replay from the cursors, then live messages, then the ending."""

import asyncio
import functools
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from google.protobuf.duration_pb2 import Duration

from bus_server.budget import SMALL
from bus_server.errors import BusError, StoreBusy, ThreadNotFound, TokenExpired
from bus_server.follow.limits import (
    FILTER_MESSAGES,
    FRAME_BYTES,
    FRAME_MESSAGES,
    ROOM_TIMEOUT,
    TICK,
)
from bus_server.follow.position import WaitPosition, cursors
from bus_server.follow.resources import Frames, WaitResources
from bus_server.follow.wakes import count_waking
from bus_server.store import Row
from bus_server.tail import Waiter
from bus_server.waits import OpenWait, WaitRequest
from threadbus.limits import MAX_MESSAGE_BYTES
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitKeepalive,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)

_NOTHING = nullcontext()


class WaitLoop:
    """The loop that sends the frames of one wait. It runs in the task of the call.

    There may be ten thousand idle ones, so each holds little memory: of the request, only its
    WaitRequest.
    """

    __slots__ = (
        *("_bytes", "_clock", "_cramped_since", "_cut", "_deadline", "_delivered"),
        *("_expire_time", "_frames", "_keepalive_at", "_last_pass", "_limited", "_max_wait_at"),
        *("_open", "_positions", "_request", "_resources", "_silence", "_spent", "_tick"),
        "_woken",
    )

    def __init__(self, request: WaitRequest, resources: WaitResources, frames: Frames) -> None:
        self._request = request
        self._resources = resources
        self._frames = frames
        self._open = OpenWait(request)
        self._positions: tuple[WaitPosition, ...] = ()
        #: Number of messages sent, and their bytes if max_bytes limits them.
        self._delivered = self._bytes = 0
        #: Whether no further message is within max_bytes.
        self._spent = False
        #: Number of those that count in min_messages, as far as it matters.
        self._woken = 0
        # The times below are on the event loop's clock unless stated otherwise.
        clock = asyncio.get_running_loop().time
        self._clock = clock
        self._max_wait_at = None if request.max_wait is None else clock() + request.max_wait
        self._deadline: float | None = None
        #: When to abort a pass over the threads: soon after `_deadline`. 0: there is none.
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
        self._open.cursors = functools.partial(cursors, self._positions)
        self._open.waiter = waiter
        return True

    async def _start(self) -> None:
        await self._send_started(self._positions)

    async def _send_started(self, positions: Sequence[WaitPosition]) -> None:
        granted = Duration()
        granted.FromMilliseconds(round(self._request.keepalive_interval * 1000))
        # A position for which a resync follows is sent as requested: if the connection breaks
        # before the resync frame, the next wait must get the same resync.
        threads = [p.to_proto(p.requested if p.resync else None) for p in positions]
        started = WaitStarted(threads=threads, keepalive_interval=granted)
        await self._send(WaitMessagesResponse(started=started))
        for p in positions:
            await self._send_resync(p)

    async def _send_resync(self, p: WaitPosition) -> None:
        """Send a `resync` if the wait cannot continue from the requested cursor."""
        if p.resync is not None:
            p.skip_removed()  # since the wait began
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
            await self._keep_alive()
        self._expire_time = self._open.expire_time
        if skipped:
            await asyncio.sleep(0)  # as nothing was sent, no other task has run
        return False

    async def _keep_alive(self) -> None:
        positions = [p.to_proto() for p in self._positions if p.sent_after != p.after]
        await self._send(WaitMessagesResponse(keepalive=WaitKeepalive(threads=positions)))

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
            while (moved := p.follow()) is not None:
                await self._send(moved)
            if p.after < p.target:
                # While the frame is sent, the messages that it was made of are not held.
                before, delivered = p.after, self._delivered
                place = (p.epoch, before) if self._is_live(p) else None
                frame = await self._next_frame(p)
                if frame is not None:
                    await self._send_bytes(frame)
                    agent, count = self._request.agent, self._delivered - delivered
                    self._resources.wrote(frame, agent, count, place)
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

    def _is_live(self, p: WaitPosition) -> bool:
        """Returns whether what was there when the wait began has been delivered."""
        return p.caught_up

    async def _next_frame(self, p: WaitPosition) -> bytes | None:
        """Advance in a thread. Returns a frame of the wanted messages.

        None if there are none, no room, or if the thread has changed meanwhile. Raises
        ThreadNotFound, StoreBusy as `_reserve`, and what the store raises.
        """
        resources, wanted = self._resources, self._request.filter
        parses = wanted.parses or self._request.trim is not None
        most = FILTER_MESSAGES if parses else FRAME_MESSAGES
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
        indices = await wanted.select(resources.store, head.thread_id, rows)
        bodies = self._take(rows, indices)
        indices = indices[: len(bodies)]
        work = await self._count(head.thread_id, [rows[index] for index in indices])
        frame = self._frame(p, rows, indices, bodies, work)
        if frame is None:
            self._frames.release()
        return frame

    async def _count(self, thread_id: int, rows: Sequence[Row]) -> bool:
        """Count the rows in `_woken`. Returns whether they are work for the caller."""
        request = self._request
        most = 0 if request.count_all else max(request.min_messages - self._woken, 0)
        woken, work = await count_waking(
            self._resources.store, thread_id, rows, request.agent, most
        )
        self._woken += len(rows) if request.count_all else woken
        return work

    async def _look_again(self, p: WaitPosition) -> None:
        """Look what became of a thread whose messages are missing.

        It was deleted, they were removed, or the store has lost them. Raises ThreadNotFound, and
        what the store raises.
        """
        heads = await self._resources.store.heads([p.name])
        if p.name not in heads:
            raise ThreadNotFound([p.name])
        await self._resources.tails.advance(p.name, heads[p.name])
        p.learn(heads[p.name])
        if p.head.epoch == p.epoch and not p.is_compacted():
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

    def _frame(
        self,
        p: WaitPosition,
        rows: Sequence[Row],
        wanted: Sequence[int],
        bodies: Sequence[bytes],
        work: bool,
    ) -> bytes | None:
        """Advance past these rows. Returns a frame of those with the `wanted` indices.

        None if there are none. `bodies`: these, shortened. `work`: whether they are work for the
        caller.
        """
        start = p.after + 1
        count = len(rows)
        if self._full:  # it stops at its last message: later ones may be wanted by the next wait
            count = wanted[-1] + 1 if wanted else 0
        hidden = self._request.filter.first_hidden(rows[:count], wanted)
        p.advance(p.after + count, 0 if hidden is None else start + hidden)
        if not wanted:
            return None
        return self._encoded(p, bodies, start + wanted[-1], work)

    def _take(self, rows: Sequence[Row], wanted: Sequence[int]) -> Sequence[bytes]:
        """Returns the first of the rows with the `wanted` indices that the limits allow, shortened.

        Counts them as delivered.
        """
        request = self._request
        if request.max_messages:
            wanted = wanted[: request.max_messages - self._delivered]
        bodies: Sequence[bytes] = [rows[index][1] for index in wanted]
        if request.trim is not None:
            bodies = self._resources.encoder.shorten(bodies, request.trim)
        if request.max_bytes:
            bodies = self._within_max_bytes(bodies)
        self._delivered += len(bodies)
        return bodies

    def _encoded(self, p: WaitPosition, bodies: Sequence[bytes], upto: int, work: bool) -> bytes:
        """Returns a frame of messages, of which `upto` is the last seq, with the position.

        `work`: whether they are work for the caller.
        """
        # Set before it is sent: the agent may report it as read before the send returns.
        p.sent_after = p.after
        resources, request = self._resources, self._request
        if not request.observe:
            resources.participants.delivered(request.agent, p.name, p.head, upto, work)
        cursor = p.name, p.after, p.epoch, p.hidden
        return resources.encoder.encode(*cursor, bodies, request.trim)

    def _within_max_bytes(self, bodies: Sequence[bytes]) -> Sequence[bytes]:
        """Returns the first messages that are within max_bytes, and counts their bytes.

        The first message of the wait always is.
        """
        most = self._request.max_bytes
        for count, body in enumerate(bodies):
            if self._bytes and self._bytes + len(body) > most:
                self._spent = True
                return bodies[:count]
            self._bytes += len(body)
        self._spent = self._bytes >= most
        return bodies

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
        return self._spent or 0 < self._request.max_messages <= self._delivered

    async def _limit(self, at: float) -> None:
        """Once max_wait is over, limit delivery to what has been committed.

        `at` is when max_wait is over, on the event loop's clock.

        Raises:
            ThreadNotFound: A thread was deleted.
            StoreBusy: The store did not say before the call's deadline what has been committed.
        """
        if self._clock() < at:
            return
        self._limited = True
        if not self._request.max_wait:  # the heads were just read
            for p in self._positions:
                p.limit = p.start_seq
            return
        try:
            async with asyncio.timeout_at(self._cut or None):
                heads = await self._resources.store.heads([p.name for p in self._positions])
        except TimeoutError:
            raise StoreBusy("the store cannot be read: there may be new messages") from None
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
        now, expires_at = self._clock(), self._expires_at
        if expires_at is not None and now >= expires_at:
            raise TokenExpired
        if isinstance(self._open.ended, BusError):
            raise self._open.ended
        if self._open.ended is not None:
            return self._open.ended
        if self._spent:
            return WaitEnding.REASON_MAX_BYTES
        if self._full:
            return WaitEnding.REASON_MAX_MESSAGES
        enough = 0 < self._request.min_messages <= self._woken
        if enough and self._is_caught_up():
            return WaitEnding.REASON_MIN_MESSAGES
        if self._is_finished():
            return WaitEnding.REASON_THREADS_CLOSED
        if self._resources.tails.draining:
            return WaitEnding.REASON_DRAINING
        if self._limited and self._reached():
            return WaitEnding.REASON_MAX_WAIT
        if self._deadline is not None and now >= self._deadline:
            # One more pass sends what was committed until now, at most one frame for each thread.
            if self._last_pass:
                return WaitEnding.REASON_DEADLINE
            self._last_pass = True
        return None

    def _reached(self) -> bool:
        """Returns whether all was delivered for now. Raises ThreadNotFound."""
        return all(map(WaitPosition.reached, self._positions))

    def _is_caught_up(self) -> bool:
        return all(p.caught_up for p in self._positions)

    def _is_finished(self) -> bool:
        return all(map(WaitPosition.finished, self._positions))

    async def _end(self, reason: WaitEnding.Reason.ValueType) -> None:
        frame = self._ending(reason)
        frame.ending.threads.extend(p.to_proto() for p in self._positions)
        await self._send(frame)

    def _ending(self, reason: WaitEnding.Reason.ValueType) -> WaitMessagesResponse:
        """Returns the last frame, without threads."""
        ending = WaitEnding(reason=reason)
        if reason == WaitEnding.REASON_DRAINING:
            ending.retry_delay.FromMilliseconds(random.randint(100, 1000))  # noqa: S311
        return WaitMessagesResponse(ending=ending)

    async def _send(self, frame: WaitMessagesResponse) -> None:
        await self._send_bytes(frame.SerializeToString())

    async def _send_bytes(self, frame: bytes) -> None:
        await self._frames.send(frame)
        self._keepalive_at = -(-(self._clock() + self._silence) // self._tick) * self._tick
