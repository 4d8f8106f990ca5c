"""A gRPC client that waits, on ThreadBus or the floor.

wait     `waits` waits on one thread, until each has the messages 0 … `count` - 1
replay   one wait over a long thread, from its first message to `count`
frames   the floor's ready frames
idle     `waits` waits on `threads`, opened at once and held until told to end
"""

import asyncio
import contextlib
import json
import struct
import sys
import time
from collections import Counter
from typing import Any

import grpc.aio
import uvloop
from numbering import faults, number_of

from bus_client.channel import open_channel
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor

_PATH = "/threadbus.v1.BusService/WaitMessages"
_ON_A_CONNECTION = 100  # idle waits, as many as the SDK opens on one
_GRACE = 30.0  # seconds for what is still to come


async def wait(job: dict[str, Any]) -> dict[str, Any]:
    """When the last wait had each message, on the monotonic clock; what was lost or came twice."""
    count, waits = job["count"], job["waits"]
    arrived = [0.0] * count
    got: list[Counter[int]] = [Counter() for _ in range(waits)]
    opened = asyncio.Semaphore(0)
    request = _request(job["thread"])

    async def read(own: Counter[int]) -> None:
        call = channel.unary_stream(_PATH)(request)
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

    async with open_channel(job["address"]) as channel:
        reading = [asyncio.create_task(read(own)) for own in got]
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
    """How long it took to have `count` messages: parsed as they come, or only taken in."""
    count, frames = job["count"], list[Any]()
    got = 0
    async with open_channel(job["address"]) as channel:
        await channel.channel_ready()
        request = WaitMessagesRequest(
            threads=[Cursor(thread=job["thread"], after_seq=0)], max_messages=count
        ).SerializeToString()
        parser = WaitMessagesResponse.FromString if job["parse"] else None
        start = time.perf_counter()
        call = channel.unary_stream(_PATH, response_deserializer=parser)(request, timeout=200)
        while (frame := await call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        elapsed = time.perf_counter() - start
    seqs: Counter[int] = Counter()
    for frame in frames:
        response = frame if job["parse"] else WaitMessagesResponse.FromString(frame)
        seqs.update(message.seq for message in response.messages.messages)
        got += len(response.messages.messages)
    return {"seconds": elapsed, "got": got, **faults(seqs.elements(), range(1, count + 1))}


async def frames(job: dict[str, Any]) -> dict[str, Any]:
    """How long the floor takes for its frames."""
    count = 0
    async with open_channel(job["address"]) as channel:
        await channel.channel_ready()
        start = time.perf_counter()
        call = channel.unary_stream("/floor.Floor/Frames")(
            struct.pack(">II", job["count"], job["size"]), timeout=200
        )
        while (await call.read()) is not grpc.aio.EOF:
            count += 1
        elapsed = time.perf_counter() - start
    return {"seconds": elapsed, "got": count}


async def idle(job: dict[str, Any]) -> dict[str, Any]:
    """How many waits were refused, and how many broke while they were held."""
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
            channel = open_channel(job["address"], connection=number)
            channels.append(await stack.enter_async_context(channel))
            await channel.channel_ready()
        await asyncio.gather(*(open_one(number) for number in range(job["waits"])))
        _say_ready({"open": len(calls), "refused": dict(refused)})
        # What comes meanwhile, keepalives, is left to gRPC: nobody need read it.
        await asyncio.to_thread(sys.stdin.readline)
        broken = sum(call.done() for call in calls)
        for call in calls:
            call.cancel()
    return {"open": len(calls), "refused": dict(refused), "broken": broken}


def _request(thread: str) -> bytes:
    return WaitMessagesRequest(threads=[Cursor(thread=thread, after_seq=0)]).SerializeToString()


def _say_ready(what: dict[str, Any]) -> None:
    print("ready", json.dumps(what), flush=True)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    doing = {"wait": wait, "replay": replay, "frames": frames, "idle": idle}[told["do"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(doing(told))))
