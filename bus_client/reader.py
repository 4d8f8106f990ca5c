"""How far an agent has read a thread, and how it gets what comes after."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from bus_client.calls import Calls
from bus_client.errors import ThreadClosed
from bus_client.heartbeats import Heartbeats
from bus_client.requests import NO_LIMIT, build, choice, refuse, seconds, whole
from bus_client.responses import checked_join
from bus_client.stream import cursor_lost, cursor_of, known, wait_frames
from threadbus.v1.bus_service_pb2 import (
    WaitEnding,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter
from threadbus.v1.thread_service_pb2 import JoinThreadRequest

_MOST = 2**31 - 1  # messages of one wait


class Reader:
    """The reading half of a ThreadHandle.

    Attributes:
        name: The thread's name.
    """

    def __init__(
        self, name: str, calls: Calls, heartbeats: Heartbeats, position: Cursor | None
    ) -> None:
        self.name = name
        self._calls = calls
        self._heartbeats = heartbeats
        self._position = position
        self._waited: Cursor | None = None  # the end of what the last wait() returned
        self._reading = False

    @property
    def position(self) -> Cursor:
        """The read position: everything up to it counts as read, and is reported to the server.

        Set it to read from elsewhere; `Cursor(thread=…, after_seq=0)` is the beginning, and
        InvalidArgument is raised for one of another thread. Without joining it is unknown, and
        looks so, until the first follow() or wait() asks the server.
        """
        return self._position or Cursor(thread=self.name)

    @position.setter
    def position(self, cursor: Cursor) -> None:
        position = build(WaitMessagesRequest, threads=[cursor]).threads[0]
        if position.thread != self.name:
            refuse("position.thread", f"must be {self.name!r}, not {position.thread!r}")
        self._position = position
        self._waited = None

    async def follow(
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
        choice("on_resync", on_resync, ("raise", "continue"))
        await self._begin_reading()
        try:
            request = await self._wait_request(filter, include_own=include_own)
            async with aclosing(wait_frames(self._calls, request)) as frames:
                async for frame in frames:
                    if frame.HasField("resync"):
                        self.position = frame.resync.position.cursor
                        if on_resync == "raise":
                            raise cursor_lost(frame.resync)
                        continue
                    self._mind(frame)
                    for message in known(frame.messages.messages):
                        yield message
                        epoch = frame.messages.cursor.epoch
                        read = Cursor(thread=self.name, after_seq=message.seq, epoch=epoch)
                        self._read_to(read, report=acknowledge)
                    cursor = cursor_of(frame)
                    if cursor is not None:
                        self._read_to(cursor, report=acknowledge)
        finally:
            self._reading = False

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
        limit = seconds("timeout", timeout)
        min_messages = whole("min_messages", min_messages, most=_MOST)
        max_messages = whole("max_messages", max_messages, most=_MOST)
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
                        break  # all had come when the connection broke
                    if frame.HasField("resync"):
                        if found:
                            break  # the next wait meets it again
                        self.position = frame.resync.position.cursor
                        raise cursor_lost(frame.resync)
                    if frame.ending.reason == WaitEnding.REASON_THREADS_CLOSED and not found:
                        raise ThreadClosed(
                            f"Thread {self.name!r} is closed, and nothing of it is left to read.",
                            code="FAILED_PRECONDITION",
                            reason="THREAD_CLOSED",
                        )
                    self._mind(frame)
                    found += known(frame.messages.messages)
                    end = cursor_of(frame) or end
                    if max_messages and len(found) > max_messages:
                        del found[max_messages:]
                        end = Cursor(thread=self.name, after_seq=found[-1].seq, epoch=end.epoch)
                        break  # the next wait has the others
                    # What a reconnect has yet to ask for.
                    request.min_messages = max(min_messages - len(found), 0)
                    request.max_messages = max(max_messages - len(found), 0)
            self._waited = end
            return found
        finally:
            self._reading = False

    async def acknowledge(self, seq: int | None = None) -> None:
        """Reports the read position now, instead of within about a second.

        Args:
            seq: Count everything up to it as read, first. None = what the last wait() returned.

        Does nothing for an anonymous client, whose position is kept nowhere.
        """
        if seq is None:
            self._settle()
        elif whole("seq", seq) > self.position.after_seq:
            self._position = Cursor(thread=self.name, after_seq=seq, epoch=self.position.epoch)
        if self._position is not None:
            self._heartbeats.resume()
            self._heartbeats.report(self._position)
            await self._heartbeats.send()

    async def _begin_reading(self) -> None:
        for _ in range(5):
            if not self._reading:
                break
            # A follow() left with `break` is closed in one of the event loop's next turns.
            await asyncio.sleep(0)
        if self._reading:
            raise RuntimeError(
                f"Another follow() or wait() of this handle of {self.name!r} is running. "
                "Close it first, or use a second handle."
            )
        self._reading = True

    async def _wait_request(
        self,
        filter: MessageFilter | None,
        *,
        include_own: bool,
    ) -> WaitMessagesRequest:
        request = build(WaitMessagesRequest, filter=filter)
        if not include_own:
            request.filter.exclude_own = True
        if self._position is None:
            join = JoinThreadRequest(thread=self.name)
            joined = await self._calls.call(self._calls.threads.JoinThread, join)
            self._position = checked_join(joined, self.name).cursor
        self._heartbeats.resume()
        self._settle()
        request.threads.append(self._position)
        return request

    def _mind(self, frame: WaitMessagesResponse) -> None:
        """Has the heartbeats fit what the server takes the agent for after `frame`."""
        if frame.HasField("messages"):
            self._heartbeats.delivered()
        elif frame.ending.reason == WaitEnding.REASON_SESSION_ENDED:
            self._heartbeats.rest()

    def _settle(self) -> None:
        """Counts what the last wait() returned as read."""
        if self._waited is not None and self._waited.after_seq > self.position.after_seq:
            self._read_to(self._waited)
        self._waited = None

    def _read_to(self, cursor: Cursor, *, report: bool = True) -> None:
        here = self.position
        if cursor.epoch == here.epoch and cursor.after_seq < here.after_seq:
            return  # acknowledged further than this before
        self._position = cursor
        if report:
            self._heartbeats.report(cursor)
