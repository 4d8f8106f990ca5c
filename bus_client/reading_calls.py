"""The calls of a BusClient that read several threads in one wait."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Literal, overload

from bus_client.batches import LastingItems
from bus_client.threads_reader import ThreadsReader
from threadbus.v1.bus_service_pb2 import ParticipantUpdate
from threadbus.v1.message_pb2 import Cursor, Message, MessageFilter


class ReadingCalls:
    """The part of BusClient that follows or waits on several threads: named ones, or all."""

    @property
    def _reader(self) -> ThreadsReader:
        raise NotImplementedError

    @overload
    def follow(
        self,
        threads: Iterable[str],
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        until_closed: bool = True,
        include_participants: Literal[False] = False,
    ) -> AsyncGenerator[Message]: ...

    @overload
    def follow(
        self,
        threads: Iterable[str],
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        until_closed: bool = True,
        include_participants: Literal[True],
    ) -> AsyncGenerator[Message | ParticipantUpdate]: ...

    def follow(
        self,
        threads: Iterable[str],
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        until_closed: bool = True,
        include_participants: bool = False,
    ) -> AsyncGenerator[Message | ParticipantUpdate]:
        """Yields the unread messages of several threads, then new ones as they are posted.

        As ThreadHandle.follow(), with one wait for all threads: messages of each thread come in
        order; `message.thread` says which it is. Joins threads in which the agent does not take
        part yet, and starts at their newest message. Ends when all of them are closed.

        Args:
            threads: The names of 1 to 1,000 threads.
            filter, include_own, acknowledge, observe: As in ThreadHandle.follow().
            on_resync: As in ThreadHandle.follow(). After CursorLost, a new follow() continues;
                without `acknowledge`, it needs "continue" to.
            all_notices, omit_attachment_data, max_content_bytes: As in ThreadHandle.follow().
            until_closed: As in ThreadHandle.follow(), when all threads are closed.
            include_participants: As in ThreadHandle.follow(). An update's `thread` says which it is
                about.

        Raises:
            CursorLost: See on_resync.
            ThreadNotFound: A thread does not exist, or was deleted.
            InvalidArgument: An argument is not valid.
        """
        batches = self._reader.follow(
            threads,
            filter=filter,
            include_own=include_own,
            acknowledge=acknowledge,
            observe=observe,
            on_resync=on_resync,
            all_notices=all_notices,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
            until_closed=until_closed,
            include_participants=include_participants,
        )
        return LastingItems(batches)

    def inbox(
        self,
        *,
        addressed: bool = True,
        positions: Iterable[Cursor] = (),
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
    ) -> AsyncGenerator[Message]:
        """Yields what is addressed to the agent in any thread, then what comes, as it is posted.

        That is each message that mentions it, hands off to it, or replies to one of its messages,
        in all threads in which it participates, or comes to participate: a mention makes it one.
        One wait serves any number of threads. It goes on when threads are closed, deleted or left,
        and ends when the agent's session is ended. Otherwise as ThreadHandle.follow().

        Args:
            addressed: False = all messages of these threads.
            positions: Where to start, in at most 1,000 of the threads. The others start where the
                agent stopped reading.
            include_own, acknowledge, observe: As in ThreadHandle.follow().
            on_resync: As in ThreadHandle.follow(). After CursorLost, a new inbox() continues;
                without `acknowledge`, it needs "continue" to, or the error's `position` in
                `positions`.
            all_notices, omit_attachment_data, max_content_bytes: As in ThreadHandle.follow().

        Raises:
            CursorLost: See on_resync.
            InvalidArgument: The client is anonymous, or an argument is not valid.
        """
        batches = self._reader.inbox(
            addressed=addressed,
            positions=positions,
            include_own=include_own,
            acknowledge=acknowledge,
            observe=observe,
            on_resync=on_resync,
            all_notices=all_notices,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
        )
        return LastingItems(batches)

    async def wait(
        self,
        threads: Iterable[str] | None = None,
        *,
        timeout: float,
        min_messages: int = 1,
        max_messages: int = 0,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        max_bytes: int = 0,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        count_all: bool = False,
    ) -> list[Message]:
        """Returns the unread messages of several threads, or those posted within `timeout`.

        As ThreadHandle.wait(), with one wait for all threads: messages of each thread are in order;
        `message.thread` says which it is. The messages count as read when wait() or acknowledge()
        of this client is called next.

        Args:
            threads: The names of 1 to 1,000 threads, which are joined if needed, as by follow().
                None = all in which the agent participates or comes to participate, as in inbox().
                With the filter `MessageFilter(addressed_to_me=True)`, that is its inbox.
            timeout: Seconds to wait. 0 = return what is there; infinity = no limit. Reporting what
                was read before, and joining threads, has the client's timeout instead.
            min_messages, max_messages, max_bytes: As in ThreadHandle.wait(), over all threads.
            filter, include_own, omit_attachment_data, max_content_bytes, count_all: As in
                ThreadHandle.wait().
            acknowledge: False = the messages stay unread, and the next wait() returns them again.
            observe: As in ThreadHandle.follow(). The messages stay unread, also those that the last
                wait() returned.
            on_resync: As in ThreadHandle.follow().

        Raises:
            ThreadClosed: All `threads` are closed or archived, and have no messages left to return.
            CursorLost: See on_resync. The next wait() goes on; without `acknowledge`, it needs
                "continue" to.
            ThreadNotFound: One of `threads` does not exist, or was deleted.
            InvalidArgument: The client is anonymous, or an argument is not valid.
            Unreachable, BusError: As in ThreadHandle.wait().
            RuntimeError: Another wait() of this client is running.
        """
        return await self._reader.wait(
            threads,
            timeout=timeout,
            min_messages=min_messages,
            max_messages=max_messages,
            filter=filter,
            include_own=include_own,
            acknowledge=acknowledge,
            observe=observe,
            on_resync=on_resync,
            count_all=count_all,
            max_bytes=max_bytes,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
        )

    def unread(self) -> None:
        """Take back what the last wait() returned, if it is not read yet: it is returned again."""
        self._reader.unread()

    async def acknowledge(self) -> None:
        """Mark what the last wait() returned as read, and report it now.

        Raises:
            BusError: The report failed. It is repeated later.
        """
        await self._reader.acknowledge()
