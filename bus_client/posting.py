"""Posting to a thread: one message, or many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from bus_client.errors import BusError, InvalidArgument
from bus_client.post import Post
from bus_client.post_stream import PostStream
from bus_client.reader import Reader
from bus_client.requests import refuse, seconds
from bus_client.responses import checked_post
from threadbus.v1 import bus_service_pb2
from threadbus.v1.message_pb2 import PRIORITY_UNSPECIFIED, Attachment, Priority


class Poster(Reader):
    """The half of a ThreadHandle that writes."""

    async def post(
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

        It is repeated, with the same request_id, until there is an answer: posted once or not at
        all, however often the connection breaks.

        Args:
            content: The text, at most 1 MiB by default. May be empty if there is an attachment.
            mentions: Registered agents, at most 32. The text is not searched for @names, as
                `threadbus post` does: who is not named here is not mentioned.
            reply_to: Seq of the message answered. 0 = none.
            edit_of: Seq of an own message whose content this one replaces. 0 = none.
            handoff_to: The agent whose turn it is now.
            priority: How urgent. Unspecified = normal.
            labels: At most 32; keys up to 63 and values up to 256 bytes.
            attachments: At most 16, or mappings of their fields; the whole message at most 3 MiB.
            expected_last_seq: Post only if this is the thread's newest seq. None = always.
            based_on_seq: Seq up to which the author had read.
            on_behalf_of: Operators only: the agent to post as.
            include_recipients: Have the answer tell in `recipients` who will see it: who waits,
                works or is gone, and how far each has read. At most 100.
            request_id: 1–128 printable ASCII characters, to be able to repeat the post even after
                OutcomeUnknown or a crash. None = a new one.
            timeout: Seconds to try. None = the client's; infinity = no limit.

        Raises:
            InvalidArgument: A field is wrong. What cannot be sent at all – half a character, a
                number that is too large, another type – is told without asking the server.
            CursorInvalid: A seq was given, and the thread was made anew since it was joined.
            ExpectedSeqRequired: The thread is strict: say what expected_last_seq is.
            AccessDenied: Also when edit_of is the message of another.
            ThreadClosed, SeqConflict, RequestIdReused, MessageTooLarge, AgentNotFound,
            MessageNotFound, StorageFull, StoreBusy: It was not posted.
            OutcomeUnknown: The time is up, or the client was closed, and nobody knows. Repeat with
                its request_id.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        request = Post(
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
        ).request(self.name, self.position.epoch)
        return await self._calls.call(
            self._calls.bus.PostMessage,
            request,
            timeout=limit,
            changes=True,
            request_id=request.request_id,
            check=partial(checked_post, thread=self.name),
        )

    async def post_many(
        self, posts: Iterable[str | Post] | AsyncIterable[str | Post], *, timeout: float = 30.0
    ) -> AsyncGenerator[bus_service_pb2.PostMessageResponse | BusError]:
        """Posts many messages through one stream: the fast road.

        Yields what became of each, in order: its answer, or the exception that post() would have
        raised. They get their seqs in the order given; a refused one stops nothing. A few hundred
        at most are taken from `posts` before the first is answered. When the connection breaks or
        the server restarts, what is not answered is sent again, and stored once.

        To stop early close it: `async with contextlib.aclosing(thread.post_many(…)) as results`.
        What is under way then may be posted, or not.

        Args:
            posts: Texts, or Posts for more than a text. One that cannot be sent is given as its
                InvalidArgument, in its place. May be an async iterable, such as what
                another follow() makes.
            timeout: Seconds to try while nothing at all is answered; infinity = no limit.

        Raises:
            InvalidArgument: `posts` is a single one, or `timeout` is wrong.
            OutcomeUnknown: The time is up; its request_id is that of the first post in doubt.
        """
        limit = seconds("timeout", timeout)
        requests = _requests(several(posts), self.name, self.position.epoch)
        async with aclosing(PostStream(self._calls, requests, timeout=limit).results()) as found:
            async for result in found:
                yield result


T = TypeVar("T")


def several(posts: T) -> T:
    """What is given to post_many(). InvalidArgument if it is a single post, or none at all."""
    single = isinstance(posts, str | bytes | Post)
    if single or not isinstance(posts, Iterable | AsyncIterable):
        refuse("posts", f"must be several, not a single {type(posts).__name__}")
    return posts


async def _requests(
    posts: Iterable[str | Post] | AsyncIterable[str | Post], thread: str, epoch: str
) -> AsyncGenerator[bus_service_pb2.PostMessageRequest | InvalidArgument]:
    if isinstance(posts, AsyncIterable):
        async for post in posts:
            yield _request(post, thread, epoch)
    else:
        for post in posts:
            yield _request(post, thread, epoch)


def _request(
    post: str | Post, thread: str, epoch: str
) -> bus_service_pb2.PostMessageRequest | InvalidArgument:
    """The request, or why there is none: it is to be given in the post's place."""
    try:
        return (post if isinstance(post, Post) else Post(post)).request(thread, epoch)
    except InvalidArgument as refused:
        return refused.with_traceback(None)
