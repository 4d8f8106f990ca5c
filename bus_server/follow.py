"""A wait: replay from the cursors, then follow, then end. One object a call, no task of its own."""

import asyncio
import functools
import random
from collections.abc import Awaitable, Sequence
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from bus_server.budget import SMALL
from bus_server.encoding import BatchEncoder
from bus_server.errors import BusError, StoreBusy, ThreadNotFound, TokenExpired
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.participants import Participants
from bus_server.recent import Recent
from bus_server.store import Row
from bus_server.store.interface import Store
from bus_server.tail import Tails, Watch
from bus_server.wait_position import WaitPosition
from bus_server.waits import OpenWait, Wait
from threadbus.limits import MAX_MESSAGE_BYTES
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitKeepalive,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Cursor

#: A frame holds at most so much, but always one message.
FRAME_BYTES = 1024 * 1024
FRAME_MESSAGES = 1_000
#: A filter parses so many messages at a time: half a millisecond of the event loop's.
FILTER_MESSAGES = 250

#: Seconds to wait for room for a frame before looking whether the wait is over.
ROOM_PATIENCE = 0.25

#: Keepalives are sent in ticks of at most so many seconds: with ten thousand idle waits a hundred
#: at once cost a quarter of what a hundred wake-ups of the server do.
TICK = 0.5


class Outlet(Protocol):
    """Where a wait's frames go."""

    @property
    def patience(self) -> float:
        """Seconds after which there is no use in waiting for room."""

    async def room(self, size: int, timeout: float | None = None) -> None:
        """Return once there is room for a frame of about so many bytes.

        Raises StoreBusy when there was none within `timeout` seconds.
        """

    def send(self, frame: bytes) -> Awaitable[None]:
        """Send a WaitMessagesResponse, serialised; done when the next one is wanted."""

    def close(self) -> None:
        """Nothing is on its way: give the room back."""


class Follow:
    """One WaitMessages call."""

    __slots__ = (
        *("_clock", "_cramped_since", "_cursors", "_cut", "_deadline", "_delivered"),
        *("_encoder", "_expire_time", "_filter"),
        *("_include_participants", "_keepalive_at", "_keepalive_interval", "_last_pass"),
        *("_limited", "_max_messages", "_max_wait", "_max_wait_at", "_min_messages", "_open"),
        *("_outlet", "_participants", "_positions", "_recent", "_rosters", "_store"),
    )

    def __init__(
        self,
        wait: Wait,
        store: Store,
        recent: Recent,
        encoder: BatchEncoder,
        participants: Participants,
        rosters: ParticipantCache,
        outlet: Outlet,
    ) -> None:
        # Not the wait itself, whose cursors would keep the whole request in memory.
        self._filter = wait.filter
        self._max_messages, self._min_messages = wait.max_messages, wait.min_messages
        self._max_wait = wait.max_wait
        self._keepalive_interval = wait.keepalive_interval
        self._include_participants = wait.include_participants
        self._cursors: Sequence[Cursor] = wait.cursors
        self._store = store
        self._recent = recent
        self._encoder = encoder
        self._participants = participants
        self._rosters = rosters
        self._outlet = outlet
        self._positions: list[WaitPosition] = []
        self._delivered = 0
        names = tuple(cursor.thread for cursor in wait.cursors)
        self._open = OpenWait(
            wait.agent, wait.token, wait.expire_time, names, wait.filter, wait.peer
        )
        clock = asyncio.get_running_loop().time
        self._clock = clock
        self._max_wait_at = None if wait.max_wait is None else clock() + wait.max_wait
        self._deadline: float | None = None
        self._cut = 0.0  # in the midst of a pass, soon after the deadline
        if wait.time_remaining is not None:
            # In a crowd of waits a fixed margin would come too late for some.
            margin = min(random.uniform(0.2, 1.0), wait.time_remaining / 10)  # noqa: S311
            self._deadline = clock() + wait.time_remaining - margin
            self._cut = self._deadline + margin / 2
        self._limited = False
        self._expire_time = 0  # as it was looked at last
        self._last_pass = False
        self._keepalive_at = 0.0
        self._cramped_since = 0.0  # since when there was no room for a frame; 0: there was

    async def run(self, tails: Tails) -> None:
        """Send every frame, `started` to `ending`. Raises ThreadNotFound, and QuotaExceeded."""
        live = self._live_with_participants if self._include_participants else self._live
        self._participants.wait_opened(self._open)
        try:
            while True:
                watch = tails.watch(self._open.threads)
                try:
                    if await self._enter(tails, watch):
                        await self._start()
                        await live(tails, watch)
                        return
                finally:
                    tails.unwatch(watch)
        finally:
            self._participants.wait_closed(self._open)

    async def _enter(self, tails: Tails, watch: Watch) -> bool:
        """Find where each thread is. False if one was deleted at this very moment: look again."""
        heads = await self._store.heads(watch.names)
        missing = [name for name in watch.names if name not in heads]
        if missing:
            raise ThreadNotFound(missing, await self._store.similar(missing))
        for name, head in heads.items():
            await tails.advance(name, head)
        for name, tail in zip(watch.names, watch.tails, strict=True):
            if tail.gone or tail.head is None or tail.head.epoch != heads[name].epoch:
                return False
        self._open.positions = self._positions = [
            WaitPosition(name, cursor, tail, heads[name])
            for name, cursor, tail in zip(watch.names, self._cursors, watch.tails, strict=True)
        ]
        self._cursors = ()
        self._open.watch = watch
        return True

    async def _start(self) -> None:
        granted = Duration()
        granted.FromMilliseconds(round(self._keepalive_interval * 1000))
        # A position that will not be honoured is told as it was asked for: were the connection to
        # break before the resync frame, the next wait must meet the same resync.
        positions = [p.tell(p.requested if p.resync else None) for p in self._positions]
        started = WaitStarted(threads=positions, keepalive_interval=granted)
        await self._tell(WaitMessagesResponse(started=started))
        for p in self._positions:
            if p.resync is not None:
                frame = WaitResync(reason=p.resync, position=p.tell(), requested=p.requested)
                await self._tell(WaitMessagesResponse(resync=frame))

    async def _live_with_participants(self, tails: Tails, watch: Watch) -> None:
        with self._rosters.watch(watch.names, watch) as rosters:
            for p, roster in zip(self._positions, rosters, strict=True):
                p.roster = roster
            await self._live(tails, watch)

    async def _live(self, tails: Tails, watch: Watch) -> None:
        ready = functools.partial(self._ready, tails)
        while True:
            if self._include_participants:
                await self._tell_participants()
            moved = await self._deliver(tails)
            if self._max_wait_at is not None and not self._limited:
                await self._limit(tails, self._max_wait_at)
            reason = self._ended(tails)
            if reason is not None:
                await self._end(reason)
                return
            if self._clock() >= self._keepalive_at:
                told = [p.tell() for p in self._positions if p.told != p.after]
                await self._tell(WaitMessagesResponse(keepalive=WaitKeepalive(threads=told)))
            self._expire_time = self._open.expire_time
            if moved and ready():
                await asyncio.sleep(0)  # if nothing of it was wanted, nobody else has had a turn
            else:
                times = (self._keepalive_at, self._max_wait_at, self._deadline, self._expires_at)
                await watch.until(ready, min(t for t in times if t is not None))

    def _ready(self, tails: Tails) -> bool:
        """Whether there is something to do."""
        wait = self._open
        return (
            tails.draining
            or wait.ended is not None
            or wait.expire_time != self._expire_time
            or any(map(WaitPosition.has_news, self._positions))
        )

    async def _deliver(self, tails: Tails) -> bool:
        """Send at most one frame of messages for each thread. Answers whether any cursor moved."""
        moved = False
        for p in self._positions:
            if p.after < p.target:
                # Only the frame is kept while it is being written, not what it was made of.
                before = p.after
                frame = await self._next_frame(p)
                if frame is not None:
                    await self._send(frame)
                    del frame
                moved = moved or p.after > before
            if not p.caught_up and p.after >= p.start_seq:
                p.caught_up = True
                await self._tell(WaitMessagesResponse(caught_up=p.tell()))
            late = self._deadline is not None and self._clock() >= self._cut
            if self._full or tails.draining or late or self._open.ended is not None:
                break
        return moved

    async def _next_frame(self, p: WaitPosition) -> bytes | None:
        """Return the next frame of a thread, None if none of its messages is wanted."""
        most = FILTER_MESSAGES if self._filter.parses else FRAME_MESSAGES
        head, upto = p.head, min(p.target, p.after + most)
        rows, size = self._recent.read(head.epoch, p.after, upto, FRAME_BYTES)
        size = size if rows else MAX_MESSAGE_BYTES
        if size > SMALL:
            # First the room: a wait that nobody reads must not fill the memory.
            if not await self._has_room(size):
                return None
            rows, _ = self._recent.read(head.epoch, p.after, upto, FRAME_BYTES)
        if not rows:
            rows = await self._store.read(head.thread_id, p.after, upto, FRAME_BYTES)
            if not rows:
                raise ThreadNotFound([p.name])  # deleted since
        wanted = await self._filter.select(self._store, head.thread_id, rows)
        frame = self._frame(p, rows, wanted)
        if frame is None:
            self._outlet.close()
        return frame

    async def _has_room(self, size: int) -> bool:
        """Wait a little for room: the wait may have to end, or to say that it is still there.

        Raises StoreBusy when there was none for long.
        """
        try:
            await self._outlet.room(size, ROOM_PATIENCE)
        except StoreBusy:
            now = self._clock()
            self._cramped_since = self._cramped_since or now
            if now > self._cramped_since + self._outlet.patience:
                raise
            await asyncio.sleep(ROOM_PATIENCE / 10)  # it may have been refused at once
            return False
        self._cramped_since = 0.0
        return True

    def _frame(self, p: WaitPosition, rows: Sequence[Row], wanted: Sequence[int]) -> bytes | None:
        """Move past these rows, of which `wanted` has indices. Return a frame of those, if any."""
        if self._max_messages:
            wanted = wanted[: self._max_messages - self._delivered]
        self._delivered += len(wanted)
        start = p.after + 1
        # When the last wanted one was delivered, what comes after it was not looked at.
        p.after = start + wanted[-1] if self._full else p.after + len(rows)
        if not wanted:
            return None
        # Before the write: the agent may have read it, and said so, before that returns.
        p.told = p.after
        senders = (rows[index][0] for index in wanted)
        self._participants.delivered(self._open.agent, p.name, p.head, start + wanted[-1], senders)
        bodies = [rows[index][1] for index in wanted]
        return self._encoder.encode(p.name, p.after, p.head.epoch, bodies)

    async def _tell_participants(self) -> None:
        """Send what changed of those who take part, thread by thread."""
        for p in self._positions:
            if p.roster is not None and p.roster.version != p.roster_version:
                p.roster_version = p.roster.version
                now = await p.roster.read(self._participants)
                before, p.participants = p.participants, now
                for frame in p.roster.updates(before):
                    await self._send(frame)

    @property
    def _expires_at(self) -> float | None:
        """When its token ends, on the loop's clock."""
        if not self._open.expire_time:
            return None
        return self._clock() + (self._open.expire_time - self._store.clock.now()) / 1e6

    @property
    def _full(self) -> bool:
        return 0 < self._max_messages <= self._delivered

    async def _limit(self, tails: Tails, at: float) -> None:
        """When max_wait is over: what was committed until now is still sent, and nothing later."""
        if self._clock() < at:
            return
        self._limited = True
        if self._max_wait:  # else the heads were just read
            heads = await self._store.heads([p.name for p in self._positions])
            for p in self._positions:  # another server's commits count, too
                if p.name not in heads:
                    raise ThreadNotFound([p.name])
                await tails.advance(p.name, heads[p.name])
        for p in self._positions:
            p.limit = p.head.seq

    def _ended(self, tails: Tails) -> WaitEnding.Reason.ValueType | None:
        """Why the wait is over, if it is. Asked after each pass over the threads."""
        positions, now = self._positions, self._clock()
        if self._expires_at is not None and now >= self._expires_at:
            raise TokenExpired
        if isinstance(self._open.ended, BusError):
            raise self._open.ended
        if self._open.ended is not None:
            return self._open.ended
        if self._full:
            return WaitEnding.REASON_MAX_MESSAGES
        if 0 < self._min_messages <= self._delivered and all(p.caught_up for p in positions):
            return WaitEnding.REASON_MIN_MESSAGES
        if all(map(WaitPosition.is_over, positions)):
            return WaitEnding.REASON_THREADS_CLOSED
        if tails.draining:
            return WaitEnding.REASON_DRAINING
        if self._limited and all(p.after >= p.target for p in positions):
            return WaitEnding.REASON_MAX_WAIT
        if self._deadline is not None and now >= self._deadline:
            # One more pass sends what was committed until now, as far as one frame a thread goes.
            if self._last_pass:
                return WaitEnding.REASON_DEADLINE
            self._last_pass = True
        return None

    async def _end(self, reason: WaitEnding.Reason.ValueType) -> None:
        ending = WaitEnding(reason=reason, threads=[p.tell() for p in self._positions])
        if reason == WaitEnding.REASON_DRAINING:
            ending.retry_delay.FromMilliseconds(random.randint(100, 1000))  # noqa: S311
        await self._tell(WaitMessagesResponse(ending=ending))

    async def _tell(self, frame: WaitMessagesResponse) -> None:
        await self._send(frame.SerializeToString())

    async def _send(self, frame: bytes) -> None:
        await self._outlet.send(frame)
        # Jittered: the waits that one post woke together must not all come together again.
        interval = self._keepalive_interval * random.uniform(0.7, 0.98)  # noqa: S311
        tick = min(TICK, self._keepalive_interval / 90)
        self._keepalive_at = -(-(self._clock() + interval) // tick) * tick
