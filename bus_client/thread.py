"""ThreadHandle: a thread as one agent sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Literal

from bus_client.calls import Calls
from bus_client.errors import BusError
from bus_client.heartbeats import Heartbeats
from bus_client.post import Post, requests, several
from bus_client.post_stream import PostStream
from bus_client.reader import Reader
from bus_client.requests import build, seconds, whole
from bus_client.responses import checked_message, checked_page, checked_post, checked_thread
from bus_client.stream import known, wait_frames
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

_NOBODY = "none"  # a reserved name: nobody has it, nobody's messages are delivered


class ThreadHandle:
    """A thread, and how far this agent has read it. Made by BusClient.join() and .thread().

    Any number of calls may run at once, but only one follow() or wait(). Every call may raise
    what BusClient names for all calls, and ThreadNotFound.

    Attributes:
        name: The thread's name.
        created: Joining created it.
        similar: If so, threads whose names differ from its name only by case.
        context: The messages before the read position that join() was asked for, ascending.
        participants: Who took part when join() was called, the caller included; at most 100.
        info: The thread as it was at joining, or at the last refresh(), update() or set_state();
            without joining only its name.
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
        self.context: list[Message] = known(joined.context)
        self.participants: list[Participant] = list(joined.participants)
        self.info: Thread = joined.thread

    @property
    def position(self) -> Cursor:
        """The read position: everything up to it counts as read, and is reported to the server.

        Set it to read from elsewhere; `Cursor(thread=…, after_seq=0)` is the beginning, and
        InvalidArgument is raised for one of another thread. Without joining it is unknown, and
        looks so, until the first follow() or wait() asks the server.
        """
        return self._reader.position

    @position.setter
    def position(self, cursor: Cursor) -> None:
        self._reader.position = cursor

    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        on_resync: Literal["raise", "continue"] = "raise",
    ) -> AsyncGenerator[Message]:
        """What was not read yet, then what is posted, as it is posted.

        Each message comes once and in order, across reconnects and restarts of the server; the end
        comes when the thread is closed, or the agent's session was ended. A message counts as read
        when the next one is asked for: the one that the loop was left with comes again, unless it
        was acknowledged.

        After a delivery the server lets the agent work in silence for minutes. This client says at
        once that it is alive, and goes on saying so, so that an agent which is killed over its
        work is found out soon. Its heartbeats need the event loop: code that blocks it for longer
        than the server's agent_timeout (60 s) should run in a thread, or say so first with
        BusClient.heartbeat(lease=…).

        A loop left with `break` is closed by Python a moment later. To close it at once use
        `async with contextlib.aclosing(thread.follow()) as messages`.

        Args:
            filter: Which messages to deliver. None = all.
            include_own: Deliver the agent's own messages too.
            acknowledge: Report to the server what counts as read. False = only look.
            on_resync: What to do when the position is not in the thread's history any more, as
                the thread was made anew: raise CursorLost, or continue with what it has now.

        Raises:
            CursorLost: See on_resync. `position` is then where the next follow() goes on.
            ThreadNotFound: Also when it was deleted meanwhile.
            Unauthenticated: Also when the token was ended meanwhile. (An agent that registered by
                its name and is not known any more, as the store was made anew, registers again:
                AgentExists if its name is another's now.)
            QuotaExceeded: The agent has too many open waits.
            ProtocolError: The server sent what the contract does not allow.
            BusError: For a minute the thread could not be read, though the server could be
                reached; InternalError above all.
            RuntimeError: Another follow() or wait() of this handle is running.
        """
        return self._reader.follow(
            filter=filter, include_own=include_own, acknowledge=acknowledge, on_resync=on_resync
        )

    async def wait(
        self,
        *,
        timeout: float,
        min_messages: int = 1,
        max_messages: int = 0,
        filter: MessageFilter | None = None,
        include_own: bool = False,
    ) -> list[Message]:
        """What was not read yet, else what is posted within `timeout`; empty if nothing was.

        It returns earlier, with what there is, when the agent's session ended.

        What it returns counts as read when wait() or follow() is called again, or acknowledge().

        Args:
            timeout: Seconds to wait. 0 = only what is there; infinity = until something comes.
            min_messages: Return once there are so many. 0 = only at the timeout.
            max_messages: Return at most so many. 0 = no such limit.
            filter: Which messages to return. None = all.
            include_own: Return the agent's own messages too.

        Raises:
            ThreadClosed: The thread is closed and all of it was returned before.
            Unreachable: There was no server within `timeout`, or 2 s if that is longer.
            BusError: Nothing came in that time, and the last attempt to read failed: there may be
                messages that cannot be read now.
            ProtocolError, CursorLost, ThreadNotFound, Unauthenticated, QuotaExceeded,
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
        """Reports the read position now, instead of within about a second.

        Args:
            seq: Count everything up to it as read, first. None = what the last wait() returned.

        Does nothing for an anonymous client, whose position is kept nowhere.
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
        """Posts a message; returns once it is durable.

        It is repeated, with the same request_id, until there is an answer: posted once or not at
        all, however often the connection breaks.

        Args:
            content: The text, at most 1 MiB by default. May be empty if there is an attachment.
            mentions: Registered agents, at most 32. The text is not searched for @names, as
                `threadbus post` does: who is not named here is not mentioned.
            reply_to: Seq of the message answered. 0 = none.
            edit_of: Seq of an own message whose content this one replaces. 0 = none.
            handoff_to: The agent whose turn it is now.
            priority: How urgent. Unspecified = normal.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16, or mappings of their fields; the whole message at most 3 MiB.
            expected_last_seq: Post only if this is the thread's newest seq. None = always.
            based_on_seq: Seq up to which the author had read.
            on_behalf_of: Operators only: the agent to post as.
            include_recipients: Have the answer tell in `recipients` who will see it: who waits,
                works or is gone, and how far each has read. At most 100.
            request_id: 1–128 printable ASCII characters, to be able to repeat the post even after
                OutcomeUnknown or a crash. None = a new one.
            timeout: Seconds to try. None = the client's; infinity = no limit.

        Raises:
            InvalidArgument: A field is wrong. What cannot be sent at all – half a character, a
                number that is too large, another type – is told without asking the server.
            CursorInvalid: A seq was given, and the thread was made anew since it was joined.
            ExpectedSeqRequired: The thread is strict: say what expected_last_seq is.
            AccessDenied: Also when edit_of is the message of another.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, AgentNotFound,
            MessageNotFound, StorageFull, StoreBusy: It was not posted.
            OutcomeUnknown: The time is up, or the client was closed, and nobody knows. Repeat with
                its request_id.
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

    async def post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float = 30.0
    ) -> AsyncGenerator[bus_service_pb2.PostMessageResponse | BusError]:
        """Posts many messages through one stream: the fast road.

        Yields what became of each, in order: its answer, or the exception that post() would have
        raised. They get their seqs in the order given; a refused one stops nothing. A few hundred
        at most are taken from `posts` before the first is answered. When the connection breaks or
        the server restarts, what is not answered is sent again, and stored once.

        To stop early close it: `async with contextlib.aclosing(thread.post_many(…)) as results`.
        What is under way then may be posted, or not.

        Args:
            posts: Texts, or Posts for more than a text. One that cannot be sent is given as its
                InvalidArgument, in its place. May be an async iterable, such as what
                another follow() makes.
            timeout: Seconds to try while nothing at all is answered; infinity = no limit.

        Raises:
            InvalidArgument: `posts` is a single one, or `timeout` is wrong.
            OutcomeUnknown: The time is up; its request_id is that of the first post in doubt.
        """
        limit = seconds("timeout", timeout)
        pending = requests(several(posts), self.name, self.position.epoch)
        async with aclosing(PostStream(self._calls, pending, timeout=limit).results()) as found:
            async for result in found:
                yield result

    async def messages(
        self,
        *,
        after_seq: int = 0,
        before_seq: int = 0,
        limit: int = 100,
        newest: bool = False,
        filter: MessageFilter | None = None,
    ) -> list[Message]:
        """Messages with after_seq < seq < before_seq, ascending. Moves no read position.

        Args:
            after_seq: 0 = from the oldest kept.
            before_seq: 0 = up to the newest.
            limit: At most so many. Large ones take several calls, and raise CursorInvalid if the
                thread is made anew between two of them.
            newest: The last `limit` of them instead of the first.
            filter: Which messages to return. None = all.
        """
        request = build(
            bus_service_pb2.ListMessagesRequest,
            thread=self.name,
            after_seq=after_seq,
            before_seq=before_seq,
            filter=filter,
            newest=newest,
        )
        limit = whole("limit", limit)
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
        return known(found)

    async def message(self, seq: int) -> Message:
        """The message at `seq`, from 1. MessageNotFound if there is none, or not any more."""
        request = build(bus_service_pb2.GetMessageRequest, thread=self.name, seq=seq)
        response = await self._calls.call(self._calls.bus.GetMessage, request)
        return checked_message(response.message, self.name, seq)

    async def refresh(self) -> Thread:
        """The thread as it is now; `info` from then on."""
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
        """Changes the thread's settings; who follows it learns that. None = as before.

        Args:
            topic: What it is about, up to 1,024 bytes.
            stage: Where the work stands, in your words, up to 63 bytes.
            labels: All its labels.
            sync_mode: SYNC_MODE_STRICT, to have posts say what they expect, or SYNC_MODE_OFF.

        Raises:
            OutcomeUnknown: The answer was lost.
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
        """Opens, closes or archives the thread. OutcomeUnknown if the answer was lost."""
        request = build(thread_service_pb2.SetThreadStateRequest, thread=self.name, state=state)
        response = await self._calls.call(self._calls.threads.SetThreadState, request)
        self.info = response.thread
        return self.info

    async def delete(self) -> None:
        """Deletes the thread and all it holds. OutcomeUnknown if the answer was lost."""
        request = build(thread_service_pb2.DeleteThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.DeleteThread, request)

    async def leave(self) -> None:
        """Takes part no more: the server forgets what the agent has read; what it wrote stays.

        Posting, or being mentioned, makes it a participant again; join() lets it begin anew.
        """
        request = build(thread_service_pb2.LeaveThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.LeaveThread, request)
        self._heartbeats.forget(self.name)

    async def list_participants(self) -> AsyncIterator[Participant]:
        """Who takes part, by name, and what each was handed and has read."""
        request = build(thread_service_pb2.ListParticipantsRequest, thread=self.name)
        async for page in self._calls.pages(self._calls.threads.ListParticipants, request):
            for participant in page.participants:
                yield participant

    async def watch_participants(self) -> AsyncGenerator[bus_service_pb2.ParticipantUpdate]:
        """How the participants stand: all of them first, then those that change, as they do.

        An update may skip states in between, and comes at most once a second. When a connection
        broke, the first one after it tells of all participants again. Ends with the thread, as
        follow() does. It is an open wait of the agent like any other, and seen as such.

        Raises:
            ThreadNotFound, Unauthenticated, QuotaExceeded: As in follow().
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
