"""A PostMessages stream, driven batch by batch. Every step has a time limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo

from tests.serving import BusStub
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest, PostResult


class PostStream:
    """An open stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, *posts: PostMessageRequest) -> None:
        """Send a batch."""
        async with asyncio.timeout(BOUND):
            await self._call.write(PostMessagesRequest(posts=posts))

    async def results(self) -> Sequence[PostResult]:
        """Returns the next batch's results.

        Raises AioRpcError if the stream ended with an error.
        """
        async with asyncio.timeout(BOUND):
            answer = await self._call.read()
        assert answer is not grpc.aio.EOF, "the stream is over"
        return list(answer.results)

    async def post(self, *posts: PostMessageRequest) -> Sequence[PostResult]:
        """Send a batch and return its results."""
        await self.send(*posts)
        return await self.results()

    async def done(self) -> None:
        """Send no more batches: the stream must end with OK."""
        async with asyncio.timeout(BOUND):
            await self._call.done_writing()
            assert await self._call.read() is grpc.aio.EOF
            assert await self._call.code() == grpc.StatusCode.OK


@contextlib.asynccontextmanager
async def post_stream(
    bus: BusStub, *, metadata: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[PostStream]:
    """Open a stream; it is cancelled at the end."""
    call = bus.PostMessages(metadata=tuple(metadata))
    try:
        yield PostStream(call)
    finally:
        call.cancel()


def seqs(results: Sequence[PostResult]) -> list[int]:
    """Returns the seqs of results; 0 for a refusal."""
    return [result.response.seq for result in results]


def reason(result: PostResult) -> str:
    """Returns why a post was refused; empty if it was not."""
    info = ErrorInfo()
    for detail in result.status.details:
        detail.Unpack(info)
    return str(info.reason)
