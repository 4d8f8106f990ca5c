"""A gRPC client that posts to ThreadBus or the floor. It sends bytes, to use little CPU itself.

unary     posts one by one: `concurrency` in flight, or one every `pace` seconds
batches   posts `batch` at a time through PostMessages, `in_flight` batches at once
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc.aio
import uvloop
from numbering import content

from bus_client.channel import open_channel
from bus_client.post import new_request_id
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessagesRequest,
    PostMessagesResponse,
)

_SERVICE = "/threadbus.v1.BusService"


async def unary(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the start time and latency of each post, in seconds, and the failures."""
    count, pace = job["count"], job.get("pace", 0.0)
    requests = [
        b""
        if job.get("empty")
        else PostMessageRequest(
            thread=job["thread"], content=content(number, job["size"])
        ).SerializeToString()
        for number in range(count)
    ]
    began, taken = [0.0] * count, [0.0] * count
    failed: list[str] = []
    async with open_channel(job["address"], None) as channel:
        path = "/floor.Floor/Empty" if job.get("empty") else f"{_SERVICE}/PostMessage"
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        await channel.channel_ready()
        numbers = iter(range(count))

        async def work() -> None:
            due = time.perf_counter()
            for number in numbers:
                if pace:
                    due = max(due + pace, time.perf_counter())
                    await _until(due)
                start = began[number] = time.perf_counter()
                try:
                    await call(requests[number], timeout=30)
                except grpc.aio.AioRpcError as error:
                    failed.append(f"{error.code().name}: {error.details()}")
                taken[number] = time.perf_counter() - start

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(job.get("concurrency", 1))))
        elapsed = time.perf_counter() - start
    return {"seconds": elapsed, "began": began, "taken": taken, "failed": failed}


async def _until(due: float) -> None:
    delay = due - time.perf_counter()
    if delay > 0:
        await asyncio.sleep(delay)


async def batches(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time until all posts had a result, and the failures."""
    sizes, threads = job["sizes"], job["threads"]
    count, batch = job["count"], job["batch"]
    requests = [
        PostMessagesRequest(
            posts=[
                PostMessageRequest(
                    thread=threads[number % len(threads)],
                    content=content(number, sizes[number % len(sizes)]),
                    request_id=new_request_id() if job.get("request_ids") else "",
                )
                for number in range(first, min(first + batch, count))
            ]
        ).SerializeToString()
        for first in range(0, count, batch)
    ]
    answers: list[bytes] = []
    room = asyncio.Semaphore(job["in_flight"])
    async with open_channel(job["address"], None) as channel:
        await channel.channel_ready()
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"{_SERVICE}/PostMessages"
        )
        start = time.perf_counter()
        call = stream(timeout=200)

        async def write() -> None:
            for request in requests:
                await room.acquire()
                await call.write(request)
            await call.done_writing()

        writing = asyncio.create_task(write())
        while (answer := await call.read()) is not grpc.aio.EOF:
            answers.append(answer)
            room.release()
        elapsed = time.perf_counter() - start
        await writing
    failed = [
        result.status.message
        for answer in answers
        for result in PostMessagesResponse.FromString(answer).results
        if result.HasField("status")
    ]
    return {"seconds": elapsed, "answered": len(answers), "failed": failed}


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    doing = {"unary": unary, "batches": batches}[job["do"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(doing(job))))
