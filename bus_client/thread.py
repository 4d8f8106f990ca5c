"""A thread as one agent sees it: post to it, look into it, close it; reader.py has the rest."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing

from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.reader import Reader
from bus_client.stream import known, wait_frames
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
from threadbus.v1.thread_pb2 import SYNC_MODE_UNSPECIFIED, SyncMode, Thread, ThreadState

_NOBODY = "none"  # a reserved name: nobody has it, nobody's messages are delivered


class ThreadHandle(Reader):
    """A thread, and how far this agent has read it. Made by BusClient.join() and .thread().

    Any number of calls may run at once, but only one follow() or wait(). Every call may raise
    what BusClient names for all calls, and ThreadNotFound.

    Attributes:
        name: The thread's name.
        created: Joining created it.
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
        super().__init__(name, calls, heartbeats, joined.cursor if joined is not None else None)
        self.created = joined is not None and joined.created
        self.context = known(joined.context) if joined is not None else []
        self.participants = list(joined.participants) if joined is not None else []
        self.info = joined.thread if joined is not None else Thread(name=name)

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
            mentions: Registered agents, at most 32.
            reply_to: Seq of the message answered. 0 = none.
            edit_of: Seq of an own message whose content this one replaces. 0 = none.
            handoff_to: The agent whose turn it is now.
            priority: How urgent. Unspecified = normal.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16; the whole message at most 3 MiB.
            expected_last_seq: Post only if this is the thread's newest seq. None = always.
            based_on_seq: Seq up to which the author had read.
            on_behalf_of: Operators only: the agent to post as.
            include_recipients: Have the answer tell in `recipients` who will see it: who waits,
                works or is gone, and how far each has read. At most 100.
            request_id: 1–128 printable ASCII characters, to be able to repeat the post even after
                OutcomeUnknown or a crash. None = a new one.
            timeout: Seconds to try. None = the client's.

        Raises:
            CursorInvalid: A seq was given, and the thread was made anew since it was joined.
            ExpectedSeqRequired: The thread is strict: say what expected_last_seq is.
            AccessDenied: Also when edit_of is the message of another.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, AgentNotFound,
            MessageNotFound, StorageFull, StoreBusy: It was not posted.
            OutcomeUnknown: The time is up, or the client was closed, and nobody knows. Repeat with
                its request_id.
        """
        request_id = request_id or uuid.uuid4().hex
        request = bus_service_pb2.PostMessageRequest(
            thread=self.name,
            content=content,
            request_id=request_id,
            expected_last_seq=expected_last_seq,
            reply_to=reply_to,
            edit_of=edit_of,
            mentions=mentions,
            handoff_to=handoff_to,
            priority=priority,
            labels=labels,
            attachments=attachments,
            based_on_seq=based_on_seq,
            on_behalf_of=on_behalf_of,
            include_recipients=include_recipients,
        )
        if reply_to or edit_of or expected_last_seq is not None or based_on_seq is not None:
            # Seqs count in one history only: in another one the post must not pass by chance.
            request.epoch = self.position.epoch
        return await self._calls.call(
            self._calls.bus.PostMessage,
            request,
            timeout=timeout,
            changes=True,
            request_id=request_id,
        )

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
        request = bus_service_pb2.ListMessagesRequest(
            thread=self.name,
            after_seq=after_seq,
            before_seq=before_seq,
            filter=filter,
            newest=newest,
        )
        found: list[Message] = []
        while len(found) < limit:
            request.limit = min(limit - len(found), 1_000)  # what the server lowers it to
            page = await self._calls.call(self._calls.bus.ListMessages, request)
            if newest:
                found[:0] = page.messages
                request.before_seq = page.next_before_seq
            else:
                found += page.messages
                request.after_seq = page.next_after_seq
            if not page.has_more:
                break
            request.epoch = page.epoch
        return known(found)

    async def message(self, seq: int) -> Message:
        """The message at `seq`, from 1. MessageNotFound if there is none, or not any more."""
        request = bus_service_pb2.GetMessageRequest(thread=self.name, seq=seq)
        response = await self._calls.call(self._calls.bus.GetMessage, request)
        return response.message

    async def refresh(self) -> Thread:
        """The thread as it is now; `info` from then on."""
        request = thread_service_pb2.GetThreadRequest(thread=self.name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        self.info = response.thread
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
        request = thread_service_pb2.UpdateThreadRequest(
            thread=self.name,
            topic=topic or "",
            stage=stage or "",
            labels=labels,
            sync_mode=sync_mode or SYNC_MODE_UNSPECIFIED,
        )
        given = {"topic": topic, "stage": stage, "labels": labels, "sync_mode": sync_mode}
        request.update_mask.paths.extend(key for key, value in given.items() if value is not None)
        response = await self._calls.call(self._calls.threads.UpdateThread, request, changes=True)
        self.info = response.thread
        return self.info

    async def set_state(self, state: ThreadState.ValueType) -> Thread:
        """Opens, closes or archives the thread. OutcomeUnknown if the answer was lost."""
        request = thread_service_pb2.SetThreadStateRequest(thread=self.name, state=state)
        response = await self._calls.call(self._calls.threads.SetThreadState, request, changes=True)
        self.info = response.thread
        return self.info

    async def delete(self) -> None:
        """Deletes the thread and all it holds. OutcomeUnknown if the answer was lost."""
        request = thread_service_pb2.DeleteThreadRequest(thread=self.name)
        await self._calls.call(self._calls.threads.DeleteThread, request, changes=True)

    async def leave(self) -> None:
        """Takes part no more: the server forgets what the agent has read; what it wrote stays.

        Posting, or being mentioned, makes it a participant again; join() lets it begin anew.
        """
        request = thread_service_pb2.LeaveThreadRequest(thread=self.name)
        await self._calls.call(self._calls.threads.LeaveThread, request)
        self._heartbeats.forget(self.name)

    async def list_participants(self) -> AsyncIterator[Participant]:
        """Who takes part, by name, and what each was handed and has read."""
        request = thread_service_pb2.ListParticipantsRequest(thread=self.name)
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
        request = bus_service_pb2.WaitMessagesRequest(
            threads=[Cursor(thread=self.name, after_seq=thread.head_seq, epoch=thread.epoch)],
            filter=MessageFilter(senders=[_NOBODY]),
            include_participants=True,
        )
        async with aclosing(wait_frames(self._calls, request)) as frames:
            async for frame in frames:
                self._mind(frame)
                if frame.HasField("participants"):
                    yield frame.participants
