"""The read position of one thread handle, and the waits that move it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Literal

from bus_client.calls import Calls
from bus_client.channel import refuse_fork
from bus_client.errors import ThreadClosed
from bus_client.heartbeats import Heartbeats
from bus_client.requests import NO_LIMIT, build, choice, integer, refuse, seconds
from bus_client.responses import checked_join
from bus_client.stream import cursor_lost, cursor_of, known_kinds, wait_frames
from threadbus.v1.bus_service_pb2 import MessageBatch, WaitEnding, WaitMessagesRequest
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

_MAX_MESSAGES = 2**31 - 1  # the largest min_messages or max_messages of a request


class Reader:
    """The reader behind a ThreadHandle, which documents the methods of the same names.

    With `position` None, the position is not known: the first wait joins the thread to learn it.

    Attributes:
        closed: See ThreadHandle.closed.
    """

    def __init__(
        self, thread: str, calls: Calls, heartbeats: Heartbeats, position: Cursor | None
    ) -> None:
        self._thread = thread
        self._calls = calls
        self._heartbeats = heartbeats
        #: Epoch and seq; None if not known. To make a Cursor for each message takes 1 µs.
        self._position = None if position is None else (position.epoch, position.after_seq)
        #: As _position, of the last message that was marked as read since _position was set. Apart,
        #: and not guarded by a lock, as another thread may mark messages, which may be interrupted
        #: by a signal handler that calls acknowledge().
        self._read: tuple[str, int] | None = None
        #: The cursor after the messages that wait() returned; None once they are marked as read.
        self._returned_to: Cursor | None = None
        self._reading = False
        self.closed = False

    @property
    def position(self) -> Cursor:
        """See ThreadHandle.position."""
        epoch, seq = self._here() or ("", 0)
        return Cursor(thread=self._thread, after_seq=seq, epoch=epoch)

    @position.setter
    def position(self, cursor: Cursor) -> None:
        position = build(WaitMessagesRequest, threads=[cursor]).threads[0]
        if position.thread != self._thread:
            refuse("position.thread", f"must be {self._thread!r}, not {position.thread!r}")
        self._read = None
        self._position = position.epoch, position.after_seq
        self._returned_to = None

    async def follow(
        self,
        *,
        filter: MessageFilter | None,
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
    ) -> AsyncGenerator[Iterator[Message]]:
        """Yields the messages of ThreadHandle.follow(), in batches as they arrive.

        Each message counts as read when the next one of its batch is requested, which any thread
        may do. Request the next batch after the end of the one before.
        """
        choice("on_resync", on_resync, ("raise", "continue"))
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own=include_own)
            async with aclosing(wait_frames(self._calls, request)) as frames:
                async for frame in frames:
                    if frame.HasField("resync"):
                        self.position = here = frame.resync.position.cursor
                        lost = cursor_lost(frame.resync)
                        if lost is None:  # what was reported was of the epoch before
                            self._mark_read(here.epoch, here.after_seq, report=acknowledge)
                        elif on_resync == "raise":
                            raise lost
                        continue
                    self._heartbeats.update_from_frame(frame)
                    self.closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    if frame.HasField("messages"):
                        yield self._batch(frame.messages, report=acknowledge)
                    cursor = cursor_of(frame)
                    if cursor is not None:
                        self._mark_read(cursor.epoch, cursor.after_seq, report=acknowledge)
        finally:
            self._reading = False

    def _batch(self, batch: MessageBatch, *, report: bool) -> Iterator[Message]:
        """Yields the messages, and marks each as read when the next one is requested."""
        epoch = batch.cursor.epoch
        for message in known_kinds(batch.messages):
            yield message
            refuse_fork()  # the rest of the batch is the parent's
            self._mark_read(epoch, message.seq, report=report)

    async def wait(
        self,
        *,
        timeout: float,
        min_messages: int,
        max_messages: int,
        filter: MessageFilter | None,
        include_own: bool,
    ) -> list[Message]:
        """See ThreadHandle.wait()."""
        limit = seconds("timeout", timeout)
        min_messages = integer("min_messages", min_messages, most=_MAX_MESSAGES)
        max_messages = integer("max_messages", max_messages, most=_MAX_MESSAGES)
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own=include_own)
            enough = min((n for n in (min_messages, max_messages) if n), default=math.inf)
            found: list[Message] = []
            end = self.position
            request.min_messages, request.max_messages = min_messages, max_messages
            left = None if limit == NO_LIMIT else limit
            async with aclosing(wait_frames(self._calls, request, timeout=left)) as frames:
                async for frame in frames:
                    if frame.HasField("started") and len(found) >= enough:
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
                            self._mark_read(end.epoch, end.after_seq)
                        continue
                    self.closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                    if self.closed and not found:
                        raise ThreadClosed(
                            f"Thread {self._thread!r} is closed, and all of it has been read.",
                            code="FAILED_PRECONDITION",
                            reason="THREAD_CLOSED",
                        )
                    self._heartbeats.update_from_frame(frame)
                    found += known_kinds(frame.messages.messages)
                    end = cursor_of(frame) or end
                    if max_messages and len(found) > max_messages:
                        del found[max_messages:]
                        end = Cursor(thread=self._thread, after_seq=found[-1].seq, epoch=end.epoch)
                        break  # the next wait will return the others
                    # After a reconnect, the next stream need only deliver what is missing.
                    request.min_messages = max(min_messages - len(found), 0)
                    request.max_messages = max(max_messages - len(found), 0)
            self._returned_to = end
            return found
        finally:
            self._reading = False

    async def acknowledge(self, seq: int | None) -> None:
        """See ThreadHandle.acknowledge()."""
        if seq is None:
            self._mark_returned_read()
        else:
            seq = integer("seq", seq)
            epoch, here = self._here() or ("", 0)
            if seq > here:
                self._position = epoch, seq
        position = self._here()
        if position is not None:
            self._heartbeats.resume()
            self._heartbeats.report(self._thread, *position)
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

    async def _wait_request(
        self, filter: MessageFilter | None, *, include_own: bool
    ) -> WaitMessagesRequest:
        """Returns a request for the messages after the read position.

        Joins the thread if the position is not known, resumes heartbeats, and marks what the last
        wait() returned as read.
        """
        request = build(WaitMessagesRequest, filter=filter)
        if not include_own:
            request.filter.exclude_own = True
        if self._position is None:
            join = JoinThreadRequest(thread=self._thread)
            joined = await self._calls.call(self._calls.threads.JoinThread, join)
            cursor = checked_join(joined, self._thread).cursor
            self._position = cursor.epoch, cursor.after_seq
        self._heartbeats.resume()
        self._mark_returned_read()
        request.threads.append(self.position)
        return request

    def _mark_returned_read(self) -> None:
        """Mark what the last wait() returned as read."""
        end, self._returned_to = self._returned_to, None
        if end is not None and end.after_seq > self.position.after_seq:
            self._mark_read(end.epoch, end.after_seq)

    def _mark_read(self, epoch: str, seq: int, *, report: bool = True) -> None:
        here = self._position or ("", 0)
        if epoch == here[0] and seq < here[1]:
            return  # acknowledge() has moved the position further
        self._read = epoch, seq
        if report:
            self._heartbeats.report_read(self._thread, epoch, seq)

    def _here(self) -> tuple[str, int] | None:
        """Returns the epoch and seq of the position; None if it is not known."""
        position, read = self._position, self._read
        if position is None or read is None:
            return position or read
        return max(position, read) if position[0] == read[0] else read
