"""The read position of one thread handle, and the waits that move it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from bus_client.byte_budget import ByteBudget
from bus_client.calls import Calls
from bus_client.channel import refuse_fork
from bus_client.errors import ThreadClosed
from bus_client.heartbeats import Heartbeats
from bus_client.read_position import ReadPosition
from bus_client.requests import NO_LIMIT, build, choice, integer, refuse, seconds
from bus_client.responses import checked_join, hides, joined_position
from bus_client.stream import cursor_lost, cursors_of, given, wait_frames
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import WAKE_NOBODY, Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest, JoinThreadResponse

_MAX_MESSAGES = 2**31 - 1  # the largest min_messages or max_messages of a request
#: The ends of a wait that has delivered all that it was asked for.
_FULL = {
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_MESSAGES,
    WaitEnding.REASON_MAX_BYTES,
}


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
        #: The position after the messages that wait() returned; None once they are marked as read.
        self._returned_to: ReadPosition | None = None
        #: The lowest seq that the filter of the last follow() or wait() hid; 0: none.
        self._hidden = 0
        self._reading = False
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
        self._returned_to = None
        self._hidden = position.hidden_seq

    @property
    def passed_over(self) -> int:
        """See ThreadHandle.passed_over."""
        return self._here().passed

    async def follow(
        self,
        *,
        filter: MessageFilter | None,
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
        until_closed: bool,
        **shortened: Any,
    ) -> AsyncGenerator[Iterator[Message]]:
        """Yields the messages of ThreadHandle.follow(), in batches as they arrive.

        Each message counts as read when the next one of its batch is requested, which any thread
        may do. Request the next batch after the end of the one before.

        `shortened`: omit_attachment_data and max_content_bytes.
        """
        choice("on_resync", on_resync, ("raise", "continue"))
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own, shortened)
            reading = wait_frames(self._calls, request, until_closed=until_closed)
            async with aclosing(reading) as frames:
                async for frame in frames:
                    if frame.HasField("resync"):
                        self.position = here = frame.resync.position.cursor
                        lost = cursor_lost(frame.resync)
                        if lost is None:  # what was reported was of the epoch before
                            self._mark_read(ReadPosition.of(here), report=acknowledge)
                        elif on_resync == "raise":
                            raise lost
                        continue
                    self._heartbeats.update_from_frame(frame)
                    closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    self.closed = closed and until_closed
                    if frame.HasField("messages"):
                        yield self._batch(
                            frame.messages, include_own=include_own, report=acknowledge
                        )
                    for cursor in cursors_of(frame):
                        self._hidden = cursor.hidden_seq
                        self._mark_read(ReadPosition.of(cursor), report=acknowledge)
        finally:
            self._reading = False

    def _batch(self, batch: MessageBatch, *, include_own: bool, report: bool) -> Iterator[Message]:
        """Yields the messages, and marks each as read when the next one is requested."""
        epoch, self._hidden = batch.cursor.epoch, batch.cursor.hidden_seq
        for message in given(self._calls, batch, include_own=include_own):
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
        **shortened: Any,
    ) -> list[Message]:
        """See ThreadHandle.wait(). `shortened`: as in `follow`."""
        limit = seconds("timeout", timeout)
        min_messages = integer("min_messages", min_messages, most=_MAX_MESSAGES)
        max_messages = integer("max_messages", max_messages, most=_MAX_MESSAGES)
        budget = ByteBudget(max_bytes)
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own, shortened)
            request.MergeFrom(build(WaitMessagesRequest, count_all=count_all))
            least, most = min_messages or math.inf, max_messages or math.inf
            found: list[Message] = []
            #: How many of them count in min_messages, as far as this client can tell: the server
            #: knows to whom a message replies.
            counted = 0
            end = Cursor()
            end.CopyFrom(request.threads[0])
            request.min_messages, request.max_messages = min_messages, max_messages
            request.max_bytes = budget.left

            def enough() -> bool:
                return counted >= least or len(found) >= most or budget.spent

            reading = self._given_frames(request, limit, enough, include_own=include_own)
            async with aclosing(reading) as frames:
                async for frame in frames:
                    if frame.HasField("started") and enough():
                        break  # the stream broke after all messages had arrived
                    if frame.HasField("resync"):
                        lost = cursor_lost(frame.resync)
                        if found and lost is not None:
                            break  # the next wait will get the resync again
                        end = frame.resync.position.cursor
                        if not found:
                            self.position = end
                        if lost is not None:
                            raise lost
                        if not found:  # what was reported was of the epoch before
                            self._mark_read(ReadPosition.of(end), report=acknowledge)
                        continue
                    self.closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    if self.closed and not found:
                        raise ThreadClosed(
                            f"Thread {self._thread!r} is closed, and all of it has been read.",
                            code="FAILED_PRECONDITION",
                            reason="THREAD_CLOSED",
                        )
                    self._heartbeats.update_from_frame(frame)
                    sent = frame.messages.messages
                    fitting = budget.take(sent)
                    new = sent[:fitting]
                    found += new
                    counted += sum(count_all or each.wakes != WAKE_NOBODY for each in new)
                    if frame.ending.reason == WaitEnding.REASON_MAX_WAIT and min_messages == 1:
                        counted = 0  # else the wait would have ended before
                    if fitting < len(sent):
                        if fitting:
                            end = self._cursor_after(sent[fitting - 1], frame)
                        break  # the next wait will return the others
                    end = next(iter(cursors_of(frame)), end)
                    if max_messages and len(found) > max_messages:
                        del found[max_messages:]
                        end = self._cursor_after(found[-1], frame)
                        break  # the next wait will return the others
                    # After a reconnect, the next stream need only deliver what is missing.
                    request.min_messages = max(min_messages - counted, 0)
                    request.max_messages = max(max_messages - len(found), 0)
                    request.max_bytes = budget.left
            quiet = found and min_messages and not counted and len(found) < most
            if quiet and not (self.closed or budget.spent):
                # They do not wake the agent: the next wait will return them with what does.
                before = ReadPosition.at(end.epoch, found[0].seq - 1, end.hidden_seq)
                end, found = before.cursor(self._thread), []
            self._returned_to, self._hidden = ReadPosition.of(end), end.hidden_seq
            if not acknowledge:
                self._mark_returned_read(report=False)
            return found
        finally:
            self._reading = False

    async def _given_frames(
        self,
        request: WaitMessagesRequest,
        limit: float,
        enough: Callable[[], bool],
        *,
        include_own: bool,
    ) -> AsyncGenerator[WaitMessagesResponse]:
        """Yields the frames of wait(), without the messages that are not given; see given().

        The server counts these, too. If a wait ends for that reason and not `enough` was found,
        another one follows.

        Args:
            request: As for wait_frames().
            limit: Seconds in all; NO_LIMIT = no limit.
            enough: Whether what was found ends the wait.
            include_own: As in given().
        """
        loop, end = asyncio.get_running_loop(), Cursor()
        until = loop.time() + limit
        while True:
            left = None if limit == NO_LIMIT else max(until - loop.time(), 0.0)
            hidden, reason = False, WaitEnding.REASON_UNSPECIFIED
            async with aclosing(wait_frames(self._calls, request, timeout=left)) as frames:
                async for frame in frames:
                    sent = frame.messages.messages
                    left_in = list(given(self._calls, frame.messages, include_own=include_own))
                    if len(left_in) < len(sent):
                        hidden = True
                        del sent[:]
                        sent.extend(left_in)
                    end = next(iter(cursors_of(frame)), end)
                    reason = frame.ending.reason
                    yield frame
            if not hidden or reason not in _FULL or enough():
                return
            request.threads[0].CopyFrom(end)

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
            raise RuntimeError(
                f"Another follow() or wait() of this handle of {self._thread!r} is running. "
                "Close it first, or use a second handle."
            )
        self._reading = True
        self.closed = False

    def _cursor_after(self, message: Message, frame: WaitMessagesResponse) -> Cursor:
        """Returns the cursor after a message of a frame."""
        here = frame.messages.cursor
        return ReadPosition.at(here.epoch, message.seq, here.hidden_seq).cursor(self._thread)

    async def _wait_request(
        self, filter: MessageFilter | None, include_own: bool, shortened: Mapping[str, Any]
    ) -> WaitMessagesRequest:
        """Returns a request for the messages after the read position.

        Joins the thread if the position is not known, resumes heartbeats, and marks what the last
        wait() returned as read.
        """
        request = build(WaitMessagesRequest, filter=filter, **shortened)
        filtered = hides(request.filter)
        if not include_own:
            request.filter.exclude_own = True
        if self._position is None:
            join = JoinThreadRequest(thread=self._thread)
            joined = await self._calls.call(self._calls.threads.JoinThread, join)
            checked_join(joined, self._thread)
            self._position = joined_position(joined, self._calls.agent)
        self._heartbeats.resume()
        self._mark_returned_read()
        self._position = self._here()
        request.threads.append(self._position.cursor(self._thread, filtered=filtered))
        self._hidden = request.threads[0].hidden_seq
        return request

    def _mark_returned_read(self, *, report: bool = True) -> None:
        """Mark what the last wait() returned as read."""
        end, self._returned_to = self._returned_to, None
        here = self._here()
        if end is not None and (end.read > here.read or end.passed > here.passed):
            self._mark_read(end, report=report)

    def _mark_read(self, position: ReadPosition, *, report: bool = True) -> None:
        if self._position is not None and self._position.covers(position):
            return  # acknowledge() has moved the position further
        self._read = position
        if report:
            self._heartbeats.report_read(self._thread, position)

    def _here(self) -> ReadPosition:
        """Returns the position; that before the first entry if it is not known."""
        position, read = self._position, self._read
        if position is None or read is None:
            return position or read or ReadPosition("", 0, 0)
        return position.up_to(read)
