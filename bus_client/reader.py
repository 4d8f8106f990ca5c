"""The read position of one thread handle, and the waits that move it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Literal, TypeVar
from weakref import WeakSet

from bus_client.batches import LastingItems
from bus_client.calls import Calls
from bus_client.channel import refuse_fork
from bus_client.errors import CursorLost, ThreadClosed
from bus_client.heartbeats import Heartbeats
from bus_client.long_poll import LongPoll
from bus_client.read_position import ReadPosition
from bus_client.requests import build, choice, integer, refuse
from bus_client.responses import checked_join, hides, joined_position
from bus_client.stream import COMPACTED, cursor_lost, cursors_of, given, wait_frames
from bus_client.traces import received
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    ParticipantUpdate,
    WaitEnding,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest, JoinThreadResponse

T = TypeVar("T")


class Reader:
    """The reader behind a ThreadHandle, which documents the methods of the same names.

    With `joined` None, the position is not known: the first wait joins the thread to learn it.

    Attributes:
        closed: See ThreadHandle.closed.
    """

    def __init__(
        self,
        thread: str,
        calls: Calls,
        heartbeats: Heartbeats,
        joined: JoinThreadResponse | None,
    ) -> None:
        self._thread = thread
        self._calls = calls
        self._heartbeats = heartbeats
        #: None if not known.
        self._position = None if joined is None else joined_position(joined, calls.agent)
        #: As _position, of the last message that was marked as read since _position was set. Apart,
        #: and not guarded by a lock, as another thread may mark messages, which may be interrupted
        #: by a signal handler that calls acknowledge().
        self._read: ReadPosition | None = None
        #: Whether the server was told of the position, or told it.
        self._reported = True
        #: The position after the messages that wait() returned; None once they are marked as read.
        self._returned_to: ReadPosition | None = None
        #: The lowest seq that the filter of the last follow() or wait() hid; 0: none.
        self._hidden = 0
        self._reading = False
        #: Those of follow() that are still referred to.
        self._iterators = WeakSet[LastingItems[Any]]()
        self.closed = False

    @property
    def position(self) -> Cursor:
        """See ThreadHandle.position."""
        return self._here().cursor(self._thread, filtered=False)

    @position.setter
    def position(self, cursor: Cursor) -> None:
        position = build(WaitMessagesRequest, threads=[cursor]).threads[0]
        if position.thread != self._thread:
            refuse("position.thread", f"must be {self._thread!r}, not {position.thread!r}")
        self._read = None
        self._position = ReadPosition.of(position)
        self._reported = False
        self._returned_to = None
        self._hidden = position.hidden_seq

    @property
    def passed_over(self) -> int:
        """See ThreadHandle.passed_over."""
        return self._here().passed

    @property
    def reported(self) -> ReadPosition | None:
        """The read position; None if the server was not told of it."""
        return self._here() if self._reported else None

    async def follow(
        self,
        *,
        filter: MessageFilter | None,
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
        until_closed: bool,
        all_notices: bool,
        **fields: Any,
    ) -> AsyncGenerator[Iterator[Message | ParticipantUpdate]]:
        """Yields the items of ThreadHandle.follow(), in batches as they arrive.

        Each message counts as read when the next one of its batch is requested, which any thread
        may do. Request the next batch after the end of the one before.

        `fields`: include_participants, observe, omit_attachment_data and max_content_bytes.
        """
        choice("on_resync", on_resync, ("raise", "continue"))
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own, fields)
            acknowledge = acknowledge and not request.observe
            reading = wait_frames(self._calls, request, until_closed=until_closed)
            async with aclosing(reading) as frames:
                async for frame in frames:
                    if frame.HasField("resync"):
                        lost = cursor_lost(frame.resync)
                        self._resume_at(frame.resync.position.cursor, lost, report=acknowledge)
                        if lost is not None and on_resync == "raise":
                            raise lost
                        continue
                    if not request.observe:
                        self._heartbeats.update_from_frame(frame)
                    closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    self.closed = closed and until_closed
                    if frame.HasField("messages"):
                        yield self._batch(
                            frame.messages,
                            include_own=include_own,
                            report=acknowledge,
                            all_notices=all_notices,
                        )
                    elif request.include_participants and frame.HasField("participants"):
                        yield iter([frame.participants])
                    for cursor in cursors_of(frame):
                        self._hidden = cursor.hidden_seq
                        self._mark_read(ReadPosition.of(cursor), report=acknowledge)
        finally:
            self._reading = False

    def lasting(self, batches: AsyncGenerator[Iterator[T]]) -> LastingItems[T]:
        """Returns the items of follow(), one by one.

        A later follow() or wait() closes the iterator if its last anext() was cancelled.
        """
        iterator = LastingItems(batches)
        self._iterators.add(iterator)
        return iterator

    def _batch(
        self,
        batch: MessageBatch,
        *,
        include_own: bool,
        report: bool,
        all_notices: bool = False,
    ) -> Iterator[Message]:
        """Yields the messages, and marks each as read when the next one is requested."""
        epoch, self._hidden = batch.cursor.epoch, batch.cursor.hidden_seq
        for message in given(self._calls, batch, include_own=include_own, all_notices=all_notices):
            received(self._calls.agent, message)
            yield message
            refuse_fork()  # the rest of the batch is the parent's
            position = ReadPosition.at(epoch, message.seq, batch.cursor.hidden_seq)
            self._mark_read(position, report=report)

    async def wait(
        self,
        *,
        timeout: float,
        min_messages: int,
        max_messages: int,
        filter: MessageFilter | None,
        include_own: bool,
        acknowledge: bool,
        count_all: bool,
        max_bytes: int,
        on_resync: Literal["raise", "continue"],
        **fields: Any,
    ) -> list[Message]:
        """See ThreadHandle.wait().

        `fields`: observe, omit_attachment_data and max_content_bytes.
        """
        poll = LongPoll(
            timeout=timeout,
            min_messages=min_messages,
            max_messages=max_messages,
            max_bytes=max_bytes,
            count_all=count_all,
            include_own=include_own,
            on_resync=on_resync,
        )
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own, fields)
            acknowledge = acknowledge and not request.observe
            try:
                await poll.run(self._calls, self._heartbeats, request)
            except CursorLost as lost:
                self._resume_at(lost.position, lost, report=acknowledge)
                raise
            self.closed = poll.closed
            if poll.closed and not poll.found:
                raise ThreadClosed(
                    f"Thread {self._thread!r} is closed, and all of it has been read.",
                    code="FAILED_PRECONDITION",
                    reason="THREAD_CLOSED",
                )
            for here, why in poll.resynced:
                self._resume_at(here, why, report=acknowledge)
            if end := poll.ends.get(self._thread):
                self._returned_to, self._hidden = ReadPosition.of(end), end.hidden_seq
            if not acknowledge:
                self._mark_returned_read(report=False)
            if poll.found:
                received(self._calls.agent, *poll.found)
            return poll.found
        finally:
            self._reading = False

    def unread(self) -> None:
        """See ThreadHandle.unread()."""
        self._returned_to = None

    async def acknowledge(self, seq: int | None) -> None:
        """See ThreadHandle.acknowledge()."""
        if seq is None:
            self._mark_returned_read()
        else:
            seq = integer("seq", seq)
            here = self._here()
            if seq > here.read:
                self._position = here.up_to(ReadPosition.at(here.epoch, seq, self._hidden))
        if self._position is not None:
            self._heartbeats.resume()
            self._reported = True
            self._heartbeats.report(self._thread, self._here())
            await self._heartbeats.flush()

    async def _begin_reading(self) -> None:
        for _ in range(5):
            if not self._reading:
                break
            # A follow() that was left with `break` is closed within a few iterations of the event
            # loop.
            await asyncio.sleep(0)
        if self._reading:
            for iterator in list(self._iterators):
                await iterator.close_if_left()
        if self._reading:
            raise RuntimeError(
                f"Another follow() or wait() of this handle of {self._thread!r} is running. "
                "Close it first, or use a second handle."
            )
        self._reading = True
        self.closed = False

    async def _wait_request(
        self, filter: MessageFilter | None, include_own: bool, fields: Mapping[str, Any]
    ) -> WaitMessagesRequest:
        """Returns a request for the messages after the read position.

        Joins the thread if the position is not known, resumes heartbeats unless it observes, and
        marks what the last wait() returned as read.
        """
        request = build(WaitMessagesRequest, filter=filter, **fields)
        filtered = hides(request.filter)
        if not include_own:
            request.filter.exclude_own = True
        if self._position is None:
            join = JoinThreadRequest(thread=self._thread)
            joined = await self._calls.call(self._calls.threads.JoinThread, join)
            checked_join(joined, self._thread)
            self._position = joined_position(joined, self._calls.agent)
        if not request.observe:
            self._heartbeats.resume()
        self._mark_returned_read()
        self._position = self._here()
        request.threads.append(self._position.cursor(self._thread, filtered=filtered))
        self._hidden = request.threads[0].hidden_seq
        return request

    def _resume_at(self, cursor: Cursor, lost: CursorLost | None, *, report: bool) -> None:
        """Continue at the position of a resync. `lost`: what cursor_lost() returns for it."""
        if lost is None or lost.reason != COMPACTED:
            self.position = cursor
        if lost is None or lost.reason == COMPACTED:
            # Of the epoch before, or of what is not kept any more, nothing is left to read. If it
            # was not reported, an agent that starts again would lose its position again.
            self._hidden = cursor.hidden_seq
            self._mark_read(ReadPosition.of(cursor), report=report)

    def _mark_returned_read(self, *, report: bool = True) -> None:
        """Mark what the last wait() returned as read."""
        end, self._returned_to = self._returned_to, None
        here = self._here()
        if end is not None and (end.read > here.read or end.passed > here.passed):
            self._mark_read(end, report=report)

    def _mark_read(self, position: ReadPosition, *, report: bool = True) -> None:
        if self._position is not None and self._position.covers(position):
            return  # acknowledge() has moved the position further
        self._read, self._reported = position, report
        if report:
            self._heartbeats.report_read(self._thread, position)

    def _here(self) -> ReadPosition:
        """Returns the position; that before the first entry if it is not known."""
        position, read = self._position, self._read
        if position is None or read is None:
            return position or read or ReadPosition("", 0, 0)
        return position.up_to(read)
