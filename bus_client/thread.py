"""ThreadHandle: a thread as one agent sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Literal

from bus_client.batches import items_of
from bus_client.calls import Calls
from bus_client.errors import BusError
from bus_client.heartbeats import Heartbeats
from bus_client.post import Post, checked_several, post_requests
from bus_client.post_stream import PostStream
from bus_client.reader import Reader
from bus_client.requests import build, integer, seconds
from bus_client.responses import checked_message, checked_page, checked_post, checked_thread
from bus_client.stream import known_kinds, wait_frames
from threadbus.limits import MAX_PAGE_SIZE
from threadbus.v1 import bus_service_pb2, thread_service_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.message_pb2 import (
    PRIORITY_UNSPECIFIED,
    Attachment,
    Cursor,
    Message,
    MessageFilter,
    Priority,
)
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState

_NOBODY = "none"  # a reserved name: no message matches a filter for it


class ThreadHandle:
    """A thread as one agent sees it, with a read position. From BusClient.join() and .thread().

    Any number of calls may run at once, but only one follow() or wait(). Every call may raise
    ThreadNotFound, and what every call of a BusClient may raise.

    Attributes:
        name: The thread's name.
        created: Whether join() created the thread.
        similar: If join() created the thread: existing threads whose names differ from its name
            only by case, at most 5.
        context: The last messages up to the read position, ascending, if join() was called with a
            context_limit; else empty.
        participants: The participants at the time of join(), at most 100, the caller among them
            unless it is anonymous. Empty without join().
        info: The thread as of join(), or of the last refresh(), update() or set_state(). Before
            any of them, only its name is set.
    """

    def __init__(
        self,
        name: str,
        calls: Calls,
        heartbeats: Heartbeats,
        joined: thread_service_pb2.JoinThreadResponse | None = None,
    ) -> None:
        self.name: str = name
        self._calls = calls
        self._heartbeats = heartbeats
        self._reader = Reader(
            name, calls, heartbeats, joined.cursor if joined is not None else None
        )
        if joined is None:
            joined = thread_service_pb2.JoinThreadResponse(thread=Thread(name=name))
        self.created: bool = joined.created
        self.similar: list[str] = list(joined.similar)
        self.context: list[Message] = known_kinds(joined.context)
        self.participants: list[Participant] = list(joined.participants)
        self.info: Thread = joined.thread

    @property
    def position(self) -> Cursor:
        """The read position: everything up to it counts as read.

        follow(), wait() and acknowledge() move it, and report it to the server, except follow()
        with `acknowledge=False`. Set it before follow() or wait() to read from elsewhere;
        `Cursor(thread=…, after_seq=0)` is the beginning. Raises InvalidArgument for a cursor of
        another thread. In a handle from BusClient.thread(), after_seq is 0 until the first follow()
        or wait() has asked the server for the position.
        """
        return self._reader.position

    @position.setter
    def position(self, cursor: Cursor) -> None:
        self._reader.position = cursor

    @property
    def closed(self) -> bool:
        """Whether the last follow() or wait() ended because the thread is closed or archived.

        All of it was read then. False if the agent's session was ended instead.
        """
        return self._reader.closed

    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        on_resync: Literal["raise", "continue"] = "raise",
    ) -> AsyncGenerator[Message]:
        """Yields the unread messages, then new ones as they are posted.

        Each message comes once and in order, across reconnects and restarts of the server: while no
        server answers, follow() retries without limit. Ends when the thread is closed or archived
        and was read to its end, or when the agent's session was ended; see `closed`. A message
        counts as read when the next one is requested: the message at which the loop was left is
        delivered again, unless it was acknowledged.

        After a delivery, the server counts the agent as working for minutes without a sign of life.
        The client keeps sending heartbeats, so that the death of a working agent is noticed soon.
        Heartbeats need the event loop: run code that blocks it for longer than the server's
        agent_timeout (60 s) in a worker thread, or announce it with BusClient.heartbeat(lease=…).

        If the loop is left with `break`, Python closes the generator a moment later. To close it at
        once, use `async with contextlib.aclosing(thread.follow()) as messages`.

        Args:
            filter: Which messages to deliver. None = all.
            include_own: Deliver the agent's own messages too.
            acknowledge: Report to the server what was read. False = do not report it.
            on_resync: What to do if the position is not in the thread's history, for example
                because the thread was deleted and created again: "raise" CursorLost, or "continue"
                from the position that the server sends. If the thread has a new history that begins
                with all that was read, reading goes on.

        Raises:
            CursorLost: See on_resync. `position` is where the next follow() continues.
            ThreadNotFound: There is no such thread, or it was deleted.
            Unauthenticated: The token is not valid, or is no longer valid.
            AgentExists: The server no longer knew the agent, and its name is taken.
            QuotaExceeded: The agent, or all anonymous clients together, have too many open waits.
            ProtocolError: The server violated the contract.
            BusError: The server was reachable, but the thread could not be read for a minute;
                in most cases InternalError.
            RuntimeError: Another follow() or wait() of this handle is running, or the client was
                closed.
        """
        batches = self._reader.follow(
            filter=filter,
            include_own=include_own,
            acknowledge=acknowledge,
            on_resync=on_resync,
        )
        return items_of(batches)

    async def wait(
        self,
        *,
        timeout: float,
        min_messages: int = 1,
        max_messages: int = 0,
        filter: MessageFilter | None = None,
        include_own: bool = False,
    ) -> list[Message]:
        """Returns the unread messages, or those posted within `timeout`; empty if there are none.

        Returns early, with the messages so far, when the thread is closed or the agent's session
        has ended. The messages count as read when wait(), follow() or acknowledge() is called next.

        Args:
            timeout: Seconds to wait. 0 = return what is there; infinity = no limit. Joining the
                thread, if its position is not known yet, has the client's timeout instead.
            min_messages: Return once there are at least this many. 0 = only at the timeout, or
                with max_messages.
            max_messages: Return at most this many. 0 = no limit.
            filter: Which messages to return. None = all.
            include_own: Return the agent's own messages too.

        Raises:
            ThreadClosed: The thread is closed or archived, and has no messages left to return.
            Unreachable: No server was reached within `timeout`, or 2 s if that is longer.
            BusError: Nothing came within `timeout`, and the last attempt to read failed: there may
                be unread messages. With infinity: as in follow(), even if messages have come; the
                next wait() returns them.
            CursorLost: The position is not in the thread's history. `position` is where the next
                wait() continues.
            ThreadNotFound, Unauthenticated, AgentExists, QuotaExceeded, ProtocolError,
            RuntimeError: As in follow().
        """
        return await self._reader.wait(
            timeout=timeout,
            min_messages=min_messages,
            max_messages=max_messages,
            filter=filter,
            include_own=include_own,
        )

    async def acknowledge(self, seq: int | None = None) -> None:
        """Report the read position now, instead of within about a second.

        For an anonymous client it only moves the handle's position: the server keeps none.

        Args:
            seq: Count everything up to it as read; a seq below the position does not move that
                back. None = what the last wait() returned. The server ignores a seq past the
                thread's newest message, and the next follow() or wait() raises CursorLost.

        Raises:
            BusError: The report failed. It is repeated later.
        """
        await self._reader.acknowledge(seq)

    async def post(
        self,
        content: str = "",
        *,
        mentions: Iterable[str] = (),
        reply_to: int = 0,
        edit_of: int = 0,
        handoff_to: str = "",
        priority: Priority.ValueType = PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        attachments: Iterable[Attachment] = (),
        expected_last_seq: int | None = None,
        based_on_seq: int | None = None,
        on_behalf_of: str = "",
        include_recipients: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> bus_service_pb2.PostMessageResponse:
        """Post a message. Returns the response, with the message's seq, once it is committed.

        Retries with the same request_id until there is a response: the message is posted once or
        not at all, however often the connection breaks.

        Args:
            content: The text, at most 1 MiB by default. May be empty if there is an attachment.
            mentions: Registered agents, at most 32. Unlike `threadbus post`, this does not search
                the text for @names.
            reply_to: The seq of the message that this one replies to. 0 = none.
            edit_of: The seq of the caller's own message whose content this one replaces. 0 = none.
            handoff_to: The registered agent whose turn it is now. Empty = no agent in particular.
            priority: How urgent it is. PRIORITY_UNSPECIFIED = PRIORITY_NORMAL.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16 Attachments, or mappings of their fields. The whole message is
                at most 3 MiB.
            expected_last_seq: Post only if this is the thread's newest seq; 0 = only as the first
                entry. None = always.
            based_on_seq: The seq up to which the agent had read the thread, which counts as read.
                None = unknown.
            on_behalf_of: For operators only: the agent to post as, registered if needed.
            include_recipients: Return in `recipients` who will see the message: their presence, and
                how far each has read. At most 100.
            request_id: 1–128 printable ASCII characters, with which to repeat the post after
                OutcomeUnknown or a crash. None = a new one.
            timeout: Seconds to try. None = the client's timeout; infinity = no limit.

        Raises:
            InvalidArgument: A field is not valid.
            CursorInvalid: A seq was given, and the thread was deleted and created again since it
                was joined.
            ExpectedSeqRequired: The thread is strict, and there is no expected_last_seq.
            AccessDenied: Not permitted, for example because edit_of is another agent's message.
            QuotaExceeded: The thread has no seqs left.
            AgentExists: The agent that on_behalf_of names was unregistered.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, AgentNotFound,
            MessageNotFound, StorageFull, StoreBusy: The message was not posted.
            OutcomeUnknown: The message may have been posted: no response came within `timeout`, the
                server failed, or the client was closed. Repeat the post with its request_id.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        request = Post(
            content,
            mentions=mentions,
            reply_to=reply_to,
            edit_of=edit_of,
            handoff_to=handoff_to,
            priority=priority,
            labels=labels,
            attachments=attachments,
            expected_last_seq=expected_last_seq,
            based_on_seq=based_on_seq,
            on_behalf_of=on_behalf_of,
            include_recipients=include_recipients,
            request_id=request_id,
        ).request(self.name, self.position.epoch)
        return await self._calls.call(
            self._calls.bus.PostMessage,
            request,
            timeout=limit,
            check=partial(checked_post, thread=self.name),
        )

    def post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float = 30.0
    ) -> AsyncGenerator[bus_service_pb2.PostMessageResponse | BusError]:
        """Yields the result of each post, in order: its response, or the exception of post().

        Posts through one stream, which is the fastest way. The messages get their seqs in the order
        given; a post that is refused does not stop the others. At most a few hundred are read from
        `posts` before the first result. When the connection breaks or the server restarts, posts
        without a result are sent again, but stored only once.

        To stop early, close it: `async with contextlib.aclosing(thread.post_many(…)) as results`.
        It is then unknown whether the posts in flight are stored.

        Args:
            posts: Strings, or Posts. The result of a post that cannot be sent is InvalidArgument.
                May be an async iterable, such as one made from another thread's follow(). An
                exception of the iterable is raised after the results of the posts before it.
            timeout: Seconds to try without getting any result; infinity = no limit.

        Raises:
            InvalidArgument: `posts` is a single post, or `timeout` is not valid.
            OutcomeUnknown: Posts may have been stored: no result came within `timeout`, the server
                violated the contract, or the stream was refused, for its token or by a proxy, after
                an earlier one had failed. `request_id` is that of the first post in doubt.
            BusError: The stream was refused.
        """
        return items_of(self._post_many(posts, timeout=timeout))

    async def _post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float
    ) -> AsyncGenerator[list[bus_service_pb2.PostMessageResponse | BusError]]:
        """Yields the results of post_many(), in batches as they arrive."""
        limit = seconds("timeout", timeout)
        pending = post_requests(checked_several(posts), self.name, self.position.epoch)
        async with aclosing(PostStream(self._calls, pending, timeout=limit).results()) as found:
            async for results in found:
                yield results

    async def messages(
        self,
        *,
        after_seq: int = 0,
        before_seq: int = 0,
        limit: int = 100,
        newest: bool = False,
        filter: MessageFilter | None = None,
    ) -> list[Message]:
        """Returns messages with after_seq < seq < before_seq, ascending. Moves no read position.

        Args:
            after_seq: The lower bound. 0 = from the oldest message that is kept.
            before_seq: The upper bound. 0 = up to the newest message.
            limit: Maximum number of messages. More than 1,000, or than about 3 MiB, take several
                calls.
            newest: Return the last `limit` messages of the range instead of the first.
            filter: Which messages to return. None = all.

        Raises:
            CursorInvalid: after_seq is past the newest message, or the thread was deleted and
                created again between two of the calls.
        """
        request = build(
            bus_service_pb2.ListMessagesRequest,
            thread=self.name,
            after_seq=after_seq,
            before_seq=before_seq,
            filter=filter,
            newest=newest,
        )
        limit = integer("limit", limit)
        found: list[Message] = []
        epoch = ""
        while len(found) < limit:
            request.limit = min(limit - len(found), MAX_PAGE_SIZE)
            response = await self._calls.call(self._calls.bus.ListMessages, request)
            page = checked_page(response, request, epoch)
            if newest:
                found[:0] = page.messages
                request.before_seq = page.next_before_seq
            else:
                found += page.messages
                request.after_seq = page.next_after_seq
            if not page.has_more:
                break
            request.epoch = epoch = page.epoch
        return known_kinds(found)

    async def message(self, seq: int) -> Message:
        """Returns the message at `seq`, from 1.

        Raises:
            MessageNotFound: There is no such message, or it is no longer kept.
        """
        request = build(bus_service_pb2.GetMessageRequest, thread=self.name, seq=seq)
        response = await self._calls.call(self._calls.bus.GetMessage, request)
        return checked_message(response.message, self.name, seq)

    async def refresh(self) -> Thread:
        """Returns the thread as it is now, and sets `info` to it."""
        request = build(thread_service_pb2.GetThreadRequest, thread=self.name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        self.info = checked_thread(response.thread, self.name)
        return self.info

    async def update(
        self,
        *,
        topic: str | None = None,
        stage: str | None = None,
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType | None = None,
    ) -> Thread:
        """Change the thread's settings. Returns the thread, and sets `info` to it.

        If this changes anything, an entry is appended to the thread, so that waits deliver it.

        Args:
            topic: What it is about, up to 1,024 bytes. None = unchanged.
            stage: The stage of the work, in your words, up to 63 bytes. None = unchanged.
            labels: New labels, which replace all of its labels. None = unchanged.
            sync_mode: With SYNC_MODE_STRICT, posts need expected_last_seq; with SYNC_MODE_OFF, they
                do not. None = unchanged.

        Raises:
            InvalidArgument: A value is not valid, or none is given.
            QuotaExceeded: The thread has no seqs left.
            OutcomeUnknown: The response was lost.
        """
        changes = {"topic": topic, "stage": stage, "labels": labels, "sync_mode": sync_mode}
        given = {field: value for field, value in changes.items() if value is not None}
        request = build(
            thread_service_pb2.UpdateThreadRequest,
            thread=self.name,
            update_mask={"paths": list(given)},
            **given,
        )
        response = await self._calls.call(self._calls.threads.UpdateThread, request)
        self.info = response.thread
        return self.info

    async def set_state(self, state: ThreadState.ValueType) -> Thread:
        """Open, close or archive the thread. Returns the thread, and sets `info` to it.

        If this changes the state, an entry is appended to the thread, so that waits deliver it.

        Args:
            state: THREAD_STATE_OPEN, THREAD_STATE_CLOSED or THREAD_STATE_ARCHIVED.

        Raises:
            QuotaExceeded: The thread has no seqs left.
            OutcomeUnknown: The response was lost.
        """
        request = build(thread_service_pb2.SetThreadStateRequest, thread=self.name, state=state)
        response = await self._calls.call(self._calls.threads.SetThreadState, request)
        self.info = response.thread
        return self.info

    async def delete(self) -> None:
        """Delete the thread with all its messages. Its open waits raise ThreadNotFound.

        Raises:
            OutcomeUnknown: The response was lost.
        """
        request = build(thread_service_pb2.DeleteThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.DeleteThread, request)

    async def leave(self) -> None:
        """End the agent's participation. Its read position is dropped; its messages remain.

        No-op if the agent is not a participant. A post, a mention or a handoff makes it one again;
        so does join(), with a new read position.
        """
        request = build(thread_service_pb2.LeaveThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.LeaveThread, request)
        self._heartbeats.forget(self.name)

    async def list_participants(self) -> AsyncIterator[Participant]:
        """Yields the participants, sorted by name, with what each was sent and has read."""
        request = build(thread_service_pb2.ListParticipantsRequest, thread=self.name)
        async for page in self._calls.pages(self._calls.threads.ListParticipants, request):
            for participant in page.participants:
                yield participant

    async def watch_participants(self) -> AsyncGenerator[bus_service_pb2.ParticipantUpdate]:
        """Yields all participants, then those that changed, in updates at most once a second.

        An update has what changed since the last one, and may skip intermediate states. The first
        update after a reconnect has all participants again; more than 1,000 come in several
        updates. Ends when the thread is closed or archived, or the agent's session was ended. This
        is an open wait: others see the agent as waiting.

        Raises:
            ThreadNotFound, Unauthenticated, AgentExists, QuotaExceeded, ProtocolError, BusError: As
                in follow().
            RuntimeError: The client was closed.
        """
        thread = await self.refresh()
        self._heartbeats.resume()
        request = build(
            bus_service_pb2.WaitMessagesRequest,
            threads=[Cursor(thread=self.name, after_seq=thread.head_seq, epoch=thread.epoch)],
            filter=MessageFilter(senders=[_NOBODY]),
            include_participants=True,
        )
        async with aclosing(wait_frames(self._calls, request)) as frames:
            async for frame in frames:
                self._heartbeats.update_from_frame(frame)
                if frame.HasField("participants"):
                    yield frame.participants
