"""The bus: what can be asked of it, whoever asks and over whatever road."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace

from bus_server import store
from bus_server.encoding import BatchEncoder
from bus_server.errors import (
    BusError,
    MessageNotFound,
    StorageFull,
    StoreBug,
    StoreFailed,
    ThreadNotFound,
)
from bus_server.fallback import Fallback
from bus_server.filter import Filter
from bus_server.follow import Follow, Outlet
from bus_server.history import PAGE_BYTES, Page, read_page
from bus_server.presence.agent_state import Heartbeat
from bus_server.presence.agents import Agents
from bus_server.presence.changes import Changes
from bus_server.presence.checkpointer import Checkpointer
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.participants import Participants
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.recent import Recent
from bus_server.settings import Settings
from bus_server.store.interface import Store
from bus_server.tail import Tails
from bus_server.waits import Wait, Waits
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.agent_pb2 import Presence as State
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread

logger = logging.getLogger(__name__)

#: Seconds after which clearing a deleted thread is tried again.
PURGE_RETRY = 10.0
#: Seconds between two steps of it, in which posts have the disk to themselves.
PURGE_PAUSE = 0.01
#: A heartbeat tells of so many threads with something unread at most.
UNREAD = 100
#: Bytes of recent messages kept in memory, over all threads.
RECENT_BYTES = 32 * 1024 * 1024


class Bus:
    """Threads and their messages. Answers of posts mean: durable, and the waits were told."""

    def __init__(
        self, store: Store, settings: Settings, forget_tokens: Callable[[], None] = lambda: None
    ) -> None:
        """`forget_tokens` is called when another server may have ended some."""
        self._store = store
        self._settings = settings
        self._tails = Tails()
        self._recent = Recent(RECENT_BYTES)
        self._encoder = BatchEncoder()
        self._writer = Writer(
            store,
            self._tails,
            self._recent,
            max_commands=settings.max_queued_posts,
            max_bytes=settings.max_queued_bytes,
        )
        changes = Changes()
        self.presence = Presence(
            changes,
            store.clock,
            agent_timeout=settings.agent_timeout,
            working_timeout=settings.working_timeout,
        )
        self.waits = Waits(settings.max_open_waits, settings.max_anonymous_waits)
        self.agents = Agents(store, self._writer, self.presence, self.waits, changes)
        self._positions = UnsavedPositions(changes)
        self._participants = Participants(
            store, self.presence, self._positions, self.waits, changes
        )
        self._rosters = ParticipantCache(changes)
        self._checkpoints = Checkpointer(self._writer, self.presence, self._positions, changes)
        self._fallback = Fallback(
            store,
            self._tails,
            self._recent,
            self.presence,
            self._rosters,
            self.waits,
            forget_tokens,
        )
        self._taking: set[asyncio.Task[None]] = set()
        self._purge = asyncio.Event()
        self._purge.set()  # a deletion may have been cut short by the last stop

    # ── The road ────────────────────────────────────────────────────────────────────────────────

    async def post(self, post: store.Append) -> store.Appended:
        """Append a message to a thread."""
        post.position = self._positions.unwritten(post.message.sender, post.message.thread)
        done = await self._writer.submit(post)
        self._participants.posted(post.message)
        return done

    async def post_many(
        self, posts: Sequence[store.Append]
    ) -> Awaitable[list[store.Appended | Exception]]:
        """Take posts in, waiting for room; their answers come with what this returns.

        Posts that are taken in one after the other are appended in that order.
        """
        command = store.AppendMany(posts)
        await self._writer.room(command.size)
        for post in posts:
            post.position = self._positions.unwritten(post.message.sender, post.message.thread)
        answers = self._writer.take(command)
        answers.add_done_callback(functools.partial(self._posted_many, posts))
        return answers

    def _posted_many(
        self,
        posts: Sequence[store.Append],
        answers: "asyncio.Future[list[store.Appended | Exception]]",
    ) -> None:
        if answers.cancelled() or answers.exception():
            return
        done = zip(posts, answers.result(), strict=True)
        self._participants.posted(
            *(post.message for post, answer in done if isinstance(answer, store.Appended))
        )

    async def post_to_recipients(
        self, post: store.Append
    ) -> tuple[store.Appended, list[Participant]]:
        """As `post`; also who will see the message, those who wait as they stood before it came."""
        before = self.waiting_on(post.message.thread)
        done = await self.post(post)
        return done, await self.recipients(post.message, before)

    def waiting_on(self, thread: str) -> Mapping[str, State.ValueType]:
        """Those who wait on a thread, and how they stand."""
        return self._participants.waiting_on(thread)

    async def recipients(
        self, message: Message, before: Mapping[str, State.ValueType]
    ) -> list[Participant]:
        """Who will see a message that was just posted; some as they stood before."""
        return await self._participants.recipients(message, before)

    @contextlib.contextmanager
    def until_drained(self, taking: "asyncio.Task[None]") -> Iterator[None]:
        """Cancel a task that takes posts in when the server is going away."""
        self._taking.add(taking)
        try:
            yield
        finally:
            self._taking.discard(taking)

    def follow(self, wait: Wait, outlet: Outlet) -> Coroutine[None, None, None]:
        """Send a wait's frames until it ends.

        No coroutine of its own, which would stay as long as the wait: there may be thousands.
        """
        follow = Follow(
            wait,
            self._store,
            self._recent,
            self._encoder,
            self._participants,
            self._rosters,
            outlet,
        )
        return follow.run(self._tails)

    async def heartbeat(self, agent: str, beat: Heartbeat) -> tuple[int, list[ThreadUnread]]:
        """An agent lives: when its lease ends (microseconds since the epoch), what is unread."""
        lease_end = self.presence.heartbeat(agent, beat)
        if beat.read_cursors:
            await self._participants.read(agent, beat.read_cursors)
        return lease_end, await self._participants.unread(agent, UNREAD)

    # ── Messages ────────────────────────────────────────────────────────────────────────────────

    async def page(
        self,
        thread: str,
        reader: str,
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
        page = await read_page(
            self._store,
            thread,
            after=after,
            before=before,
            limit=limit,
            newest=newest,
            epoch=epoch,
            wanted=wanted,
        )
        if page.bodies:
            self._participants.listed(reader, thread, page.head, page.last_seq)
        return page

    async def message(self, thread: str, seq: int) -> bytes:
        """Return one message, serialised. Raises ThreadNotFound and MessageNotFound."""
        page = await self._store.page(thread, seq - 1, seq + 1, 1, PAGE_BYTES, newest=False)
        if not page.rows:
            raise MessageNotFound(thread, seq, page.head.seq)
        return page.rows[0][1]

    # ── Threads ─────────────────────────────────────────────────────────────────────────────────

    async def create_thread(self, thread: Thread) -> Thread:
        """Create a thread."""
        return await self._writer.submit(store.CreateThread(thread))

    async def thread(self, name: str) -> Thread:
        """Read a thread."""
        threads = await self._store.threads([name])
        if not threads:
            raise ThreadNotFound([name], await self._store.similar([name]))
        return threads[0]

    async def list_threads(
        self,
        *,
        states: Sequence[int],
        prefix: str,
        participant: str,
        limit: int,
        after: store.ThreadPageKey | None,
    ) -> list[tuple[Thread, store.ThreadPageKey]]:
        """List threads after a key, last active first, each with its own key."""
        return await self._store.list_threads(states, prefix, participant, limit, after)

    async def join_thread(self, join: store.JoinThread) -> tuple[store.Joined, store.Entrance]:
        """Enter a thread, and read what is found there."""
        while True:
            if join.agent and (found := self._positions.unwritten(join.agent, join.thread.name)):
                # It goes on from what it reported last.
                place = join.agent, join.thread.name
                await self._writer.submit(store.Checkpoint((), {place: found}))
            joined = await self._writer.submit(join)
            entrance = await self._participants.entrance(join, joined)
            if entrance is not None:
                return joined, entrance
            # Deleted in between. Nobody was told that it was joined: it is as if that came first.

    async def change_thread(self, change: store.SetThreadState | store.UpdateThread) -> Thread:
        """Open, close or archive a thread, or change its settings."""
        position = self._positions.unwritten(change.entry.sender, change.name)
        thread = await self._writer.submit(replace(change, position=position))
        self._participants.changed(change.name)
        return thread

    async def leave_thread(self, leave: store.LeaveThread) -> None:
        """Take part in a thread no more."""
        await self._writer.submit(leave)
        self._participants.left(leave.agent, leave.name)

    async def participants(self, thread: str, *, after: str, limit: int) -> list[Participant]:
        """Who takes part in a thread, by name."""
        return await self._participants.of(thread, after=after, limit=limit)

    async def delete_thread(self, name: str) -> None:
        """Delete a thread; what it held is cleared in the background."""
        await self._writer.submit(store.DeleteThread(name))
        self._purge.set()

    # ── Life ────────────────────────────────────────────────────────────────────────────────────

    async def restore(self) -> None:
        """Go on with what was known of agents when the last server ended."""
        self.presence.restore(await self._store.sightings(0))

    def tasks(self) -> list[asyncio.Task[None]]:
        """Start what runs for ever."""
        forever = [
            self._writer.run(),
            self._checkpoints.run(self._settings.checkpoint_interval),
            self._rosters.run(),
            self._clear_deleted(),
        ]
        if self._settings.fallback_interval:
            forever.append(self._fallback.run(self._settings.fallback_interval))
        return [asyncio.create_task(coroutine) for coroutine in forever]

    async def drain(self) -> None:
        """End every wait; return when all that was posted is answered and what is known written."""
        for taking in self._taking:
            taking.cancel()
        await self._tails.drain()
        with contextlib.suppress(BusError, StoreBug):  # their loss costs agents repeats
            await self._checkpoints.save()
        await self._writer.drain()

    async def _clear_deleted(self) -> None:
        """Clear what deleted threads held, a little at a time."""
        while True:
            await self._purge.wait()
            self._purge.clear()
            try:
                while await self._writer.submit(store.Purge()):  # noqa: ASYNC110 - a pause
                    await asyncio.sleep(PURGE_PAUSE)
            except (BusError, StoreBug) as error:
                if not isinstance(error, StoreFailed | StorageFull):  # the store's own log tells
                    logger.warning("cannot clear a deleted thread (%s): later", error)
                self._purge.set()
                await asyncio.sleep(PURGE_RETRY)
