"""A gRPC client that waits on ThreadBus or the floor.

wait     `waits` waits on one thread, until each has received the messages 0 … `count` - 1
replay   one wait over a long thread, from its first message to `count`
idle     `waits` waits on `threads`, opened at once and held until the job ends

With `follow` in the job, `wait` and `replay` send the request of the SDK's follow(): each wait is
from a different registered agent, and excludes that agent's own messages.
"""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections import Counter
from typing import Any

import grpc.aio
import uvloop
from numbering import faults, number_of

from bus_client.channel import open_channel
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor, MessageFilter

_PATH = "/threadbus.v1.BusService/WaitMessages"
_ON_A_CONNECTION = 100  # idle waits on one connection, as in the SDK
_GRACE = 30.0  # seconds to wait for the remaining messages

Metadata = tuple[tuple[str, str], ...]


async def wait(job: dict[str, Any]) -> dict[str, Any]:
    """Returns when the last wait received each message, on the monotonic clock, and the faults."""
    count, waits = job["count"], job["waits"]
    arrived = [0.0] * count
    got: list[Counter[int]] = [Counter() for _ in range(waits)]
    opened = asyncio.Semaphore(0)
    request = _request(job["thread"], follow=job.get("follow", False))

    async def read(own: Counter[int], metadata: Metadata) -> None:
        call = channel.unary_stream(_PATH)(request, metadata=metadata)
        try:
            while (frame := await call.read()) is not grpc.aio.EOF:
                now = time.perf_counter()
                response = WaitMessagesResponse.FromString(frame)
                if response.HasField("started"):
                    opened.release()
                for message in response.messages.messages:
                    number = number_of(message.content)
                    own[number] += 1
                    if 0 <= number < count:
                        arrived[number] = now
                if len(own) >= count:
                    return
        finally:
            call.cancel()

    async with open_channel(job["address"], None) as channel:
        metadata = await _register(channel, waits) if job.get("follow") else [()] * waits
        reading = [
            asyncio.create_task(read(own, whose)) for own, whose in zip(got, metadata, strict=True)
        ]
        for _ in range(waits):
            await opened.acquire()
        _say_ready({})
        await asyncio.wait(reading, timeout=job["seconds"] + _GRACE)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    counts = [faults(own.elements(), range(count)) for own in got]
    return {
        "arrived": arrived,
        "lost": sum(each["lost"] for each in counts),
        "duplicated": sum(each["duplicated"] for each in counts),
    }


async def replay(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time to receive `count` messages, with or without parsing each on arrival."""
    count, frames = job["count"], list[Any]()
    got = 0
    async with open_channel(job["address"], None) as channel:
        await channel.channel_ready()
        follow = job.get("follow", False)
        request = _request(job["thread"], follow=follow, max_messages=count)
        (metadata,) = await _register(channel, 1) if follow else [()]
        parser = WaitMessagesResponse.FromString if job["parse"] else None
        start = time.perf_counter()
        call = channel.unary_stream(_PATH, response_deserializer=parser)(
            request, timeout=200, metadata=metadata
        )
        while (frame := await call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        elapsed = time.perf_counter() - start
    seqs: Counter[int] = Counter()
    for frame in frames:
        response = frame if job["parse"] else WaitMessagesResponse.FromString(frame)
        seqs.update(message.seq for message in response.messages.messages)
        got += len(response.messages.messages)
    return {"seconds": elapsed, "got": got, **faults(seqs.elements(), range(1, count + 1))}


async def idle(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers of waits that were refused, and that failed while they were open."""
    refused: Counter[str] = Counter()
    calls: list[Any] = []
    channels: list[grpc.aio.Channel] = []
    threads = job["threads"]
    path = "/floor.Floor/Open" if job.get("floor") else _PATH

    async def open_one(number: int) -> None:
        channel = channels[number // _ON_A_CONNECTION]
        call = channel.unary_stream(path)(_request(threads[number % len(threads)]))
        try:
            await call.read()
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "CANCELLED"
            refused[code] += 1
        else:
            calls.append(call)

    async with contextlib.AsyncExitStack() as stack:
        for number in range(-(-job["waits"] // _ON_A_CONNECTION)):
            channel = open_channel(job["address"], None, connection=number)
            channels.append(await stack.enter_async_context(channel))
            await channel.channel_ready()
        await asyncio.gather(*(open_one(number) for number in range(job["waits"])))
        _say_ready({"open": len(calls), "refused": dict(refused)})
        # The keepalives that arrive while waiting are not read; gRPC buffers them.
        await asyncio.to_thread(sys.stdin.readline)
        broken = sum(call.done() for call in calls)
        for call in calls:
            call.cancel()
    return {"open": len(calls), "refused": dict(refused), "broken": broken}


def _request(thread: str, *, follow: bool = False, max_messages: int = 0) -> bytes:
    return WaitMessagesRequest(
        threads=[Cursor(thread=thread, after_seq=0)],
        filter=MessageFilter(exclude_own=follow),
        max_messages=max_messages,
    ).SerializeToString()


async def _register(channel: grpc.aio.Channel, count: int) -> list[Metadata]:
    """Register `count` agents. Returns the call metadata of each."""
    register = AgentServiceStub(channel).RegisterAgent
    run = secrets.token_hex(4)
    metadata: list[Metadata] = []
    for first in range(0, count, 100):
        calls = [
            register(RegisterAgentRequest(agent=f"bench-{run}-{number}"), timeout=60)
            for number in range(first, min(first + 100, count))
        ]
        metadata += [(("authorization", f"Bearer {(await call).token}"),) for call in calls]
    return metadata


def _say_ready(what: dict[str, Any]) -> None:
    print("ready", json.dumps(what), flush=True)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    doing = {"wait": wait, "replay": replay, "idle": idle}[job["do"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(doing(job))))
