"""The loop around PostMessages: sends batches, yields results in order, resends after a break."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import grpc.aio

from bus_client.calls import Calls
from bus_client.errors import (
    BusError,
    InternalError,
    OutcomeUnknown,
    ProtocolError,
    Unauthenticated,
    Unavailable,
    Unreachable,
    strip_traceback,
)
from bus_client.responses import checked_results
from bus_client.retry import backoff
from bus_client.status import from_rpc_error, from_status, refused_by_proxy
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
    PostMessagesRequest,
    PostMessagesResponse,
)

_BATCH_POSTS = 100
_BATCH_BYTES = 512 * 1024  # a batch ends with the post that reaches this size
_MAX_BATCHES = 4  # without results at a time

_Call = grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]


class PostStream:
    """One post_many() call, over any number of streams. Keeps each post until it has a result."""

    def __init__(
        self,
        calls: Calls,
        posts: AsyncIterator[PostMessageRequest | BusError],
        *,
        timeout: float,
    ) -> None:
        """Nothing is sent before results() is iterated.

        Args:
            calls: The client's calls.
            posts: The posts, with an error in place of each post that cannot be sent.
            timeout: Seconds to retry without any result.
        """
        self._calls = calls
        self._posts = posts
        self._timeout = timeout
        #: Posts taken from `posts` that are not yet in a batch; None after the last one.
        self._ready: asyncio.Queue[PostMessageRequest | BusError | None] = asyncio.Queue(
            _BATCH_POSTS
        )
        self._unanswered: deque[_Batch] = deque()
        #: Notified when _unanswered or _all_taken changed.
        self._changed = asyncio.Condition()
        self._all_taken = False

    async def results(self) -> AsyncGenerator[list[PostMessageResponse | BusError]]:
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
        pauses, register, in_doubt = backoff(0.05, 2.0), True, False
        loop = asyncio.get_running_loop()
        retry_until = math.inf  # set when a stream fails, reset by the next result
        error: BusError | None = None
        try:
            await self._calls.learn_limits()
            while not (self._all_taken and not self._unanswered):
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
                except BusError as failure:
                    raise (self._unknown(failure) if in_doubt else failure) from None
                if why:
                    register = register and why == "replaced"
                    continue
                if isinstance(error, ProtocolError):
                    raise self._unknown(error)
                if not isinstance(error, (Unavailable, InternalError)):
                    if refused_by_proxy(error):  # the proxy may have forwarded earlier batches
                        in_doubt = in_doubt or len(self._unanswered) > 1
                    settled = not (isinstance(error, Unauthenticated) or refused_by_proxy(error))
                    raise error if settled or not in_doubt else self._unknown(error)
                in_doubt = True
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
        if not in_doubt:
            return error
        return OutcomeUnknown(
            f"It is unknown whether this was posted: {error.message}",
            request_id=in_doubt[0].request_id,
            code=error.code,
            reason=error.reason,
        )

    async def _feed(self) -> None:
        """Move posts from the caller's iterable into the queue, waiting while the queue is full."""
        try:
            async for post in self._posts:
                await self._ready.put(post)
        except Exception:
            await self._ready.put(None)  # the posts before the exception are still sent
            raise
        await self._ready.put(None)

    async def _stream(self) -> AsyncGenerator[list[PostMessageResponse | BusError]]:
        """Yields the results of each batch, over one stream. Ends when every post has its result.

        Batches left without results by earlier streams are sent first.

        Raises:
            BusError: The stream failed.
            RuntimeError: As in results().
        """
        with self._calls.stream_errors():
            call = self._calls.post_messages()
        sending = asyncio.create_task(self._send(call))
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._unanswered or self._all_taken)
                if not self._unanswered:
                    return
                yield await self._read(call)
        finally:
            sending.cancel()
            call.cancel()

    async def _read(self, call: _Call) -> list[PostMessageResponse | BusError]:
        """Returns the results of the oldest unanswered batch once they arrive, and removes it."""
        batch = self._unanswered[0]
        results = batch.results(await self._response(call) if batch.request.posts else None)
        self._unanswered.popleft()
        async with self._changed:
            self._changed.notify_all()
        return results

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
        # _response() raises the errors that are suppressed here.
        with suppress(grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            for batch in list(self._unanswered):
                if batch.request.posts:
                    await call.write(batch.request)
            while not self._all_taken:
                async with self._changed:
                    await self._changed.wait_for(lambda: len(self._unanswered) < _MAX_BATCHES)
                batch = await self._next_batch()
                if batch.places:
                    self._unanswered.append(batch)
                async with self._changed:
                    self._changed.notify_all()
                if batch.request.posts:
                    await call.write(batch.request)
            await call.done_writing()

    async def _next_batch(self) -> _Batch:
        """Returns a batch of the next post, once there is one, and of those queued behind it.

        Sets `_all_taken` at the end of the posts, where the batch may be empty.
        """
        batch = _Batch()
        post = await self._ready.get()
        size = 0
        while post is not None:
            size += batch.add(post)
            if len(batch.places) >= _BATCH_POSTS or size >= _BATCH_BYTES or self._ready.empty():
                return batch
            post = self._ready.get_nowait()
        self._all_taken = True
        return batch


class _Batch:
    """Posts whose results come in one response; errors in place of posts that cannot be sent."""

    def __init__(self) -> None:
        self.request = PostMessagesRequest()
        #: For each post: None, or the error that replaces a post that cannot be sent.
        self.places: list[BusError | None] = []

    def add(self, post: PostMessageRequest | BusError) -> int:
        """Add a post, or the error in its place. Returns its size in bytes; 0 for an error."""
        if isinstance(post, BusError):
            self.places.append(post)
            return 0
        self.places.append(None)
        self.request.posts.append(post)
        return post.ByteSize()

    def results(
        self, response: PostMessagesResponse | None
    ) -> list[PostMessageResponse | BusError]:
        """Returns the response or error of each post, in order.

        Args:
            response: The checked response to `request`. None = `request` was empty and not sent.
        """
        found: list[PostMessageResponse | BusError] = []
        sent = iter(response.results if response is not None else ())
        for refused in self.places:
            if refused is not None:
                found.append(refused)
                continue
            result = next(sent)
            if result.HasField("response"):
                found.append(result.response)
            else:
                found.append(from_status(result.status))
        return found
