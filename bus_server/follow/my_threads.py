"""A WaitMessages call on all threads of an agent.

Of its threads, only those that were active have a position. The others have a place in Memberships,
which tells the wait once there is something new in them.
"""

import asyncio
from collections.abc import Sequence
from itertools import zip_longest

from bus_server.errors import StoreBusy, ThreadNotFound
from bus_server.follow.limits import FRAME_BYTES, FRAME_MESSAGES
from bus_server.follow.loop import WaitLoop
from bus_server.follow.position import WaitPosition
from bus_server.follow.resources import Frames, WaitResources
from bus_server.memberships import MyThreads
from bus_server.store import Head, Row
from bus_server.tail import Waiter
from bus_server.waits import Start, WaitRequest
from threadbus.limits import MAX_MESSAGE_BYTES
from threadbus.v1.bus_service_pb2 import (
    ThreadRemoved,
    WaitEnding,
    WaitKeepalive,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import ThreadPosition

#: Number of threads that are read at a time when a wait begins.
PAGE = 500
#: Maximum number of threads in a frame: a ThreadPosition has at most 250 bytes.
FRAME_THREADS = 4_000


class _Thread:
    """The known head of a thread."""

    __slots__ = ("deleted", "head")

    def __init__(self, head: Head | None) -> None:
        self.head, self.deleted = head, False


class MyThreadsLoop(WaitLoop):
    """The loop that sends the frames of a wait on all threads of an agent."""

    __slots__ = ("_active", "_caught_up", "_known", "_mine", "_unread")

    def __init__(self, request: WaitRequest, resources: WaitResources, frames: Frames) -> None:
        super().__init__(request, resources, frames)
        self._mine = MyThreads(
            request.agent,
            request.prefixes,
            self._open.notify,
            addressed=request.filter.addressed,
            hides=request.filter.hides,
        )
        #: By thread: the positions in all threads that were active or requested; and in those in
        #: which something may have to be sent.
        self._known: dict[str, WaitPosition] = {}
        self._active: dict[str, WaitPosition] = {}
        #: The threads that must be caught up with before `caught_up` is sent.
        self._unread: set[str] = set()
        self._caught_up = False

    async def run(self) -> None:
        """As WaitLoop.run, but does not raise ThreadNotFound."""
        try:
            await super().run()
        finally:
            self._resources.memberships.remove(self._mine)

    async def _enter(self, waiter: Waiter) -> bool:
        """Read all threads of the agent. Always returns True."""
        memberships, mine = self._resources.memberships, self._mine
        self._open.waiter = waiter
        self._open.cursors = self._cursors
        memberships.add(mine)
        requested: dict[str, Start] = {start[0]: start for start in self._request.starts}
        after = 0
        while found := await self._resources.participants.memberships(mine.agent, after, PAGE):
            for thread, head, membership in found:
                after = head.thread_id
                if not mine.wants(thread):
                    continue
                place = mine.place_of(head, membership)
                memberships.place(mine, thread, place)
                newest = membership.addressed_seq if mine.addressed else head.seq
                if thread in requested:
                    self._add(requested.pop(thread), head)
                elif place[0] < newest:
                    self._add(self._start_of(thread), head)
        for name in memberships.loaded(mine):
            self._remove(name)
        return True

    async def _start(self) -> None:
        self._unread = {name for name, p in self._active.items() if not p.reached()}
        requested = [name for name, *_ in self._request.starts]
        await self._send_started([self._known[name] for name in requested if name in self._known])
        for name in requested:
            if name not in self._known:
                await self._send_removed(name)
        for name in self._active.keys() - set(requested):
            await self._send_resync(self._known[name])

    async def _send_removed(self, name: str) -> None:
        removed = ThreadRemoved(thread=name)
        await self._send(WaitMessagesResponse(thread_removed=removed))

    async def _pass(self) -> bool:
        if not self._limited:
            await self._take_changes()
        self._positions = tuple(self._active.values())
        return await super()._pass()

    def _ready(self) -> bool:
        return super()._ready() or (self._mine.news() and not self._limited)

    async def _take_changes(self) -> None:
        """Give a position to each thread that has changed, and send which were added or removed."""
        mine = self._mine
        while mine.moves:
            name, head = mine.moves.pop(0)
            if head is None:
                self._remove(name)
                await self._send_removed(name)
            elif name not in self._known and name in mine.places:
                added = self._add(self._start_of(name), head)
                place = added.to_proto(added.requested if added.resync else None)  # as in `started`
                await self._send(WaitMessagesResponse(thread_added=place))
                await self._send_resync(added)
        changed, mine.changed = mine.changed, {}
        for name, head in changed.items():
            known = self._known.get(name)
            if known is not None:
                known.learn(head)
                self._active[name] = known
            elif name in mine.places:
                await self._send_resync(self._add(self._start_of(name), head))

    def _start_of(self, name: str) -> Start:
        return name, *self._mine.places[name]

    def _add(self, start: Start, head: Head) -> WaitPosition:
        """Give a thread a position."""
        p = self._known[start[0]] = self._active[start[0]] = WaitPosition(
            start, _Thread(head), head
        )
        p.caught_up = True  # no frame says so of a single thread
        return p

    def _remove(self, name: str) -> None:
        self._known.pop(name, None)
        self._active.pop(name, None)
        self._unread.discard(name)

    async def _deliver(self) -> bool:
        try:
            skipped = await super()._deliver()
        except ThreadNotFound as missing:
            for name in missing.names:
                self._resources.memberships.lose(self._mine, name)
            skipped = True
        for p in self._positions:
            if p.after >= p.start_seq:
                self._unread.discard(p.name)
            if p.reached():
                self._active.pop(p.name, None)
        if not self._caught_up and not self._unread:
            self._caught_up = True
            await self._send(WaitMessagesResponse(caught_up=ThreadPosition()))
        return skipped

    def _is_live(self, p: WaitPosition) -> bool:
        return self._caught_up

    async def _next_frame(self, p: WaitPosition) -> bytes | None:
        if not self._mine.addressed:
            return await super()._next_frame(p)
        resources, head, upto = self._resources, p.head, p.target
        # By an index: there may be a million other entries between them.
        agent, thread = self._mine.agent, head.thread_id
        seqs = await resources.store.addressed(agent, thread, p.after, upto, FRAME_MESSAGES)
        if seqs is None:
            await self._look_again(p)
            return None
        if not seqs:
            p.advance(upto, p.after + 1)
            return None
        if not await self._reserve(MAX_MESSAGE_BYTES):
            return None
        rows = await self._rows(head, seqs)
        if not rows or p.head.epoch != head.epoch:
            self._frames.release()
            await self._look_again(p)
            return None
        wanted = await self._request.filter.select(resources.store, thread, rows)
        bodies = self._take(rows, wanted)
        wanted = wanted[: len(bodies)]
        work = await self._count(thread, [rows[index] for index in wanted])
        sent = [seqs[index] for index in wanted]
        if self._full:
            upto = sent[-1] if sent else p.after
        elif len(rows) < len(seqs) or len(seqs) == FRAME_MESSAGES:
            upto = seqs[len(rows) - 1]
        passed = range(p.after + 1, upto + 1)
        hidden = next((seq for seq, other in zip_longest(passed, sent) if seq != other), 0)
        p.advance(upto, hidden)
        if not sent:
            self._frames.release()
            return None
        return self._encoded(p, bodies, sent[-1], work)

    async def _rows(self, head: Head, seqs: Sequence[int]) -> list[Row]:
        """Returns the first of these rows: at most FRAME_BYTES, and none after a missing one."""
        rows: list[Row] = []
        size = 0
        for seq in seqs:
            found, _ = self._resources.recent.read(head.epoch, seq - 1, seq, FRAME_BYTES)
            if not found:
                found = await self._resources.store.read(head.thread_id, seq - 1, seq, FRAME_BYTES)
            size += sum(len(body) for _, body in found)
            if not found or (rows and size > FRAME_BYTES):
                break
            rows += found
        return rows

    async def _keep_alive(self) -> None:
        await self._send_unsent(WaitMessagesResponse(keepalive=WaitKeepalive()))

    async def _end(self, reason: WaitEnding.Reason.ValueType) -> None:
        await self._send_unsent(self._ending(reason))

    async def _send_unsent(self, frame: WaitMessagesResponse) -> None:
        """Send the positions that have moved since they were last sent, the last ones in `frame`.

        The others come in `keepalive` frames before it.
        """
        moved = [p for p in self._known.values() if p.sent_after != p.after]
        while len(moved) > FRAME_THREADS:
            first, moved = moved[:FRAME_THREADS], moved[FRAME_THREADS:]
            full = WaitKeepalive(threads=[p.to_proto() for p in first])
            await self._send(WaitMessagesResponse(keepalive=full))
        part = frame.keepalive if frame.HasField("keepalive") else frame.ending
        part.threads.extend(p.to_proto() for p in moved)
        await self._send(frame)

    async def _limit(self, at: float) -> None:
        """Once max_wait is over, limit delivery to what has been committed.

        Raises StoreBusy if the store did not say before the call's deadline what that is.
        """
        if self._clock() < at:
            return
        if self._request.max_wait:
            try:
                async with asyncio.timeout_at(self._cut or None):
                    await self._resources.memberships.look_at_active()
            except TimeoutError:
                raise StoreBusy("the store cannot be read: there may be new messages") from None
            await self._take_changes()
        self._limited = True
        for p in self._active.values():
            p.limit = p.head.seq

    def _reached(self) -> bool:
        return all(map(WaitPosition.reached, self._active.values()))

    def _is_caught_up(self) -> bool:
        return self._caught_up

    def _is_finished(self) -> bool:
        return False

    def _cursors(self) -> list[Cursor]:
        return [p.cursor for p in self._known.values()]
