"""ThreadHandle for programs without asyncio."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Literal

from bus_client.errors import BusError
from bus_client.post import Post, several
from bus_client.sync.background import apart, iterate, run
from bus_client.thread import ThreadHandle as AsyncThreadHandle
from threadbus.v1 import bus_service_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.message_pb2 import (
    PRIORITY_UNSPECIFIED,
    Attachment,
    Cursor,
    Message,
    MessageFilter,
    Priority,
)
from threadbus.v1.thread_pb2 import SyncMode, Thread, ThreadState


class ThreadHandle:
    """A thread, and how far this agent has read it. Made by BusClient.join() and .thread().

    Its methods and what they raise are those of bus_client.ThreadHandle, where they are described;
    bus_client.sync tells what it means that they block.
    """

    def __init__(self, thread: AsyncThreadHandle) -> None:
        self._thread = thread

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._thread.name

    @property
    def created(self) -> bool:
        """Joining created it."""
        return self._thread.created

    @property
    def similar(self) -> list[str]:
        """If so, threads whose names differ from its name only by case."""
        return self._thread.similar

    @property
    def context(self) -> list[Message]:
        """The messages before the read position that join() was asked for, ascending."""
        return self._thread.context

    @property
    def participants(self) -> list[Participant]:
        """Who took part when join() was called, the caller included; at most 100."""
        return self._thread.participants

    @property
    def info(self) -> Thread:
        """The thread as it was at joining, or at the last refresh(), update() or set_state();
        without joining only its name.
        """
        return self._thread.info

    @property
    def position(self) -> Cursor:
        """The read position: everything up to it counts as read, and is reported to the server.

        See bus_client.ThreadHandle.position.
        """
        return self._thread.position

    @position.setter
    def position(self, cursor: Cursor) -> None:
        async def set_position() -> None:
            self._thread.position = cursor

        run(set_position)  # in the loop: a wait may begin there at this moment

    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        on_resync: Literal["raise", "continue"] = "raise",
    ) -> Generator[Message]:
        """What was not read yet, then what is posted, as it is posted.

        It is closed at once when nobody holds it any more, as when a `for` loop over it is left. If
        it is held elsewhere too, close() it before the next follow() or wait().

        See bus_client.ThreadHandle.follow.
        """
        return iterate(
            self._thread.follow,
            filter=filter,
            include_own=include_own,
            acknowledge=acknowledge,
            on_resync=on_resync,
        )

    def wait(
        self,
        *,
        timeout: float,
        min_messages: int = 1,
        max_messages: int = 0,
        filter: MessageFilter | None = None,
        include_own: bool = False,
    ) -> list[Message]:
        """What was not read yet, else what is posted within `timeout`; empty if nothing was.

        See bus_client.ThreadHandle.wait.
        """
        return run(
            self._thread.wait,
            timeout=timeout,
            min_messages=min_messages,
            max_messages=max_messages,
            filter=filter,
            include_own=include_own,
        )

    def acknowledge(self, seq: int | None = None) -> None:
        """Reports the read position now, instead of within about a second.

        See bus_client.ThreadHandle.acknowledge.
        """
        run(self._thread.acknowledge, seq)

    def post(
        self,
        content: str = "",
        *,
        mentions: Iterable[str] = (),
        reply_to: int = 0,
        edit_of: int = 0,
        handoff_to: str = "",
        priority: Priority.ValueType = PRIORITY_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        attachments: Iterable[Attachment] = (),
        expected_last_seq: int | None = None,
        based_on_seq: int | None = None,
        on_behalf_of: str = "",
        include_recipients: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> bus_service_pb2.PostMessageResponse:
        """Posts a message; returns once it is durable.

        See bus_client.ThreadHandle.post.
        """
        return run(
            self._thread.post,
            content,
            mentions=mentions,
            reply_to=reply_to,
            edit_of=edit_of,
            handoff_to=handoff_to,
            priority=priority,
            labels=labels,
            attachments=attachments,
            expected_last_seq=expected_last_seq,
            based_on_seq=based_on_seq,
            on_behalf_of=on_behalf_of,
            include_recipients=include_recipients,
            request_id=request_id,
            timeout=timeout,
        )

    def post_many(
        self, posts: Iterable[str | Post], *, timeout: float = 30.0
    ) -> Generator[bus_service_pb2.PostMessageResponse | BusError]:
        """Posts many messages through one stream: the fast road.

        `posts` is read in a thread of its own.

        See bus_client.ThreadHandle.post_many.
        """
        return iterate(self._thread.post_many, apart(several(posts)), timeout=timeout)

    def messages(
        self,
        *,
        after_seq: int = 0,
        before_seq: int = 0,
        limit: int = 100,
        newest: bool = False,
        filter: MessageFilter | None = None,
    ) -> list[Message]:
        """Messages with after_seq < seq < before_seq, ascending. Moves no read position.

        See bus_client.ThreadHandle.messages.
        """
        return run(
            self._thread.messages,
            after_seq=after_seq,
            before_seq=before_seq,
            limit=limit,
            newest=newest,
            filter=filter,
        )

    def message(self, seq: int) -> Message:
        """The message at `seq`, from 1. MessageNotFound if there is none, or not any more."""
        return run(self._thread.message, seq)

    def refresh(self) -> Thread:
        """The thread as it is now; `info` from then on."""
        return run(self._thread.refresh)

    def update(
        self,
        *,
        topic: str | None = None,
        stage: str | None = None,
        labels: Mapping[str, str] | None = None,
        sync_mode: SyncMode.ValueType | None = None,
    ) -> Thread:
        """Changes the thread's settings; who follows it learns that. None = as before.

        See bus_client.ThreadHandle.update.
        """
        return run(
            self._thread.update, topic=topic, stage=stage, labels=labels, sync_mode=sync_mode
        )

    def set_state(self, state: ThreadState.ValueType) -> Thread:
        """Opens, closes or archives the thread. OutcomeUnknown if the answer was lost."""
        return run(self._thread.set_state, state)

    def delete(self) -> None:
        """Deletes the thread and all it holds. OutcomeUnknown if the answer was lost."""
        run(self._thread.delete)

    def leave(self) -> None:
        """Takes part no more: the server forgets what the agent has read; what it wrote stays.

        See bus_client.ThreadHandle.leave.
        """
        run(self._thread.leave)

    def list_participants(self) -> Iterator[Participant]:
        """Who takes part, by name, and what each was handed and has read."""
        return iterate(self._thread.list_participants)

    def watch_participants(self) -> Generator[bus_service_pb2.ParticipantUpdate]:
        """How the participants stand: all of them first, then those that change, as they do.

        See bus_client.ThreadHandle.watch_participants.
        """
        return iterate(self._thread.watch_participants)
