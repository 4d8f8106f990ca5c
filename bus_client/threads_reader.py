"""Reads several threads in one wait: those that are named, or all of the agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, suppress
from typing import Any, Literal

from bus_client.calls import Calls
from bus_client.channel import refuse_fork
from bus_client.errors import BusError, CursorLost, ThreadClosed
from bus_client.heartbeats import Heartbeats
from bus_client.identity import ANONYMOUS
from bus_client.long_poll import LongPoll
from bus_client.read_position import ReadPosition
from bus_client.requests import build, choice, refuse, text
from bus_client.responses import checked_join, hides, joined_position
from bus_client.stream import COMPACTED, cursor_lost, cursors_of, given, wait_frames
from bus_client.traces import received
from threadbus.limits import MAX_WAIT_THREADS
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    ParticipantUpdate,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest


class ThreadsReader:
    """The reader behind the methods of BusClient of the same names, which document them."""

    def __init__(self, calls: Calls, heartbeats: Heartbeats) -> None:
        self._calls = calls
        self._heartbeats = heartbeats
        #: By thread: the position after the messages that wait() returned, until they are marked
        #: as read.
        self._returned_to: dict[str, ReadPosition] = {}
        self._waiting = False

    async def follow(
        self,
        threads: Iterable[str],
        *,
        filter: MessageFilter | None,
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
        until_closed: bool,
        all_notices: bool,
        **fields: Any,
    ) -> AsyncGenerator[Iterator[Message | ParticipantUpdate]]:
        """Yields the items of BusClient.follow(), in batches as they arrive.

        Each message counts as read when the next one of its batch is requested, which any thread
        may do. Request the next batch after the end of the one before.

        `fields`: include_participants, observe, omit_attachment_data and max_content_bytes.
        """
        request = build(WaitMessagesRequest, filter=filter, **fields)
        acknowledge = acknowledge and not request.observe
        request.threads.extend(await self._positions(threads, filtered=hides(request.filter)))
        reading = self._frames(
            request,
            include_own=include_own,
            acknowledge=acknowledge,
            on_resync=on_resync,
            until_closed=until_closed,
        )
        async with aclosing(reading) as frames:
            async for frame in frames:
                if frame.HasField("messages"):
                    yield self._batch(
                        frame.messages,
                        include_own=include_own,
                        report=acknowledge,
                        all_notices=all_notices,
                    )
                elif request.include_participants and frame.HasField("participants"):
                    yield iter([frame.participants])

    async def inbox(
        self,
        *,
        addressed: bool,
        positions: Iterable[Cursor],
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
        all_notices: bool,
        **fields: Any,
    ) -> AsyncGenerator[Iterator[Message]]:
        """Yields the messages of BusClient.inbox(), in batches as follow() does."""
        request = build(WaitMessagesRequest, threads=positions, all_my_threads=True, **fields)
        acknowledge = acknowledge and not request.observe
        if not request.observe:
            self._heartbeats.resume()
            await self._heartbeats.flush()  # it starts where the server knows that it was read
        request.filter.addressed_to_me = addressed
        reading = self._frames(
            request, include_own=include_own, acknowledge=acknowledge, on_resync=on_resync
        )
        async with aclosing(reading) as frames:
            async for frame in frames:
                if frame.HasField("messages"):
                    yield self._batch(
                        frame.messages,
                        include_own=include_own,
                        report=acknowledge,
                        all_notices=all_notices,
                    )

    async def wait(
        self,
        threads: Iterable[str] | None,
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
        """See BusClient.wait().

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
        request = build(WaitMessagesRequest, filter=filter, **fields)
        filtered = hides(request.filter)
        if not include_own:
            request.filter.exclude_own = True
        if self._calls.agent == ANONYMOUS:
            refuse("agent", "must be set: the server keeps no read positions of anonymous clients")
        if self._waiting:
            raise RuntimeError("Another wait() of this client is running.")
        self._waiting = True
        try:
            if not request.observe:
                await self.acknowledge()  # it starts where the server knows that it was read
            if threads is None:
                request.all_my_threads = True
            else:
                request.threads.extend(await self._positions(threads, filtered=filtered))
            acknowledge = acknowledge and not request.observe
            try:
                await poll.run(self._calls, self._heartbeats, request)
            except CursorLost as lost:
                if acknowledge:
                    self._report_resync(lost.position, lost)
                    await self._send_reports()
                raise
        finally:
            self._waiting = False
        if poll.closed and not poll.found:
            raise ThreadClosed(
                "All of the threads are closed, and everything in them has been read.",
                code="FAILED_PRECONDITION",
                reason="THREAD_CLOSED",
            )
        if acknowledge:
            self._returned_to = {thread: ReadPosition.of(end) for thread, end in poll.ends.items()}
        if poll.found:
            received(self._calls.agent, *poll.found)
        return poll.found

    def unread(self) -> None:
        """See BusClient.unread()."""
        self._returned_to.clear()

    async def acknowledge(self) -> None:
        """See BusClient.acknowledge()."""
        self._heartbeats.resume()
        while self._returned_to:
            self._heartbeats.report(*self._returned_to.popitem())
        await self._heartbeats.flush()

    async def _frames(
        self,
        request: WaitMessagesRequest,
        *,
        include_own: bool,
        acknowledge: bool,
        on_resync: Literal["raise", "continue"],
        until_closed: bool = True,
    ) -> AsyncGenerator[WaitMessagesResponse]:
        """Yields the frames of the wait but resyncs.

        With `acknowledge`, everything up to the cursors of a frame is reported as read when the
        next frame is requested.
        """
        choice("on_resync", on_resync, ("raise", "continue"))
        if not include_own:
            request.filter.exclude_own = True
        if not request.observe:
            self._heartbeats.resume()
        async with aclosing(wait_frames(self._calls, request, until_closed=until_closed)) as frames:
            async for frame in frames:
                if frame.HasField("resync"):
                    lost = cursor_lost(frame.resync)
                    if acknowledge:
                        self._report_resync(frame.resync.position.cursor, lost)
                    if lost is not None and on_resync == "raise":
                        await self._send_reports()
                        raise lost
                    continue
                if not request.observe:
                    self._heartbeats.update_from_frame(frame)
                yield frame
                if acknowledge:
                    for cursor in cursors_of(frame):
                        self._heartbeats.report_read(cursor.thread, ReadPosition.of(cursor))

    def _report_resync(self, here: Cursor, lost: CursorLost | None) -> None:
        """Report the position of a resync, if nothing is left to read before it.

        That is, of the epoch before, or of what is not kept any more. `lost`: what cursor_lost()
        returns for it.
        """
        if lost is None or lost.reason == COMPACTED:
            self._heartbeats.report_read(here.thread, ReadPosition.of(here))

    async def _send_reports(self) -> None:
        """Send what was reported: the next call starts where the server knows that it was read."""
        with suppress(BusError):
            await self._heartbeats.flush()

    def _batch(
        self,
        batch: MessageBatch,
        *,
        include_own: bool,
        report: bool,
        all_notices: bool = False,
    ) -> Iterator[Message]:
        """Yields the messages, and marks each as read when the next one is requested."""
        thread, epoch, hidden = batch.cursor.thread, batch.cursor.epoch, batch.cursor.hidden_seq
        for message in given(self._calls, batch, include_own=include_own, all_notices=all_notices):
            received(self._calls.agent, message)
            yield message
            refuse_fork()  # the rest of the batch is the parent's
            if report:
                position = ReadPosition.at(epoch, message.seq, hidden)
                self._heartbeats.report_read(thread, position)

    async def _positions(self, threads: Iterable[str], *, filtered: bool) -> list[Cursor]:
        """Join threads, and return the positions where the agent continues reading."""
        if isinstance(threads, str | bytes):
            refuse("threads", "must be several names, not a single one")
        wanted = list(dict.fromkeys(text("threads", thread) for thread in threads))
        if not 1 <= len(wanted) <= MAX_WAIT_THREADS:
            refuse("threads", f"must be 1 to {MAX_WAIT_THREADS:,} names, not {len(wanted):,}")
        found = []
        for thread in wanted:
            join = build(JoinThreadRequest, thread=thread)
            joined = await self._calls.call(self._calls.threads.JoinThread, join)
            position = joined_position(checked_join(joined, thread), self._calls.agent)
            found.append(position.cursor(thread, filtered=filtered))
        return found
