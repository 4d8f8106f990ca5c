"""The calls of a ThreadHandle about its thread, and what and who is in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from bus_client.asking import listed
from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.pages import read_messages
from bus_client.participant_watch import participant_updates
from bus_client.requests import build, integer
from bus_client.responses import checked_message, checked_thread
from bus_client.retention import NewRetention, retention_fields
from bus_client.stream import known_kinds
from threadbus.v1 import bus_service_pb2, thread_service_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.message_pb2 import Message, MessageFilter
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN, Request, RequestState
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState


class ThreadCalls:
    """The part of ThreadHandle about the thread, its messages, requests and participants."""

    name: str
    info: Thread
    _calls: Calls
    _heartbeats: Heartbeats

    async def refresh(self) -> Thread:
        """Returns the thread as it is now, and sets `info` to it."""
        request = build(thread_service_pb2.GetThreadRequest, thread=self.name)
        response = await self._calls.call(self._calls.threads.GetThread, request)
        self.info = checked_thread(response.thread, self.name)
        return self.info

    async def messages(
        self,
        *,
        after_seq: int = 0,
        before_seq: int = 0,
        limit: int = 100,
        newest: bool = False,
        filter: MessageFilter | None = None,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        max_bytes: int = 0,
    ) -> list[Message]:
        """Returns messages with after_seq < seq < before_seq, ascending. Moves no read position.

        Args:
            after_seq: The lower bound. 0 = from the oldest message that is kept.
            before_seq: The upper bound. 0 = up to the newest message.
            limit: Maximum number. More than 1,000, or than about 3 MiB, take several calls.
            newest: Return the last `limit` messages of the range instead of the first.
            filter: Which messages to return. None = all.
            omit_attachment_data, max_content_bytes: As in follow().
            max_bytes: As in wait().

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
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
            max_bytes=max_bytes,
        )
        call = partial(self._calls.call, self._calls.bus.ListMessages)
        found = await read_messages(call, request, integer("limit", limit))
        return known_kinds(found)

    async def message(
        self, seq: int, *, omit_attachment_data: bool = False, max_content_bytes: int = 0
    ) -> Message:
        """Returns the message at `seq`, from 1: whole, unless an option shortens it as in follow().

        Raises:
            MessageNotFound: There is no such message, or it is no longer kept.
        """
        request = build(
            bus_service_pb2.GetMessageRequest,
            thread=self.name,
            seq=seq,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
        )
        response = await self._calls.call(self._calls.bus.GetMessage, request)
        return checked_message(response.message, self.name, seq)

    async def update(
        self,
        *,
        topic: str | None = None,
        stage: str | None = None,
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType | None = None,
        retention: NewRetention = None,
        epoch: str = "",
    ) -> Thread:
        """Change the thread's settings. Returns the thread, and sets `info` to it.

        If this changes anything, an entry is appended to the thread, so that waits deliver it.

        Args:
            topic: What it is about, up to 1,024 bytes. None = unchanged.
            stage: The stage of the work, in your words, up to 63 bytes. None = unchanged.
            labels: New labels, which replace all of its labels. None = unchanged.
            sync_mode: With SYNC_MODE_STRICT, posts need expected_last_seq; with SYNC_MODE_OFF, they
                do not. None = unchanged.
            retention: How long its messages are kept: a Retention, which replaces the old one as a
                whole, or "default" = as long as the server keeps those of all threads. None =
                unchanged.
            epoch: If this is not the thread's epoch, nothing is changed, and CursorInvalid is
                raised. Empty = not checked.

        Raises:
            InvalidArgument: A value is not valid, or none is given.
            QuotaExceeded: The thread has no seqs left.
        """
        changes = {
            **{"topic": topic, "stage": stage, "labels": labels},
            **{"sync_mode": sync_mode, "retention": retention},
        }
        given: dict[str, Any] = {
            field: value for field, value in changes.items() if value is not None
        }
        paths = list(given)
        if retention is not None:
            given["retention"] = retention_fields(retention)
        request = build(
            thread_service_pb2.UpdateThreadRequest,
            thread=self.name,
            update_mask={"paths": paths},
            epoch=epoch,
            **given,
        )
        response = await self._calls.call(self._calls.threads.UpdateThread, request)
        self.info = response.thread
        return self.info

    async def set_state(self, state: ThreadState.ValueType, *, epoch: str = "") -> Thread:
        """Open, close or archive the thread. Returns the thread, and sets `info` to it.

        If this changes the state, an entry is appended to the thread, so that waits deliver it.

        Args:
            state: THREAD_STATE_OPEN, THREAD_STATE_CLOSED or THREAD_STATE_ARCHIVED.
            epoch: As in update().

        Raises:
            QuotaExceeded: The thread has no seqs left.
        """
        kind = thread_service_pb2.SetThreadStateRequest
        request = build(kind, thread=self.name, state=state, epoch=epoch)
        response = await self._calls.call(self._calls.threads.SetThreadState, request)
        self.info = response.thread
        return self.info

    async def delete(self, *, epoch: str = "") -> None:
        """Delete the thread with all its messages. Its open waits raise ThreadNotFound.

        Args:
            epoch: As in update(): of several callers that pass the same epoch, one succeeds.
        """
        request = build(thread_service_pb2.DeleteThreadRequest, thread=self.name, epoch=epoch)
        await self._calls.call(self._calls.threads.DeleteThread, request)

    async def leave(self) -> None:
        """End the agent's participation. Its read position is dropped; its messages remain.

        No-op if it is not a participant. A post, a mention, a handoff or join() makes it one again.
        """
        request = build(thread_service_pb2.LeaveThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.LeaveThread, request)
        self._heartbeats.forget(self.name)

    def list_requests(
        self,
        *,
        asker: str = "",
        agent: str = "",
        states: Iterable[RequestState.ValueType] = (REQUEST_STATE_OPEN,),
    ) -> AsyncIterator[Request]:
        """Yields requests in the thread, newest first; see BusClient.list_requests()."""
        return listed(self._calls, asker=asker, agent=agent, thread=self.name, states=states)

    async def withdraw(self, seq: int, *, epoch: str = "") -> list[Request]:
        """Withdraw the open requests of the message at `seq`, one for each agent that it asks.

        Returns all requests of the message, by agent, as they are now. Only for the agent that
        asked, and operators. A message with a `notice` for each request that was open tells the
        readers of the thread. A later reply answers nothing.

        Args:
            seq: The seq of the message that asks.
            epoch: As in update().

        Raises:
            MessageNotFound: There is no such message, or it is no longer kept.
            InvalidArgument: The message asks nobody.
            AccessDenied: Another agent asked.
            QuotaExceeded: The thread has no seqs left.
        """
        request = build(
            bus_service_pb2.WithdrawRequestRequest, thread=self.name, seq=seq, epoch=epoch
        )
        response = await self._calls.call(self._calls.bus.WithdrawRequest, request)
        return list(response.requests)

    async def list_participants(self) -> AsyncIterator[Participant]:
        """Yields the participants, sorted by name, with what each was sent and has read."""
        request = build(thread_service_pb2.ListParticipantsRequest, thread=self.name)
        async for page in self._calls.pages(self._calls.threads.ListParticipants, request):
            for participant in page.participants:
                yield participant

    async def watch_participants(self) -> AsyncGenerator[bus_service_pb2.ParticipantUpdate]:
        """Yields all participants, then those that changed, in updates at most once a second.

        An update has what changed since the last one, and may skip intermediate states. The first
        update after a reconnect has all participants again, and names those that have left; more
        than 1,000 come in several updates. Ends when the thread is closed or archived, or the
        agent's session was ended. This is an open wait: others see the agent as waiting.

        Raises the errors of follow() except CursorLost.
        """
        thread = await self.refresh()
        self._heartbeats.resume()
        async with aclosing(participant_updates(thread, self._calls, self._heartbeats)) as updates:
            async for update in updates:
                yield update
