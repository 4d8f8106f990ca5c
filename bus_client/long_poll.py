"""The messages of one finite wait, and where its threads continue after them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from bus_client.byte_budget import ByteBudget
from bus_client.calls import Calls
from bus_client.errors import CursorLost
from bus_client.heartbeats import Heartbeats
from bus_client.read_position import ReadPosition
from bus_client.requests import NO_LIMIT, build, choice, integer, seconds
from bus_client.stream import cursor_lost, cursors_of, given, wait_frames
from threadbus.limits import MAX_WAIT_THREADS
from threadbus.v1.bus_service_pb2 import WaitEnding, WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import WAKE_NOBODY, Cursor, Message

_MAX_MESSAGES = 2**31 - 1  # the largest min_messages or max_messages of a request
#: The ends of a wait that has delivered all that it was asked for.
_FULL = {
    WaitEnding.REASON_MIN_MESSAGES,
    WaitEnding.REASON_MAX_MESSAGES,
    WaitEnding.REASON_MAX_BYTES,
}


class LongPoll:
    """The messages of one ThreadHandle.wait() or BusClient.wait(), over all its streams.

    Attributes:
        found: The messages.
        ends: By thread: the cursor after its messages, if the server has sent any cursor of it.
        resynced: The resyncs that came before the first message, and after which the wait went on:
            the position of each, and what cursor_lost() returns for it.
        closed: Whether the wait ended because all of its threads are closed or archived.
    """

    def __init__(
        self,
        *,
        timeout: float,
        min_messages: int,
        max_messages: int,
        max_bytes: int,
        count_all: bool,
        include_own: bool,
        on_resync: Literal["raise", "continue"],
    ) -> None:
        """The arguments are those of wait(). Raises InvalidArgument if one is not valid."""
        choice("on_resync", on_resync, ("raise", "continue"))
        self._on_resync = on_resync
        self._timeout = seconds("timeout", timeout)
        self._least = integer("min_messages", min_messages, most=_MAX_MESSAGES)
        self._most = integer("max_messages", max_messages, most=_MAX_MESSAGES)
        self._budget = ByteBudget(max_bytes)
        self._include_own = include_own
        self._count_all = build(WaitMessagesRequest, count_all=count_all).count_all
        #: How many of the messages count in min_messages, as far as this client can tell: the
        #: server knows to whom a message replies.
        self._counted = 0
        self.found: list[Message] = []
        self.ends: dict[str, Cursor] = {}
        self.resynced: list[tuple[Cursor, CursorLost | None]] = []
        self.closed = False

    async def run(self, calls: Calls, heartbeats: Heartbeats, request: WaitMessagesRequest) -> None:
        """Wait, and set the attributes. `request` is changed, as by wait_frames().

        Raises:
            CursorLost: A position is not in its thread's history, no message had come, and
                `on_resync` is "raise".
            BusError: As wait_frames().
        """
        request.count_all = self._count_all
        self._set_limits(request)
        async with aclosing(self._given_frames(calls, request)) as frames:
            async for frame in frames:
                if frame.HasField("started") and self._is_enough():
                    break  # the stream broke after all messages had arrived
                if frame.HasField("resync"):
                    lost, here = cursor_lost(frame.resync), frame.resync.position.cursor
                    if lost is not None and self.found:
                        break  # the next wait will get the resync again
                    if lost is not None and self._on_resync == "raise":
                        raise lost
                    self.ends[here.thread] = here
                    if not self.found:
                        self.resynced.append((here, lost))
                    continue
                self.closed = frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED
                if not request.observe:
                    heartbeats.update_from_frame(frame)
                if frame.HasField("thread_removed"):
                    self.ends.pop(frame.thread_removed.thread, None)
                if not self._take(frame):
                    break  # the next wait will return the others
                # After a reconnect, the next stream need only deliver what is missing.
                self._set_limits(request)
        self._leave_quiet_messages()

    async def _given_frames(
        self, calls: Calls, request: WaitMessagesRequest
    ) -> AsyncGenerator[WaitMessagesResponse]:
        """Yields the frames of the wait, without the messages that are not given; see given().

        The server counts these, too. If a stream ends for that reason and not enough was found,
        another one follows.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout
        while True:
            left = None if self._timeout == NO_LIMIT else max(until - loop.time(), 0.0)
            hidden, reason = False, WaitEnding.REASON_UNSPECIFIED
            async with aclosing(wait_frames(calls, request, timeout=left)) as frames:
                async for frame in frames:
                    sent = frame.messages.messages
                    left_in = list(given(calls, frame.messages, include_own=self._include_own))
                    if len(left_in) < len(sent):
                        hidden = True
                        del sent[:]
                        sent.extend(left_in)
                    reason = frame.ending.reason
                    yield frame
            if not hidden or reason not in _FULL or self._is_enough():
                return
            continued = {cursor.thread: cursor for cursor in request.threads} | self.ends
            latest = list(continued.values())[-MAX_WAIT_THREADS:]
            del request.threads[:]
            request.threads.extend(latest)

    def _is_enough(self) -> bool:
        return (
            self._counted >= (self._least or math.inf)
            or len(self.found) >= (self._most or math.inf)
            or self._budget.spent
        )

    def _set_limits(self, request: WaitMessagesRequest) -> None:
        request.min_messages = max(self._least - self._counted, 0)
        request.max_messages = max(self._most - len(self.found), 0)
        request.max_bytes = self._budget.left

    def _take(self, frame: WaitMessagesResponse) -> bool:
        """Add the messages of a frame, and move the ends. Returns False if not all were taken."""
        sent = frame.messages.messages
        fitting = self._budget.take(sent)
        new = sent[:fitting]
        self.found += new
        self._counted += sum(self._count_all or each.wakes != WAKE_NOBODY for each in new)
        if frame.ending.reason == WaitEnding.REASON_MAX_WAIT and self._least == 1:
            self._counted = 0  # else the wait would have ended before
        if fitting < len(sent):
            if fitting:
                self._end_after(sent[fitting - 1], frame)
            return False
        for cursor in cursors_of(frame):
            self.ends[cursor.thread] = cursor
        if self._most and len(self.found) > self._most:
            del self.found[self._most :]
            self._end_after(self.found[-1], frame)
            return False
        return True

    def _end_after(self, message: Message, frame: WaitMessagesResponse) -> None:
        here = frame.messages.cursor
        position = ReadPosition.at(here.epoch, message.seq, here.hidden_seq)
        self.ends[here.thread] = position.cursor(here.thread)

    def _leave_quiet_messages(self) -> None:
        """Leave messages that do not wake the agent to the next wait, unless this one is full."""
        full = self._most and len(self.found) >= self._most
        if not self.found or not self._least or self._counted or full:
            return
        if self.closed or self._budget.spent:
            return
        for message in reversed(self.found):
            end = self.ends.get(message.thread)
            if end is not None:
                before = ReadPosition.at(end.epoch, message.seq - 1, end.hidden_seq)
                self.ends[message.thread] = before.cursor(message.thread)
        self.found = []
