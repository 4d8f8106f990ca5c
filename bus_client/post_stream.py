"""Posting many through one stream: bounded in flight, answered in order, resumed after a break."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import grpc.aio

from bus_client.calls import Calls, backoff
from bus_client.errors import (
    BusError,
    InternalError,
    OutcomeUnknown,
    ProtocolError,
    Unauthenticated,
    Unavailable,
    Unreachable,
    bare,
)
from bus_client.responses import checked_results
from bus_client.status import from_rpc_error, from_status, refused_by_proxy
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
    PostMessagesRequest,
    PostMessagesResponse,
)

_BATCH_POSTS = 100
_BATCH_BYTES = 512 * 1024  # a larger message is a batch of its own
_BATCHES = 4  # in flight

_Call = grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]


class PostStream:
    """One post_many(): the posts that are not answered yet, over as many streams as it takes."""

    def __init__(
        self,
        calls: Calls,
        posts: AsyncIterator[PostMessageRequest | BusError],
        *,
        timeout: float,
    ) -> None:
        self._calls = calls
        self._posts = posts
        self._timeout = timeout
        #: Taken from `posts` and in no batch yet. None: there are no more.
        self._ready: asyncio.Queue[PostMessageRequest | BusError | None] = asyncio.Queue(
            _BATCH_POSTS
        )
        self._unanswered: deque[_Batch] = deque()
        #: Something of the above, or what is sent, changed.
        self._changed = asyncio.Condition()
        self._all_taken = False

    async def results(self) -> AsyncGenerator[PostMessageResponse | BusError]:
        """What became of each post, in order.

        Raises:
            OutcomeUnknown: For `timeout` seconds there was no answer; or it was no answer to what
                was posted.
            BusError: The stream was refused.
        """
        feeding = asyncio.create_task(self._feed())
        pauses, strange, in_doubt = backoff(0.05, 2.0), False, False
        loop = asyncio.get_running_loop()
        give_up = math.inf  # while nothing is unanswered
        introduced = self._calls.introduced
        error: BusError | None = None
        try:
            await self._calls.learn_limits()
            while not (self._all_taken and not self._unanswered):
                error = None
                stream = self._attempt()
                try:
                    async for results in stream:
                        give_up, pauses, strange = math.inf, backoff(0.05, 2.0), False
                        for result in results:
                            yield result
                except BusError as failure:
                    error = bare(failure)
                finally:
                    await stream.aclose()
                if error is None:
                    continue
                give_up = min(give_up, loop.time() + self._timeout)
                if error.reason == "TOKEN_INVALID" and not strange:
                    strange = await self._calls.introduce_again(introduced, timeout=self._timeout)
                    introduced = self._calls.introduced
                    if strange:
                        continue
                if isinstance(error, ProtocolError):
                    raise self._unknown(error)
                if not isinstance(error, (Unavailable, InternalError)):
                    if refused_by_proxy(error):  # in mid-stream: it may have passed on a part
                        in_doubt = in_doubt or len(self._unanswered) > 1
                    knows = not (isinstance(error, Unauthenticated) or refused_by_proxy(error))
                    raise error if knows or not in_doubt else self._unknown(error)
                in_doubt = True
                pause = max(next(pauses), error.retry_delay or 0.0)
                if loop.time() + pause >= give_up:
                    raise self._unknown(error)
                await asyncio.sleep(pause)
            await feeding
        finally:
            error = None  # see bare()
            feeding.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await feeding

    def _unknown(self, error: BusError) -> BusError:
        in_doubt = [post for batch in self._unanswered for post in batch.request.posts]
        if not in_doubt:
            return error
        return OutcomeUnknown(
            f"It may have been posted, or not: {error.message}",
            request_id=in_doubt[0].request_id,
            code=error.code,
            reason=error.reason,
        )

    async def _feed(self) -> None:
        """Takes the posts in as there is room for them."""
        try:
            async for post in self._posts:
                await self._ready.put(post)
        except Exception:
            await self._ready.put(None)  # what was taken in is still posted and answered
            raise
        await self._ready.put(None)

    async def _attempt(self) -> AsyncGenerator[list[PostMessageResponse | BusError]]:
        """One stream, from the first unanswered batch on: their results. Raises BusError."""
        with self._calls.usable():
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
        """The results of the first unanswered batch."""
        batch = self._unanswered[0]
        results = batch.results(await self._answer(call) if batch.request.posts else None)
        self._unanswered.popleft()
        async with self._changed:
            self._changed.notify_all()
        return results

    async def _answer(self, call: _Call) -> PostMessagesResponse:
        try:
            async with asyncio.timeout(self._timeout):
                with self._calls.usable():
                    answer = await call.read()
        except TimeoutError:
            raise Unreachable("No answer came.", code="DEADLINE_EXCEEDED") from None
        except grpc.aio.AioRpcError as failure:
            raise from_rpc_error(failure) from None
        if answer is grpc.aio.EOF:
            raise Unreachable("The stream ended too early.", code="UNAVAILABLE")
        if not isinstance(answer, PostMessagesResponse):
            raise ProtocolError("The server sent an answer that cannot be parsed.")
        checked_results(answer, self._unanswered[0].request)
        return answer

    async def _send(self, call: _Call) -> None:
        # Whoever reads the answers meets what goes wrong here.
        with suppress(grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError):
            for batch in list(self._unanswered):
                if batch.request.posts:
                    await call.write(batch.request)
            while not self._all_taken:
                async with self._changed:
                    await self._changed.wait_for(lambda: len(self._unanswered) < _BATCHES)
                batch = await self._batch()
                if batch.places:
                    self._unanswered.append(batch)
                async with self._changed:
                    self._changed.notify_all()
                if batch.request.posts:
                    await call.write(batch.request)
            await call.done_writing()

    async def _batch(self) -> _Batch:
        """The next posts, as many as are there, once there is one."""
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
    """Posts that are sent and answered together, and among them those that could not be sent."""

    def __init__(self) -> None:
        self.request = PostMessagesRequest()
        #: One for each post: why it is not sent, or None.
        self.places: list[BusError | None] = []

    def add(self, post: PostMessageRequest | BusError) -> int:
        """Adds a post, or what stands in its place. Returns how many bytes are sent for it."""
        if isinstance(post, BusError):
            self.places.append(post)
            return 0
        self.places.append(None)
        self.request.posts.append(post)
        return post.ByteSize()

    def results(self, answer: PostMessagesResponse | None) -> list[PostMessageResponse | BusError]:
        """What became of each post, in order. None: none was sent. Else it is one to these."""
        found: list[PostMessageResponse | BusError] = []
        told = iter(answer.results if answer is not None else ())
        for refused in self.places:
            if refused is not None:
                found.append(refused)
                continue
            result = next(told)
            if result.HasField("response"):
                found.append(result.response)
            else:
                found.append(from_status(result.status))
        return found
