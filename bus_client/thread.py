"""A thread as one agent sees it; posting.py and reader.py have posting and reading."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Mapping,
)
from contextlib import aclosing

from bus_client.calls import Calls
from bus_client.heartbeats import Heartbeats
from bus_client.posting import Poster
from bus_client.requests import build, whole
from bus_client.responses import checked_message, checked_page, checked_thread
from bus_client.stream import known, wait_frames
from threadbus.v1 import bus_service_pb2, thread_service_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.message_pb2 import (
    Cursor,
    Message,
    MessageFilter,
)
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState

_NOBODY = "none"  # a reserved name: nobody has it, nobody's messages are delivered


class ThreadHandle(Poster):
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
        super().__init__(name, calls, heartbeats, joined.cursor if joined is not None else None)
        self.created = joined is not None and joined.created
        self.similar = list(joined.similar) if joined is not None else []
        self.context = known(joined.context) if joined is not None else []
        self.participants = list(joined.participants) if joined is not None else []
        self.info = joined.thread if joined is not None else Thread(name=name)

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
            request.limit = min(limit - len(found), 1_000)  # what the server lowers it to
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
        response = await self._calls.call(self._calls.threads.UpdateThread, request, changes=True)
        self.info = response.thread
        return self.info

    async def set_state(self, state: ThreadState.ValueType) -> Thread:
        """Opens, closes or archives the thread. OutcomeUnknown if the answer was lost."""
        request = build(thread_service_pb2.SetThreadStateRequest, thread=self.name, state=state)
        response = await self._calls.call(self._calls.threads.SetThreadState, request, changes=True)
        self.info = response.thread
        return self.info

    async def delete(self) -> None:
        """Deletes the thread and all it holds. OutcomeUnknown if the answer was lost."""
        request = build(thread_service_pb2.DeleteThreadRequest, thread=self.name)
        await self._calls.call(self._calls.threads.DeleteThread, request, changes=True)

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
                self._mind(frame)
                if frame.HasField("participants"):
                    yield frame.participants
