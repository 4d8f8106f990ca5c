"""A Redis Streams client: add, wait, replay, with redis-py and hiredis.

unary     adds one by one: `concurrency` in flight, or one every `pace` seconds
batches   adds `batch` in a pipeline, `in_flight` pipelines at once
wait      blocking XREAD, until it has received `count` messages
replay    XRANGE over the whole stream
"""

import asyncio
import json
import sys
import time
from typing import Any

import redis.asyncio as redis
import uvloop
from numbering import content, faults, number_of

_GRACE = 30.0


async def unary(client: redis.Redis, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the start time and latency of each addition, in seconds."""
    count, pace, name = job["count"], job.get("pace", 0.0), job["thread"]
    payloads = [content(number, job["size"]).encode() for number in range(count)]
    began, taken = [0.0] * count, [0.0] * count
    failed: list[str] = []
    numbers = iter(range(count))

    async def work() -> None:
        due = time.perf_counter()
        for number in numbers:
            if pace:
                due = max(due + pace, time.perf_counter())
                await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            start = began[number] = time.perf_counter()
            try:
                await client.xadd(name, {"c": payloads[number]})
            except redis.RedisError as error:
                failed.append(str(error))
            taken[number] = time.perf_counter() - start

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(job.get("concurrency", 1))))
    elapsed = time.perf_counter() - start
    return {"seconds": elapsed, "began": began, "taken": taken, "failed": failed}


async def batches(client: redis.Redis, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time until all additions had a result, and the length of the stream."""
    count, batch, name, sizes = job["count"], job["batch"], job["thread"], job["sizes"]
    payloads = [content(number, sizes[number % len(sizes)]).encode() for number in range(count)]
    failed: list[str] = []
    firsts = iter(range(0, count, batch))

    async def work() -> None:
        for first in firsts:
            pipeline = client.pipeline(transaction=False)
            for payload in payloads[first : first + batch]:
                pipeline.xadd(name, {"c": payload})
            found = await pipeline.execute(raise_on_error=False)
            failed.extend(str(answer) for answer in found if isinstance(answer, Exception))

    if job.get("unsynced"):
        await client.config_set("appendfsync", "no")
    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(job["in_flight"])))
    elapsed = time.perf_counter() - start
    if job.get("unsynced"):
        await client.config_set("appendfsync", "always")
    return {"seconds": elapsed, "failed": failed, "kept": await client.xlen(name)}


async def wait(client: redis.Redis, job: dict[str, Any]) -> dict[str, Any]:
    """Returns when each message arrived, on the monotonic clock."""
    count, name = job["count"], job["thread"]
    arrived, numbers = [0.0] * count, list[int]()
    last: bytes | str = "0-0"
    if await client.exists(name):
        last = (await client.xinfo_stream(name))["last-generated-id"]
    print("ready", flush=True)
    give_up = time.perf_counter() + job["seconds"] + _GRACE
    while len(numbers) < count and time.perf_counter() < give_up:
        found = await client.xread({name: last}, count=1_000, block=1_000)
        now = time.perf_counter()
        for _, entries in found:
            for last, fields in entries:  # noqa: B007 - read on from the last one
                number = number_of(fields[b"c"])
                numbers.append(number)
                if 0 <= number < count:
                    arrived[number] = now
    return {"arrived": arrived, **faults(numbers, range(count))}


async def replay(client: redis.Redis, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time to receive `count` messages."""
    count, name, payloads = job["count"], job["thread"], list[bytes]()
    after: bytes | str = "-"
    start = time.perf_counter()
    while True:
        found = await client.xrange(name, min=after, count=1_000)
        if not found:
            break
        payloads += [fields[b"c"] for _, fields in found]
        after = b"(" + found[-1][0]
    elapsed = time.perf_counter() - start
    numbers = [number_of(payload) for payload in payloads]
    return {"seconds": elapsed, "got": len(numbers), **faults(numbers, range(count))}


async def _main(job: dict[str, Any]) -> dict[str, Any]:
    doing = {"unary": unary, "batches": batches, "wait": wait, "replay": replay}
    host, _, port = job["address"].rpartition(":")
    async with redis.Redis(host=host, port=int(port), socket_timeout=60) as client:
        await client.ping()
        return await doing[job["do"]](client, job)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_main(json.loads(sys.argv[1])))))
