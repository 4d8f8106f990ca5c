"""A thread as one agent sees it: post to it, look into it, close it; reader.py has the rest."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.reader import Reader
from bus_client.stream import known
from threadbus.v1 import bus_service_pb2, thread_service_pb2
from threadbus.v1.message_pb2 import (
    PRIORITY_UNSPECIFIED,
    Attachment,
    Message,
    MessageFilter,
    Priority,
)
from threadbus.v1.thread_pb2 import Thread, ThreadState


class ThreadHandle(Reader):
    """A thread, and how far this agent has read it. Made by BusClient.join() and .thread().

    Any number of calls may run at once, but only one follow() or wait(). Every call may raise
    what BusClient names for all calls, and ThreadNotFound.

    Attributes:
        name: The thread's name.
        created: Joining created it.
        context: The messages before the read position that join() was asked for, ascending.
        info: The thread as it was at joining, or at the last refresh() or set_state(); without
            joining only its name.
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
        self.info = joined.thread if joined is not None else Thread(name=name)

    async def post(
        self,
        content: str = "",
        *,
        mentions: Iterable[str] = (),
        reply_to: int = 0,
        handoff_to: str = "",
        priority: Priority.ValueType = PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        attachments: Iterable[Attachment] = (),
        expected_last_seq: int | None = None,
        based_on_seq: int | None = None,
        on_behalf_of: str = "",
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
            handoff_to: The agent whose turn it is now.
            priority: How urgent. Unspecified = normal.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16; the whole message at most 3 MiB.
            expected_last_seq: Post only if this is the thread's newest seq. None = always.
            based_on_seq: Seq up to which the author had read.
            on_behalf_of: Operators only: the agent to post as.
            request_id: 1–128 printable ASCII characters, to be able to repeat the post even after
                OutcomeUnknown or a crash. None = a new one.
            timeout: Seconds to try. None = the client's.

        Raises:
            CursorInvalid: A seq was given, and the thread was made anew since it was joined.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, AgentNotFound,
            MessageNotFound, StorageFull, StoreBusy: It was not posted.
            OutcomeUnknown: The time is up, and nobody knows. Repeat with its request_id.
        """
        request_id = request_id or uuid.uuid4().hex
        request = bus_service_pb2.PostMessageRequest(
            thread=self.name,
            content=content,
            request_id=request_id,
            expected_last_seq=expected_last_seq,
            reply_to=reply_to,
            mentions=mentions,
            handoff_to=handoff_to,
            priority=priority,
            labels=labels,
            attachments=attachments,
            based_on_seq=based_on_seq,
            on_behalf_of=on_behalf_of,
        )
        if reply_to or expected_last_seq is not None or based_on_seq is not None:
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
