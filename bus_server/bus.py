"""The bus: what can be asked of it, whoever asks and over whatever road."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bus_server.errors import (
    AgentNotFound,
    BusError,
    CursorInvalid,
    MessageNotFound,
    QuotaExceeded,
    StoreFailed,
    ThreadNotFound,
)
from bus_server.filter import Filter
from bus_server.follow import Follow, Send, Wait
from bus_server.readers import Readers
from bus_server.settings import RECENT_BYTES, Settings
from bus_server.store import (
    Append,
    Appended,
    CreateThread,
    DeleteThread,
    Head,
    Joined,
    JoinThread,
    Place,
    Purge,
    RegisterAgent,
    SetThreadState,
    Store,
)
from bus_server.tail import Recent, Tails
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.message_pb2 import Cursor, Message
from threadbus.v1.thread_pb2 import Thread

logger = logging.getLogger(__name__)

#: A page of a thread: bytes of messages, rows a filter reads at a time, and how many rows and bytes
#: it passes over at most.
PAGE_BYTES = 3 * 1024 * 1024
PAGE_ROWS = 1_000
PAGE_SCAN = 10_000
PAGE_SCAN_BYTES = 64 * 1024 * 1024

#: Seconds after which clearing a deleted thread is tried again.
PURGE_RETRY = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a thread, ascending, and from where to read on in either direction."""

    messages: Sequence[Message]
    head: Head
    next_after: int
    next_before: int
    more: bool


class Bus:
    """Threads, messages and agents. Answers of posts mean: durable, and the waits were told."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._tails = Tails()
        self._recent = Recent(RECENT_BYTES)
        self._writer = Writer(
            store,
            self._tails,
            self._recent,
            max_commands=settings.max_queued_posts,
            max_bytes=settings.max_queued_bytes,
        )
        self._readers = Readers(self._writer)
        self._settings = settings
        self._waits: Counter[str] = Counter()
        self._purge = asyncio.Event()
        self._purge.set()  # a deletion may have been cut short by the last stop

    # ── The road ────────────────────────────────────────────────────────────────────────────────

    async def post(self, post: Append) -> Appended:
        """Append a message to a thread."""
        return await self._writer.submit(post)

    async def follow(self, wait: Wait, caller: str | None, send: Send) -> None:
        """Send a wait's frames until it ends. `caller` counts against its quota (None: nobody)."""
        with self._counted(caller):
            await Follow(wait, self._store, self._recent, send).run(self._tails)

    @contextlib.contextmanager
    def _counted(self, caller: str | None) -> Iterator[None]:
        """Count an open wait against its caller's quota."""
        if caller is None:
            yield
            return
        limit = self._settings.max_open_waits
        if self._waits[caller] >= limit:
            raise QuotaExceeded(
                "open waits of one agent", limit, "end some, or wait on several threads in one call"
            )
        self._waits[caller] += 1
        try:
            yield
        finally:
            self._waits[caller] -= 1
            if not self._waits[caller]:
                del self._waits[caller]

    async def report_read(self, agent: str, cursors: Sequence[Cursor]) -> None:
        """Take an agent's word for what it has read, where it can be true."""
        heads = await self._store.heads([cursor.thread for cursor in cursors])
        for cursor in cursors:
            head = heads.get(cursor.thread)
            if head and cursor.epoch in ("", head.epoch) and cursor.after_seq <= head.seq:
                self._readers.report(agent, cursor.thread, head.epoch, cursor.after_seq)

    # ── Messages ────────────────────────────────────────────────────────────────────────────────

    async def page(
        self,
        thread: str,
        *,
        after: int,
        before: int,
        limit: int,
        newest: bool,
        epoch: str,
        wanted: Filter,
    ) -> Page:
        """Read a page of a thread: up to `limit` of its wanted messages in after < seq < before.

        Raises ThreadNotFound, and CursorInvalid for another epoch or an `after` past the head.
        """
        rows = limit if wanted.everything else PAGE_ROWS
        part = await self._store.page(thread, after, before, rows, PAGE_BYTES, newest)
        head = part.head
        other = epoch not in ("", head.epoch)
        if other or after > head.seq:
            raise CursorInvalid(head_seq=head.seq, epoch=head.epoch, past_head=not other)
        last = min(before - 1, head.seq) if before else head.seq
        low, high = after, last + 1  # what is not read yet: low < seq < high
        messages: list[Message] = []
        size = scanned = scanned_bytes = 0
        while part.messages:
            if part.head.thread_id != head.thread_id:
                raise ThreadNotFound([thread])  # deleted and made anew meanwhile
            left = limit - len(messages)
            found = list(await wanted.select(self._store, head.thread_id, part.messages))
            found = found[-left:] if newest else found[:left]
            # When the page is full, what lies beyond its last message was not looked at.
            seen = found if len(found) == left else part.messages
            if newest:
                messages, high = found + messages, seen[0].seq
            else:
                messages, low = messages + found, seen[-1].seq
            size += sum(message.ByteSize() for message in found)
            scanned += len(part.messages)
            scanned_bytes += sum(message.ByteSize() for message in part.messages)
            # One more message of the largest kind must still fit into an answer of 4 MiB.
            full = len(messages) == limit or size > PAGE_BYTES // 4
            full = full or scanned >= PAGE_SCAN or scanned_bytes >= PAGE_SCAN_BYTES
            if full or high - low <= 1:
                break
            part = await self._store.page(thread, low, high, rows, PAGE_BYTES - size, newest)
        if newest:
            return Page(messages, head, last, high, more=high - low > 1)
        return Page(messages, head, low, after + 1, more=high - low > 1)

    async def message(self, thread: str, seq: int) -> Message:
        """Read one message."""
        page = await self._store.page(thread, seq - 1, seq + 1, 1, PAGE_BYTES, newest=False)
        if not page.messages:
            raise MessageNotFound(thread, seq, page.head.seq)
        return page.messages[0]

    # ── Threads ─────────────────────────────────────────────────────────────────────────────────

    async def create_thread(self, thread: Thread) -> Thread:
        """Create a thread."""
        return await self._writer.submit(CreateThread(thread))

    async def thread(self, name: str) -> Thread:
        """Read a thread."""
        threads = await self._store.threads([name])
        if not threads:
            raise ThreadNotFound([name])
        return threads[0]

    async def list_threads(
        self,
        *,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: Place | None,
    ) -> list[tuple[Thread, Place]]:
        """List threads, last active first, each with its place in that order."""
        return await self._store.list_threads(states, prefix, participant, limit, after)

    async def join_thread(self, join: JoinThread) -> Joined:
        """Enter a thread."""
        await self._readers.save()  # the agent goes on from what it reported last
        return await self._writer.submit(join)

    async def set_thread_state(self, change: SetThreadState) -> Thread:
        """Open, close or archive a thread."""
        return await self._writer.submit(change)

    async def delete_thread(self, name: str) -> None:
        """Delete a thread; what it held is cleared in the background."""
        await self._writer.submit(DeleteThread(name))
        self._purge.set()

    # ── Agents ──────────────────────────────────────────────────────────────────────────────────

    async def register_agent(self, registration: RegisterAgent) -> Agent:
        """Register an agent, or find it registered."""
        return await self._writer.submit(registration)

    async def agent(self, name: str) -> Agent:
        """Read an agent."""
        agent = await self._store.agent(name)
        if agent is None:
            raise AgentNotFound([name])
        return agent

    async def list_agents(self, *, limit: int, after: str) -> list[Agent]:
        """List agents by name."""
        return await self._store.list_agents(limit, after)

    # ── Life ────────────────────────────────────────────────────────────────────────────────────

    def tasks(self) -> list[asyncio.Task[None]]:
        """Start what runs for ever."""
        forever = [
            self._writer.run(),
            self._readers.run(self._settings.read_position_interval),
            self._clear_deleted(),
        ]
        if self._settings.fallback_interval:
            forever.append(self._fallback(self._settings.fallback_interval))
        return [asyncio.create_task(coroutine) for coroutine in forever]

    async def drain(self) -> None:
        """End every wait, then return when all that was posted is answered."""
        await self._tails.drain()
        with contextlib.suppress(BusError, StoreFailed):  # their loss costs agents repeats
            await self._readers.save()
        await self._writer.drain()

    async def _fallback(self, interval: float) -> None:
        """Find what other processes write to the store, for all waited threads together.

        The cost does not grow with the waits, and is one pragma while nobody else writes.
        """
        seen: int | None = None
        while True:
            await asyncio.sleep(interval * random.uniform(0.7, 1.0))  # noqa: S311
            try:
                version = await self._store.foreign_version()
                if version == seen:
                    continue
                waited = self._tails.heads
                heads = await self._store.heads(list(waited)) if waited else {}
            except (StoreFailed, BusError) as error:
                logger.warning("cannot look for what others wrote (%s): trying again", error)
                continue
            for name, known in waited.items():
                if name in heads:
                    await self._tails.advance(name, heads[name])
                elif known is not None:
                    await self._tails.end(name, known.thread_id)
            # A thread that is not there, but is being read for a wait, was perhaps deleted after
            # that reading: look again.
            if all(name in heads or known is not None for name, known in waited.items()):
                seen = version

    async def _clear_deleted(self) -> None:
        """Clear what deleted threads held, a little at a time."""
        while True:
            await self._purge.wait()
            self._purge.clear()
            try:
                while await self._writer.submit(Purge()):
                    pass
            except (StoreFailed, BusError) as error:
                logger.warning("cannot clear a deleted thread (%s): later", error)
                self._purge.set()
                await asyncio.sleep(PURGE_RETRY)
