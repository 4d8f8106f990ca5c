"""The loop around PostMessages: sends batches, yields results in order, resends after a break."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import grpc.aio

from bus_client.calls import Calls
from bus_client.errors import (
    BusError,
    InternalError,
    OutcomeUnknown,
    ProtocolError,
    RateLimited,
    TlsFailed,
    Unauthenticated,
    Unavailable,
    Unreachable,
    strip_traceback,
)
from bus_client.responses import checked_results
from bus_client.retry import backoff
from bus_client.status import from_rpc_error, from_status, refused_by_proxy
from bus_client.traces import Sending
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
    PostMessagesRequest,
    PostMessagesResponse,
)

_BATCH_POSTS = 100
_BATCH_BYTES = 512 * 1024  # a batch ends with the post that reaches this size
_SEARCH_TIMEOUT = 1.0  # seconds to find out whether TLS is why a stream failed
_MAX_BATCHES = 4  # without results at a time

_Call = grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]

_Result: TypeAlias = PostMessageResponse | BusError


@dataclass(frozen=True, slots=True)
class _Limited:
    """A post that was refused with RATE_LIMITED, to be sent again."""

    request: PostMessageRequest
    error: RateLimited


class PostStream:
    """One post_many() call, over any number of streams. Keeps each post until it has a result.

    Posts that are refused with RATE_LIMITED are sent again after the delay that the server gives.
    The results of the posts behind them are held back until then.
    """

    def __init__(
        self,
        calls: Calls,
        posts: AsyncIterator[PostMessageRequest | BusError],
        trace: Sending,
        *,
        timeout: float,
    ) -> None:
        """Nothing is sent before results() is iterated.

        Args:
            calls: The client's calls.
            posts: The posts, with an error in place of each post that cannot be sent.
            trace: The trace that they all belong to.
            timeout: Seconds to retry without any result. A post that is still refused with
                RATE_LIMITED then, or has to wait for longer, has that as its result.
        """
        self._calls = calls
        self._posts = posts
        self._timeout = timeout
        self._trace = trace
        #: Posts taken from `posts` that are not yet in a batch, and whether there are no more.
        self._ready: deque[PostMessageRequest | BusError] = deque()
        self._all_taken = False
        self._unanswered: deque[_Batch] = deque()
        #: Notified when the posts to send, _unanswered, _held, _all_taken or _closing changed.
        self._changed = asyncio.Condition()
        #: Results that were not returned yet: the first is of a post that is sent again.
        self._held: deque[_Result | _Limited] = deque()
        #: What to send before `_ready`: posts, and the results of others between them.
        self._again: deque[_Result | PostMessageRequest] = deque()
        #: Maximum number of batches without results. 1 where posts are limited: of two batches, the
        #: posts of the second could be accepted after one of the first was refused.
        self._max_batches = _MAX_BATCHES
        #: Maximum number of posts in a batch. Where posts are limited, about as many as there is
        #: room for: the others would be sent over and over.
        self._batch_posts = _BATCH_POSTS
        #: The pauses before posts are sent again, and when there was last a result, if one is due.
        self._pauses = backoff(0.05, 2.0)
        self._limited_since: float | None = None
        #: Whether a stream broke: posts may have been stored although they are refused now.
        self._in_doubt = False
        #: Whether nothing more is sent over the current stream.
        self._closing = False

    async def results(self) -> AsyncGenerator[list[_Result]]:
        """Yields the response or error of each post, in order, in batches. Call it once.

        An exception of the iterable of posts is raised after the results of the posts before it.

        Raises:
            OutcomeUnknown: Posts were in flight, and no result came for `timeout` seconds, a
                response violated the contract, or the stream was refused, for its token or by a
                proxy, after earlier posts may have been stored.
            BusError: The stream was refused, or failed with no post in flight.
            RuntimeError: The client was closed, or the process was forked.
        """
        feeding = asyncio.create_task(self._feed())
        pauses, register = backoff(0.05, 2.0), True
        loop = asyncio.get_running_loop()
        retry_until = math.inf  # set when a stream fails, reset by the next result
        error: BusError | None = None
        try:
            await self._calls.learn_limits()
            if self._calls.posts_limited:
                self._max_batches = 1
            while not self._finished():
                error = None
                token_version = self._calls.token_version
                stream = self._stream()
                try:
                    async for results in stream:
                        retry_until, pauses, register = math.inf, backoff(0.05, 2.0), True
                        yield results
                except BusError as failure:
                    error = strip_traceback(failure)
                finally:
                    await stream.aclose()
                if error is None:
                    continue
                retry_until = min(retry_until, loop.time() + self._timeout)
                try:
                    why = await self._calls.reauthenticate(
                        error, token_version, register=register, timeout=self._timeout
                    )
                    if isinstance(error, Unreachable):
                        await self._calls.raise_tls_fault(_SEARCH_TIMEOUT)
                except TlsFailed as failure:
                    raise self._unknown(failure) from None
                except BusError as failure:
                    raise (self._unknown(failure) if self._in_doubt else failure) from None
                if why:
                    register = register and why == "replaced"
                    continue
                if isinstance(error, ProtocolError):
                    raise self._unknown(error)
                if not isinstance(error, (Unavailable, InternalError)):
                    if refused_by_proxy(error):  # the proxy may have forwarded earlier batches
                        self._in_doubt = self._in_doubt or len(self._unanswered) > 1
                    settled = not (isinstance(error, Unauthenticated) or refused_by_proxy(error))
                    raise error if settled or not self._in_doubt else self._unknown(error)
                self._in_doubt = True
                pause = max(next(pauses), error.retry_delay or 0.0)
                if loop.time() + pause >= retry_until:
                    raise self._unknown(error)
                await asyncio.sleep(pause)
            await feeding
        finally:
            error = None  # see strip_traceback()
            feeding.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await feeding

    def _unknown(self, error: BusError) -> BusError:
        """Returns OutcomeUnknown for the posts in flight; `error` itself if there are none."""
        in_doubt = [post for batch in self._unanswered for post in batch.request.posts]
        return self._not_known(error, in_doubt[0]) if in_doubt else error

    def _not_known(self, error: BusError, post: PostMessageRequest) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"It is unknown whether this was posted: {error.message}",
            request_id=post.request_id,
            code=error.code,
            reason=error.reason,
        )

    async def _feed(self) -> None:
        """Take posts from the caller's iterable, up to a batch ahead of what is sent."""
        try:
            async for post in self._posts:
                self._ready.append(post)
                if len(self._ready) == 1:
                    await self._notify()
                if len(self._ready) >= _BATCH_POSTS:
                    async with self._changed:
                        await self._changed.wait_for(lambda: len(self._ready) < _BATCH_POSTS)
        finally:
            self._all_taken = True  # after an exception, the posts before it are still sent
            await self._notify()

    def _all_sent(self) -> bool:
        return self._all_taken and not (self._again or self._ready)

    def _finished(self) -> bool:
        """Returns whether every post has a result, and every result was returned."""
        return self._all_sent() and not (self._unanswered or self._held)

    async def _stream(self) -> AsyncGenerator[list[_Result]]:
        """Yields the results of each batch, over one stream. Ends when every post has its result.

        Batches left without results by earlier streams are sent first. Also ends if there are posts
        to send, but none can be sent over this stream any more.

        Raises:
            BusError: The stream failed.
            RuntimeError: As in results().
        """
        with self._calls.stream_errors(), self._trace.current():
            call = self._calls.post_messages(self._trace.metadata)
        self._closing = False
        sending = asyncio.create_task(self._send(call))
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(
                        lambda: self._unanswered or self._closing or self._finished()
                    )
                if not self._unanswered:
                    return
                if results := await self._read(call):
                    yield results
                again = bool(self._held) and not self._unanswered
                if again and (results := await self._send_held_again()):
                    yield results
        finally:
            sending.cancel()
            call.cancel()
            await asyncio.wait([sending])

    async def _read(self, call: _Call) -> list[_Result]:
        """Remove the oldest unanswered batch once its results arrive.

        Returns those results that are not held back.
        """
        batch = self._unanswered[0]
        results = batch.results(await self._response(call) if batch.request.posts else None)
        self._unanswered.popleft()
        self._held += results
        accepted = sum(isinstance(result, PostMessageResponse) for result in results)
        if any(isinstance(result, _Limited) for result in results):
            self._max_batches, self._batch_posts = 1, max(accepted, 1)
        else:
            self._batch_posts = min(2 * self._batch_posts, _BATCH_POSTS)
        returned: list[_Result] = []
        for result in self._held:
            if isinstance(result, _Limited):
                break
            returned.append(result)
        for _ in returned:
            self._held.popleft()
        if returned:
            self._limited_since, self._pauses = None, backoff(0.05, 2.0)
        await self._notify()
        return returned

    async def _send_held_again(self) -> list[_Result]:
        """Pause for as long as the server asks, then enqueue the posts that it refused.

        If that would take longer than the timeout, returns all results that were held back instead.
        """
        now = asyncio.get_running_loop().time()
        if self._limited_since is None:
            self._limited_since = now
        returned: list[_Result] = []
        asked = (each.error.retry_delay or 0.0 for each in self._held if isinstance(each, _Limited))
        pause = max(next(self._pauses), *asked)
        if now + pause >= self._limited_since + self._timeout:
            self._limited_since = None
            returned = [
                self._given_up(each) if isinstance(each, _Limited) else each for each in self._held
            ]
        else:
            await asyncio.sleep(pause)
            self._again.extendleft(
                each.request if isinstance(each, _Limited) else each
                for each in reversed(self._held)
            )
        self._held.clear()
        await self._notify()
        return returned

    def _given_up(self, post: _Limited) -> BusError:
        """Returns the error for a post that is not sent again."""
        return self._not_known(post.error, post.request) if self._in_doubt else post.error

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _response(self, call: _Call) -> PostMessagesResponse:
        try:
            async with asyncio.timeout(self._timeout):
                with self._calls.stream_errors():
                    response = await call.read()
        except TimeoutError:
            raise Unreachable("The server did not answer.", code="DEADLINE_EXCEEDED") from None
        except grpc.aio.AioRpcError as failure:
            raise from_rpc_error(failure) from None
        if response is grpc.aio.EOF:
            raise Unreachable("The stream ended before all results came.", code="UNAVAILABLE")
        if not isinstance(response, PostMessagesResponse):
            raise ProtocolError("The server sent a response that cannot be parsed.")
        checked_results(response, self._unanswered[0].request)
        return response

    async def _send(self, call: _Call) -> None:
        # _response() raises the errors that are suppressed here, unless every batch has its results
        # by then: the server may respond to a batch whose write fails.
        try:
            with suppress(grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
                for batch in list(self._unanswered):
                    if batch.request.posts:
                        await call.write(batch.request)
                while True:
                    async with self._changed:
                        await self._changed.wait_for(self._may_send)
                    if self._all_sent():
                        break
                    batch = self._next_batch()
                    self._unanswered.append(batch)
                    await self._notify()
                    if batch.request.posts:
                        await call.write(batch.request)
                self._closing = True
                await call.done_writing()
        finally:
            self._closing = True
            await self._notify()

    def _may_send(self) -> bool:
        room = len(self._unanswered) < self._max_batches and not self._held
        return room and bool(self._again or self._ready or self._all_taken)

    def _next_batch(self) -> _Batch:
        """Returns a batch of the next posts, of which there must be at least one."""
        batch, size = _Batch(), 0
        posts = self._again or self._ready
        while posts and len(batch.places) < self._batch_posts and size < _BATCH_BYTES:
            size += batch.add(posts.popleft())
        return batch


class _Batch:
    """Posts whose results come in one response; results in place of posts that are not sent."""

    def __init__(self) -> None:
        self.request = PostMessagesRequest()
        #: For each post: None, or the result that it has without being sent.
        self.places: list[_Result | None] = []

    def add(self, post: PostMessageRequest | _Result) -> int:
        """Add a post, or the result in its place. Returns its size in bytes; 0 for a result."""
        if not isinstance(post, PostMessageRequest):
            self.places.append(post)
            return 0
        self.places.append(None)
        self.request.posts.append(post)
        return post.ByteSize()

    def results(self, response: PostMessagesResponse | None) -> list[_Result | _Limited]:
        """Returns the response or error of each post, in order.

        Args:
            response: The checked response to `request`. None = `request` was empty and not sent.
        """
        found: list[_Result | _Limited] = []
        sent = iter(self.request.posts)
        received = iter(response.results if response is not None else ())
        for place in self.places:
            if place is not None:
                found.append(place)
                continue
            request, result = next(sent), next(received)
            if result.HasField("response"):
                found.append(result.response)
                continue
            error = from_status(result.status)
            found.append(_Limited(request, error) if isinstance(error, RateLimited) else error)
        return found
