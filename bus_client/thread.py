"""ThreadHandle: a thread as one agent sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Literal, overload

from bus_client.asking import Question, asked
from bus_client.batches import items_of
from bus_client.calls import Calls
from bus_client.errors import BusError
from bus_client.heartbeats import Heartbeats
from bus_client.post import Post, checked_several, post_requests
from bus_client.post_stream import PostStream
from bus_client.reader import Reader
from bus_client.requests import seconds
from bus_client.responses import checked_post
from bus_client.stream import known_kinds
from bus_client.thread_calls import ThreadCalls
from bus_client.traces import sending
from threadbus.v1 import bus_service_pb2, thread_service_pb2
from threadbus.v1.agent_pb2 import Participant
from threadbus.v1.message_pb2 import (
    PRIORITY_UNSPECIFIED,
    WAKE_UNSPECIFIED,
    Attachment,
    Cursor,
    Message,
    MessageFilter,
    Priority,
    Wake,
)
from threadbus.v1.thread_pb2 import Thread


class ThreadHandle(ThreadCalls):
    """A thread as one agent sees it, with a read position. From BusClient.join() and .thread().

    Any number of calls may run at once, but only one follow() or wait(). Every call may raise
    ThreadNotFound, and what every call of a BusClient may raise; one that changes or deletes the
    thread, OutcomeUnknown if its response was lost. Only its creator, people and operators may do
    that; its participants may change its stage. What a task posts continues the trace of the
    message that it received last; see continue_trace().

    Attributes:
        name: The thread's name.
        created: Whether join() created the thread.
        similar: If join() created the thread: existing threads whose names differ from its name
            only by case, at most 5.
        context: The last messages up to the read position, if join() had a context_limit.
        participants: The participants at the time of join(), at most 100, the caller among them
            unless it is anonymous. Empty without join().
        info: The thread as of join(), or of the last refresh(), update() or set_state(). Before
            any of them, only its name is set.
    """

    def __init__(
        self,
        name: str,
        calls: Calls,
        heartbeats: Heartbeats,
        joined: thread_service_pb2.JoinThreadResponse | None = None,
    ) -> None:
        self.name: str = name
        self._calls = calls
        self._heartbeats = heartbeats
        self._reader = Reader(name, calls, heartbeats, joined)
        if joined is None:
            joined = thread_service_pb2.JoinThreadResponse(thread=Thread(name=name))
        self.created: bool = joined.created
        self.similar: list[str] = list(joined.similar)
        self.context: list[Message] = known_kinds(joined.context)
        self.participants: list[Participant] = list(joined.participants)
        self.info: Thread = joined.thread

    @property
    def position(self) -> Cursor:
        """The read position: everything up to it counts as read.

        follow(), wait() and acknowledge() move it, and report it to the server, except follow()
        with `acknowledge=False`. Set it before follow() or wait() to read from elsewhere;
        `Cursor(thread=…, after_seq=0)` is the beginning. Raises InvalidArgument for a cursor of
        another thread. In a handle from BusClient.thread(), after_seq is 0 until the first follow()
        or wait() has asked the server for the position.
        """
        return self._reader.position

    @position.setter
    def position(self, cursor: Cursor) -> None:
        self._reader.position = cursor

    @property
    def passed_over(self) -> int:
        """After which seq a follow() or wait() with a filter continues, which hid some before."""
        return self._reader.passed_over

    @property
    def closed(self) -> bool:
        """Whether the last follow() or wait() ended because the thread is closed or archived.

        All of it was read then. False if the agent's session was ended instead.
        """
        return self._reader.closed

    @overload
    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        until_closed: bool = True,
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        include_participants: Literal[False] = False,
    ) -> AsyncGenerator[Message]: ...

    @overload
    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        until_closed: bool = True,
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        include_participants: Literal[True],
    ) -> AsyncGenerator[Message | bus_service_pb2.ParticipantUpdate]: ...

    def follow(
        self,
        *,
        filter: MessageFilter | None = None,
        include_own: bool = False,
        acknowledge: bool = True,
        observe: bool = False,
        on_resync: Literal["raise", "continue"] = "raise",
        until_closed: bool = True,
        all_notices: bool = False,
        omit_attachment_data: bool = False,
        max_content_bytes: int = 0,
        include_participants: bool = False,
    ) -> AsyncGenerator[Message | bus_service_pb2.ParticipantUpdate]:
        """Yields the unread messages, then new ones as they are posted.

        Each message comes once and in order, across reconnects and restarts of the server: while no
        server answers, follow() retries without limit. Ends when the thread is closed or archived
        and was read to its end, or when the agent's session was ended; see `closed`. A message
        counts as read when the next one is requested: the message at which the loop was left is
        delivered again, unless it was acknowledged.

        The client keeps sending heartbeats, so that the death of a working agent is noticed soon.
        Heartbeats need the event loop: run code that blocks it for longer than the server's
        agent_timeout (60 s) in a worker thread, or announce it with BusClient.heartbeat(lease=…).
        Without `heartbeats`, the agent counts as working for minutes after a delivery.

        After a `break`, Python closes the iterator a moment later. To close it at once, use `async
        with contextlib.aclosing(thread.follow()) as messages`. An anext() that is cancelled, such
        as by asyncio.wait_for(), loses nothing: call it again. Or call follow() or wait() of the
        handle, which closes this iterator.

        Unless `include_own`, what ask() has told is left out, and a message with a `notice` comes
        only to the agent that asked.

        Args:
            filter: Which messages to deliver. None = all.
            include_own: Deliver the agent's own messages too.
            acknowledge: Report to the server what was read. False = do not report it.
            observe: Watch beside the agent, in a client without `heartbeats`: because of this,
                nobody sees the agent wait or work, nothing is reported as read or delivered, and
                the end of its session ends nothing here.
            on_resync: What to do if the messages that follow the position are not kept any more, or
                if it is not in the thread's history, for example because the thread was deleted and
                created again: "raise" CursorLost, or "continue" from the position that the server
                sends. If the thread has a new history that begins with all that was read, reading
                goes on.
            until_closed: End when the thread is closed or archived. False = go on when it is opened
                again, which is noticed within 10 s.
            all_notices: Deliver all notices, also those for other agents that asked for a reply.
            omit_attachment_data: Leave out the bytes of attachments, but not their sizes.
            max_content_bytes: Cut off longer texts; content_size is their whole size. 0 = no limit.
            include_participants: Yield the updates of watch_participants(), too, between messages.
                A message counts as read when the next item is requested, whether that is a message
                or an update. While a closed thread is followed, all participants come again each
                time that the client looks whether it is open.

        Raises:
            CursorLost: See on_resync. `position` is where the next follow() continues.
            ThreadNotFound: There is no such thread, or it was deleted.
            Unauthenticated: The token is not valid, or is no longer valid.
            AgentExists: The server no longer knew the agent, and its name is taken.
            QuotaExceeded: The agent, or all anonymous clients together, have too many open waits.
            ProtocolError: The server violated the contract.
            BusError: The server was reachable, but the thread could not be read for a minute.
            RuntimeError: Another follow() or wait() of this handle is running, or the client was
                closed.
        """
        batches = self._reader.follow(
            filter=filter,
            include_own=include_own,
            acknowledge=acknowledge,
            observe=observe,
            on_resync=on_resync,
            until_closed=until_closed,
            all_notices=all_notices,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
            include_participants=include_participants,
        )
        return self._reader.lasting(batches)

    async def wait(
        self,
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
        """Returns the unread messages, or those posted within `timeout`; empty if there are none.

        Messages that do not wake the agent (Message.wakes) come together with the next one that
        does: if there is none in time, they stay unread.

        Returns early, with the messages so far, when the thread is closed or the agent's session
        has ended (BusClient.session_ended). The messages count as read when wait(), follow() or
        acknowledge() is called next.

        Args:
            timeout: Seconds to wait. 0 = return what is there; infinity = no limit. Joining the
                thread, if its position is not known yet, has the client's timeout instead.
            min_messages: Return once there are at least this many that wake the agent. 0 = only at
                the timeout, or with max_messages.
            max_messages: Return at most this many. 0 = no limit.
            filter: Which messages to return. None = all.
            include_own: Return the agent's own messages too.
            omit_attachment_data, max_content_bytes: As in follow().
            max_bytes: Return at most this many bytes of messages, or one message. 0 = no limit.
            acknowledge: As in follow(). With False, the handle's position moves at once.
            observe: As in follow(). The handle's position moves at once.
            on_resync: As in follow().
            count_all: Count in min_messages also what does not wake the agent, such as changes of
                the thread.

        Raises:
            ThreadClosed: The thread is closed or archived, and has no messages left to return.
            Unreachable: No server was reached within `timeout`, or 2 s if that is longer.
            BusError: Nothing came within `timeout`, and the last attempt to read failed: there may
                be unread messages. With infinity: as in follow(), even if messages have come; the
                next wait() returns them.
            CursorLost: See on_resync. `position` is where the next wait() continues.
            ThreadNotFound, Unauthenticated, AgentExists, QuotaExceeded, ProtocolError,
            RuntimeError: As in follow().
        """
        return await self._reader.wait(
            timeout=timeout,
            min_messages=min_messages,
            max_messages=max_messages,
            filter=filter,
            include_own=include_own,
            omit_attachment_data=omit_attachment_data,
            max_content_bytes=max_content_bytes,
            max_bytes=max_bytes,
            acknowledge=acknowledge,
            observe=observe,
            on_resync=on_resync,
            count_all=count_all,
        )

    def unread(self) -> None:
        """Take back what the last wait() returned, if it is not read yet: it is returned again."""
        self._reader.unread()

    async def acknowledge(self, seq: int | None = None) -> None:
        """Report the read position now, instead of within about a second.

        For an anonymous client it only moves the handle's position: the server keeps none.

        Args:
            seq: Count everything up to it as read, but what the filter of the last follow() or
                wait() hid; a lower seq does not move the position back. None = what the last wait()
                returned. The server ignores a seq past the newest message, and the next follow() or
                wait() raises CursorLost.

        Raises:
            BusError: The report failed. It is repeated later.
        """
        await self._reader.acknowledge(seq)

    async def post(
        self,
        content: str = "",
        *,
        mentions: Iterable[str] = (),
        reply_to: int = 0,
        edit_of: int = 0,
        handoff_to: str = "",
        ask: Iterable[str] | bool = False,
        within: float | None = None,
        priority: Priority.ValueType = PRIORITY_UNSPECIFIED,
        wakes: Wake.ValueType = WAKE_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        attachments: Iterable[Attachment] = (),
        expected_last_seq: int | None = None,
        based_on_seq: int | None = None,
        on_behalf_of: str = "",
        include_recipients: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> bus_service_pb2.PostMessageResponse:
        """Post a message. Returns the response, with the message's seq, once it is committed.

        Retries with the same request_id until there is a response: the message is posted once or
        not at all, however often the connection breaks.

        Args:
            content: The text, at most 1 MiB by default. May be empty if there is an attachment.
            mentions: Registered agents, at most 32. Unlike `threadbus post`, this does not search
                the text for @names.
            reply_to: The seq of the message that this one replies to. 0 = none.
            edit_of: The seq of the caller's own message whose content this one replaces. 0 = none.
            handoff_to: The registered agent whose turn it is now. Empty = no agent in particular.
            ask: The agents to ask for a reply, who are mentioned, too; True = all in `mentions` and
                `handoff_to`, False = nobody. Each has an open request until it replies to this
                message; see BusClient.list_requests(). If it will not, or not soon, follow() and
                wait() deliver a message with a `notice`, to this agent only.
            within: Seconds from the post after which the requests are overdue, at most 365 days.
                None or infinity = never. Only with `ask`.
            priority: How urgent it is. PRIORITY_UNSPECIFIED = PRIORITY_NORMAL.
            wakes: Whom it wakes: Wake.WAKE_ALL, WAKE_ADDRESSED (those mentioned or handed off to,
                and the author of reply_to) or WAKE_NOBODY. The others get it with the next message
                that wakes them. WAKE_UNSPECIFIED = WAKE_ALL; an edit wakes as its message.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16 Attachments, or mappings of their fields. The whole message is
                at most 3 MiB.
            expected_last_seq: Post only if this is the newest seq; 0: as the first. None = always.
            based_on_seq: The seq up to which the agent had read; it counts as read. None = unknown.
            on_behalf_of: For operators only: the agent to post as, registered if needed.
            include_recipients: Return in `recipients` who will see the message; at most 100.
            request_id: 1–128 printable ASCII characters, to repeat the post with. None = a new one.
            timeout: Seconds to try. None = the client's timeout; infinity = no limit.

        Raises:
            InvalidArgument: A field is not valid.
            CursorInvalid: A seq was given, and the thread was deleted and created again since it
                was joined.
            ExpectedSeqRequired: The thread is strict, and there is no expected_last_seq.
            AccessDenied: Not permitted, for example because edit_of is another agent's message.
            QuotaExceeded: The thread has no seqs left.
            AgentExists: The agent that on_behalf_of names was unregistered.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, ContentBlocked,
            AgentNotFound, MessageNotFound, StorageFull, StoreBusy, RateLimited: It was not posted.
            OutcomeUnknown: The message may have been posted: no response came within `timeout`, the
                server failed, or the client was closed. Repeat the post with its request_id.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        request = Post(
            content,
            mentions=mentions,
            reply_to=reply_to,
            edit_of=edit_of,
            handoff_to=handoff_to,
            ask=ask,
            within=within,
            priority=priority,
            wakes=wakes,
            labels=labels,
            attachments=attachments,
            expected_last_seq=expected_last_seq,
            based_on_seq=based_on_seq,
            on_behalf_of=on_behalf_of,
            include_recipients=include_recipients,
            request_id=request_id,
        ).request(self.name, self.position.epoch)
        return await self._calls.call(
            self._calls.bus.PostMessage,
            request,
            timeout=limit,
            check=partial(checked_post, thread=self.name),
        )

    async def ask(
        self,
        content: str = "",
        *,
        of: str | Iterable[str],
        within: float | None = None,
        mentions: Iterable[str] = (),
        reply_to: int = 0,
        handoff_to: str = "",
        priority: Priority.ValueType = PRIORITY_UNSPECIFIED,
        wakes: Wake.ValueType = WAKE_UNSPECIFIED,
        labels: Mapping[str, str] | None = None,
        attachments: Iterable[Attachment] = (),
        expected_last_seq: int | None = None,
        based_on_seq: int | None = None,
        request_id: str | None = None,
    ) -> Message:
        """Post a question, wait for a reply to it or to an edit of it, and return the reply.

        Waits across reconnects and restarts of the server, as follow() does, and any number of
        questions may wait at once. Moves no read position past a message that was not read:
        follow(), wait() and inbox() of this client deliver what else was posted. They leave out the
        reply, and the notices that Unanswered is about, if they come to them later.

        A call that is cancelled, or fails after the question was posted, leaves the requests open:
        see list_requests() and withdraw(). So do Unanswered and, of the others asked, a reply.

        Args:
            of: The agents to ask, a name or several: the first reply is returned.
            within: Seconds from the post after which Unanswered is raised, at most 365 days. None
                or infinity = no limit: an agent that was gone before it was asked may be waited for
                without end.
            content, mentions, reply_to, handoff_to, priority, wakes, labels, attachments,
            expected_last_seq, based_on_seq, request_id: As in post().

        Raises:
            Unanswered: The agent will not reply, or not soon; with several, none of them will.
            MessageNotFound: Also: the thread was deleted and created again during the wait, or the
                reply is not kept any more.
            QuotaExceeded, ProtocolError, Unauthenticated, AgentExists: Also as in follow().
            BusError: Also as in follow(). And all that post() raises: the question was not posted.
        """
        agents = asked(of)
        request = Post(
            content,
            mentions=mentions,
            reply_to=reply_to,
            handoff_to=handoff_to,
            ask=agents,
            within=within,
            priority=priority,
            wakes=wakes,
            labels=labels,
            attachments=attachments,
            expected_last_seq=expected_last_seq,
            based_on_seq=based_on_seq,
            request_id=request_id,
        ).request(self.name, self.position.epoch)
        position = self._reader.reported
        check = partial(checked_post, thread=self.name)
        posted = await self._calls.call(self._calls.bus.PostMessage, request, check=check)
        question = Question(self._calls, self._heartbeats, self.name, posted, agents)
        return await question.reply(position)

    def post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float = 30.0
    ) -> AsyncGenerator[bus_service_pb2.PostMessageResponse | BusError]:
        """Yields the result of each post, in order: its response, or the exception of post().

        Posts through one stream, which is the fastest way. The messages get their seqs in the order
        given; a post that is refused does not stop the others. At most a few hundred are read from
        `posts` before the first result. When the connection breaks or the server restarts, posts
        without a result are sent again, but stored only once; also posts with RateLimited, in time.

        To stop early, close it: `async with contextlib.aclosing(thread.post_many(…)) as results`.
        It is then unknown whether the posts in flight are stored.

        Args:
            posts: Strings, or Posts; may be async. The result of a post that cannot be sent is
                InvalidArgument. Its exception is raised after the results of the posts before it.
            timeout: Seconds to try without getting any result; infinity = no limit.

        Raises:
            InvalidArgument: `posts` is a single post, or `timeout` is not valid.
            OutcomeUnknown: Posts may have been stored: no result came within `timeout`, the server
                violated the contract, or the stream was refused, for its token or by a proxy, after
                an earlier one had failed. `request_id` is that of the first post in doubt.
            BusError: The stream was refused.
        """
        return items_of(self._post_many(posts, timeout=timeout))

    async def _post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float
    ) -> AsyncGenerator[list[bus_service_pb2.PostMessageResponse | BusError]]:
        """Yields the results of post_many(), in batches as they arrive."""
        limit = seconds("timeout", timeout)
        pending = post_requests(checked_several(posts), self.name, self.position.epoch)
        with sending(self._calls.agent, self.name) as sent:
            stream = PostStream(self._calls, pending, sent, timeout=limit)
            async with aclosing(stream.results()) as found:
                async for results in found:
                    yield results
