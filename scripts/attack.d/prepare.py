"""Prepares the server for an attack: creates threads, agents and messages with ordinary calls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import grpc.aio
from http2 import Call, headers, message
from target import BUS, MIB, Target

from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessagesRequest,
    PostMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Attachment
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, JoinThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

_IN_FLIGHT = 64
_BATCH = 1_000
_Item = TypeVar("_Item")


def call(method: str, request: bytes, token: str = "") -> Call:
    """Returns a raw call of a method of BusService, or of a full path."""
    path = method if method.startswith("/") else f"{BUS}/{method}"
    return Call(headers(path, token), message(request))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata for a token; none without a token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def prepare(target: Target, *steps: Callable[[grpc.aio.Channel], Awaitable[None]]) -> None:
    """Run the steps, one after the other, over one channel to the server."""

    async def take() -> None:
        async with grpc.aio.insecure_channel(target.address) as channel:
            for step in steps:
                await step(channel)

    asyncio.run(take())


async def _each(items: Iterable[_Item], do: Callable[[_Item], Awaitable[object]]) -> None:
    left = iter(items)

    async def work() -> None:
        for item in left:
            await do(item)

    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))


def threads(names: Iterable[str]) -> Callable[[grpc.aio.Channel], Awaitable[None]]:
    """Returns a step that creates these threads."""

    async def step(channel: grpc.aio.Channel) -> None:
        stub = ThreadServiceStub(channel)
        await _each(names, lambda name: stub.CreateThread(CreateThreadRequest(thread=name)))

    return step


def agents(tokens: dict[str, str]) -> Callable[[grpc.aio.Channel], Awaitable[None]]:
    """Returns a step that registers agents, by name with their tokens."""

    async def step(channel: grpc.aio.Channel) -> None:
        stub = AgentServiceStub(channel)
        await _each(
            tokens.items(),
            lambda each: stub.RegisterAgent(RegisterAgentRequest(agent=each[0], token=each[1])),
        )

    return step


def joined(thread: str, tokens: Iterable[str]) -> Callable[[grpc.aio.Channel], Awaitable[None]]:
    """Returns a step in which the agents with these tokens join a thread."""

    async def step(channel: grpc.aio.Channel) -> None:
        stub, request = ThreadServiceStub(channel), JoinThreadRequest(thread=thread)
        await _each(tokens, lambda token: stub.JoinThread(request, metadata=bearer(token)))

    return step


def posts(
    requests: Sequence[PostMessageRequest], token: str = ""
) -> Callable[[grpc.aio.Channel], Awaitable[None]]:
    """Returns a step that posts messages in order. It raises RuntimeError if one is refused."""

    async def step(channel: grpc.aio.Channel) -> None:
        stream = BusServiceStub(channel).PostMessages(metadata=bearer(token))
        batch, size = PostMessagesRequest(), 0
        batches = [batch]
        for request in requests:
            length = request.ByteSize() + 8
            if len(batch.posts) == _BATCH or size + length > 3.5 * MIB:
                batch, size = PostMessagesRequest(), 0
                batches.append(batch)
            batch.posts.append(request)
            size += length
        for batch in batches:
            await stream.write(batch)
            answer = await stream.read()
            if not isinstance(answer, PostMessagesResponse):
                raise RuntimeError("posts got no result")  # noqa: TRY004 - not a type error
            for result in answer.results:
                if result.HasField("status"):
                    raise RuntimeError(f"a post was refused: {result.status.message}")
        await stream.done_writing()

    return step


def large(thread: str, size: int, request_id: str = "") -> PostMessageRequest:
    """Returns a post with an attachment of `size` bytes."""
    return PostMessageRequest(
        thread=thread,
        content="large",
        request_id=request_id,
        attachments=[Attachment(filename="file", raw=bytes(size))],
    )


def token(number: int) -> str:
    """Returns a valid token for the agent with this number."""
    return f"attack-{number:0>32}"
