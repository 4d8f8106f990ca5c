"""The bus: the operations on threads and their messages, independent of gRPC."""

import asyncio
import contextlib
import functools
import heapq
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from bus_server import store
from bus_server.errors import (
    BusError,
    MessageNotFound,
    StorageFull,
    StoreBug,
    StoreFailed,
    ThreadNotFound,
)
from bus_server.filter import Filter
from bus_server.follow.loop import WaitLoop
from bus_server.follow.my_threads import MyThreadsLoop
from bus_server.follow.resources import Frames, WaitResources
from bus_server.history import PAGE_BYTES, Page, read_page
from bus_server.post_streams import PostStreams
from bus_server.presence.agent_state import Heartbeat
from bus_server.presence.checkpointer import Checkpointer
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.trim import Trim
from bus_server.waits import WaitRequest
from bus_server.writer import Writer
from threadbus.v1 import agent_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.bus_service_pb2 import ThreadUnread
from threadbus.v1.request_pb2 import Request
from threadbus.v1.thread_pb2 import Thread

logger = logging.getLogger(__name__)

#: Seconds before a failed purge of a deleted thread is retried.
PURGE_RETRY = 10.0
#: Seconds between two steps of a purge, which leave the disk to posts.
PURGE_PAUSE = 0.01
#: Maximum number of unread threads in the response to a heartbeat.
MAX_UNREAD = 100


class Bus:
    """The operations on threads and their messages.

    Writes return once they are durable and the waits on the thread have been notified. They raise
    what `Writer.submit` raises, too. Reads raise StoreFailed, StoreBusy and StoreBug, too.
    """

    def __init__(
        self,
        resources: WaitResources,
        writer: Writer,
        presence: Presence,
        positions: UnsavedPositions,
        checkpointer: Checkpointer,
        post_streams: PostStreams,
    ) -> None:
        """`resources`: the store, and what wait loops use, too. server.build creates the parts."""
        self._resources = resources
        self._store = resources.store
        self._participants = resources.participants
        self._writer = writer
        self._presence = presence
        self._positions = positions
        self._checkpointer = checkpointer
        self.post_streams = post_streams
        self._purge = asyncio.Event()
        self._purge.set()  # the last server may have stopped during a purge

    # ── Posts and waits ─────────────────────────────────────────────────────────────────────────

    async def post(self, post: store.Append) -> store.Appended:
        """Append a message to its thread.

        Returns where it was appended, now or by an earlier post with its request_id. Cancelling the
        call does not withdraw the post.

        Raises:
            OutcomeUnknown, StoreBug: it is unknown whether the message was stored.
            BusError: any other error, as PostMessage documents; the message was not stored.
        """
        post.position = self._positions.unwritten(post.sender, post.thread)
        done = await self._writer.submit(post)
        self._participants.posted(post)
        return done

    async def post_many(
        self, posts: Sequence[store.Append]
    ) -> "asyncio.Future[list[store.Appended | Exception]]":
        """Enqueue posts once the writer has capacity for them. Returns a future of outcomes.

        Its result has one outcome for each post, in order: where the message was appended, or the
        error that refused it. If the whole batch failed, it raises what `post` raises. The posts of
        a caller are appended in the order in which they are enqueued. Cancelling the call enqueues
        nothing.
        """
        command = store.AppendMany(posts)
        await self._writer.wait_for_capacity(command.size)
        for post in posts:
            post.position = self._positions.unwritten(post.sender, post.thread)
        outcomes = self._writer.enqueue(command)
        outcomes.add_done_callback(functools.partial(self._posted_many, posts))
        return outcomes

    def _posted_many(
        self,
        posts: Sequence[store.Append],
        outcomes: "asyncio.Future[list[store.Appended | Exception]]",
    ) -> None:
        if outcomes.cancelled() or outcomes.exception():
            return
        done = zip(posts, outcomes.result(), strict=True)
        self._participants.posted(
            *(post for post, outcome in done if isinstance(outcome, store.Appended))
        )

    async def post_to_recipients(
        self, post: store.Append
    ) -> tuple[store.Appended, list[Participant]]:
        """As `post`; also returns the recipients, with their presence before the post."""
        before = self.waiting_on(post.thread)
        done = await self.post(post)
        return done, await self.recipients(post, before)

    def waiting_on(self, thread: str) -> Mapping[str, agent_pb2.Presence.ValueType]:
        """Returns the presence of each agent that has an open wait on a thread, by agent name."""
        return self._participants.waiting_on(thread)

    async def recipients(
        self, post: store.Append, before: Mapping[str, agent_pb2.Presence.ValueType]
    ) -> list[Participant]:
        """Returns the recipients of a post that was just appended, at most 100.

        First the agents addressed, then those with an open wait whose filter matches the message,
        then the other participants; never the sender. Empty if the thread has been deleted or the
        store cannot be read.

        Args:
            before: what `waiting_on` returned before the post. These agents have that presence.
        """
        return await self._participants.recipients(post, before)

    def follow(self, request: WaitRequest, frames: Frames) -> Coroutine[None, None, None]:
        """Returns a coroutine that sends a wait's frames until it ends, as WaitLoop.run does.

        Not a coroutine function: each open wait would then keep a second coroutine object.
        """
        kind = MyThreadsLoop if request.all_my_threads else WaitLoop
        return kind(request, self._resources, frames).run()

    async def heartbeat(
        self, agent: str, beat: Heartbeat, prefixes: tuple[str, ...] = ()
    ) -> tuple[int, list[ThreadUnread]]:
        """Set an agent's lease, state and status text, and record what it has read.

        The next checkpoint writes them to the store. Returns when the lease ends, in microseconds
        since the Unix epoch, and up to MAX_UNREAD threads that the agent has not read to the head,
        most recently active first.

        `prefixes`: only threads whose names begin with one of them; empty: all.
        """
        lease_end = self._presence.heartbeat(agent, beat)
        if beat.read_cursors:
            await self._participants.read(agent, beat.read_cursors)
        return lease_end, await self._participants.unread(agent, MAX_UNREAD, prefixes)

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
        trim: Trim | None,
        max_bytes: int,
    ) -> Page:
        """Returns a page of a thread, after recording it as delivered to `reader`.

        Args:
            reader: the calling agent; empty: it is anonymous, and nothing is recorded.
            after, before, limit, newest, epoch, wanted, trim, max_bytes: as in `read_page`.

        Raises:
            ThreadNotFound: the thread does not exist, or was deleted during the call.
            CursorInvalid: `epoch` is not the thread's, or `after` is past its head.
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
            trim=trim,
            max_bytes=max_bytes,
        )
        if page.bodies:
            self._participants.listed(reader, thread, page.head, page.last_seq)
        return page

    async def message(self, thread: str, seq: int, trim: Trim | None) -> bytes:
        """Returns a message, as a serialised Message. Raises ThreadNotFound and MessageNotFound.

        `trim`: how to shorten it; None: not at all.
        """
        found = await self._store.excerpt(thread, seq - 1, seq + 1, 1, PAGE_BYTES, newest=False)
        if not found.rows:
            raise MessageNotFound(thread, seq, found.head)
        ((_, body),) = found.rows
        return body if trim is None else trim.of([body])[0]

    # ── Requests ────────────────────────────────────────────────────────────────────────────────

    async def requests(
        self, wanted: store.RequestsWanted, limit: int, before: store.RequestPageKey
    ) -> list[store.StoredRequest]:
        """Returns a page of requests, as Store.requests does. Raises ThreadNotFound."""
        if wanted.thread:
            await self.thread(wanted.thread)
        return await self._store.requests(wanted, limit, before)

    async def withdraw_request(self, withdraw: store.Withdraw) -> list[Request]:
        """Withdraw the requests of a message. Returns them. Raises the errors of Withdraw."""
        return await self._writer.submit(withdraw)

    # ── Threads ─────────────────────────────────────────────────────────────────────────────────

    async def create_thread(self, thread: Thread) -> Thread:
        """Create a thread and return it. Raises ThreadExists.

        The store sets its epoch, state and times.
        """
        return await self._writer.submit(store.CreateThread(thread))

    async def thread(self, name: str) -> Thread:
        """Returns a thread by its name. Raises ThreadNotFound."""
        threads = await self._store.threads([name])
        if not threads:
            raise ThreadNotFound([name], await self._store.similar([name]))
        return threads[0]

    async def list_threads(
        self,
        *,
        states: Sequence[int],
        prefixes: Sequence[str],
        participant: str,
        limit: int,
        after: store.ThreadPageKey | None,
    ) -> list[tuple[Thread, store.ThreadPageKey]]:
        """Returns a page of threads, most recently active first, each with its page key.

        A thread to which an entry is appended between two pages moves to the front: it may be
        missing from later pages.

        Args:
            states: only threads in one of these states; empty: none.
            prefixes: only threads whose names begin with one of them. None of them begins with
                another one.
            participant: only threads of which this agent is a participant; empty: all.
            limit: the maximum number of threads.
            after: the page key of the last thread of the previous page; None: the first page.
        """
        pages = [
            await self._store.list_threads(states, prefix, participant, limit, after)
            for prefix in prefixes
        ]
        return list(heapq.merge(*pages, key=itemgetter(1), reverse=True))[:limit]

    async def join_thread(self, join: store.JoinThread) -> tuple[store.Joined, store.Entrance]:
        """Join a thread. Returns what the response to JoinThread holds.

        Raises ThreadNotFound if the thread does not exist and `join.create` is not set.
        """
        while True:
            if join.agent and (found := self._positions.unwritten(join.agent, join.thread.name)):
                # Save the agent's position first: the join returns the one in the store.
                key = join.agent, join.thread.name
                await self._writer.submit(store.Checkpoint((), {key: found}))
            joined = await self._writer.submit(join)
            entrance = await self._participants.entrance(join, joined)
            if entrance is not None:
                return joined, entrance
            # The thread was deleted between the two calls: join again, as if it had been before.

    async def change_thread(self, change: store.SetThreadState | store.UpdateThread) -> Thread:
        """Change a thread's state or settings. Returns the thread as changed.

        Raises the errors of SetThreadState and UpdateThread.
        """
        position = self._positions.unwritten(change.entry.sender, change.name)
        thread = await self._writer.submit(replace(change, position=position))
        self._participants.changed(change.name)
        return thread

    async def leave_thread(self, leave: store.LeaveThread) -> None:
        """Remove an agent from a thread's participants, if it is one. Raises ThreadNotFound."""
        await self._writer.submit(leave)
        self._participants.left(leave.agent, leave.name)

    async def participants(self, thread: str, *, after: str, limit: int) -> list[Participant]:
        """Returns up to `limit` participants of a thread, sorted by name. Raises ThreadNotFound.

        `after`: only those with greater names; empty: all.
        """
        return await self._participants.of(thread, after=after, limit=limit)

    async def delete_thread(self, delete: store.DeleteThread) -> None:
        """Delete a thread and end the waits on it. Raises the errors of DeleteThread.

        Its messages are purged in the background.
        """
        await self._writer.submit(delete)
        self._purge.set()

    # ── Life cycle ──────────────────────────────────────────────────────────────────────────────

    async def drain(self) -> None:
        """End every wait, stop receiving posts of streams, and save presence and positions.

        Returns once every enqueued command has its outcome. A failure to save is ignored.
        """
        self.post_streams.drain()
        await self._resources.tails.drain()
        await self._resources.memberships.notify()
        # If saving fails, presence is out of date until agents call again, and messages may be
        # delivered again; no message is lost.
        with contextlib.suppress(BusError, StoreBug):
            await self._checkpointer.save()
        await self._writer.drain()

    async def purge_forever(self) -> None:
        """Purge what deleted threads held, in small steps, until cancelled. Retries failures."""
        while True:
            await self._purge.wait()
            self._purge.clear()
            try:
                while await self._writer.submit(store.Purge()):  # noqa: ASYNC110 - a pause
                    await asyncio.sleep(PURGE_PAUSE)
            except (BusError, StoreBug) as error:
                if not isinstance(error, StoreFailed | StorageFull):  # the store logs these
                    logger.warning(
                        "cannot purge a deleted thread (%s): trying again in %g s",
                        error,
                        PURGE_RETRY,
                    )
                self._purge.set()
                await asyncio.sleep(PURGE_RETRY)
