"""A NATS JetStream client: publish, wait, replay, with nats-py.

stream    creates a stream with file storage
unary     publishes one by one: `concurrency` in flight, or one every `pace` seconds
batches   publishes many, with `in_flight` unacknowledged
wait      a push subscription, until it has received `count` messages
replay    a pull consumer over the whole stream
"""

import asyncio
import json
import sys
import time
from typing import Any

import nats
import uvloop
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from numbering import content, faults, number_of

_GRACE = 30.0


async def stream(js: JetStreamContext, job: dict[str, Any]) -> dict[str, Any]:
    """Create a stream with file storage."""
    name = job["thread"]
    await js.add_stream(StreamConfig(name=name, subjects=[name], storage=StorageType.FILE))
    return {}


async def unary(js: JetStreamContext, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the start time and latency of each publication, in seconds."""
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
                await js.publish(name, payloads[number], timeout=30)
            except (nats.errors.Error, nats.js.errors.Error) as error:
                failed.append(str(error))
            taken[number] = time.perf_counter() - start

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(job.get("concurrency", 1))))
    elapsed = time.perf_counter() - start
    return {"seconds": elapsed, "began": began, "taken": taken, "failed": failed}


async def batches(js: JetStreamContext, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time until all publications were acknowledged, and the length of the stream."""
    count, name, sizes = job["count"], job["thread"], job["sizes"]
    payloads = [content(number, sizes[number % len(sizes)]).encode() for number in range(count)]
    start = time.perf_counter()
    answers = [await js.publish_async(name, payload) for payload in payloads]
    found = await asyncio.gather(*answers, return_exceptions=True)
    elapsed = time.perf_counter() - start
    failed = [str(answer) for answer in found if isinstance(answer, BaseException)]
    kept = (await js.stream_info(name)).state.messages
    return {"seconds": elapsed, "failed": failed, "kept": kept}


async def wait(js: JetStreamContext, job: dict[str, Any]) -> dict[str, Any]:
    """Returns when each message arrived, on the monotonic clock."""
    count = job["count"]
    arrived, numbers = [0.0] * count, list[int]()
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.NEW)
    subscription = await js.subscribe(job["thread"], config=config)
    print("ready", flush=True)
    give_up = time.perf_counter() + job["seconds"] + _GRACE
    while len(numbers) < count:
        try:
            message = await subscription.next_msg(timeout=give_up - time.perf_counter())
        except nats.errors.TimeoutError:
            break
        now, number = time.perf_counter(), number_of(message.data)
        numbers.append(number)
        if 0 <= number < count:
            arrived[number] = now
    return {"arrived": arrived, **faults(numbers, range(count))}


async def replay(js: JetStreamContext, job: dict[str, Any]) -> dict[str, Any]:
    """Returns the time to receive `count` messages."""
    count, numbers = job["count"], list[int]()
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
    subscription = await js.pull_subscribe(job["thread"], config=config)
    payloads: list[bytes] = []
    start = time.perf_counter()
    while len(payloads) < count:
        try:
            found = await subscription.fetch(1_000, timeout=_GRACE)
        except nats.errors.TimeoutError:
            break
        payloads += [message.data for message in found]
    elapsed = time.perf_counter() - start
    numbers = [number_of(payload) for payload in payloads]
    return {"seconds": elapsed, "got": len(numbers), **faults(numbers, range(count))}


async def _main(job: dict[str, Any]) -> dict[str, Any]:
    doing = {"stream": stream, "unary": unary, "batches": batches, "wait": wait, "replay": replay}
    client = await nats.connect(f"nats://{job['address']}", pending_size=64 * 1024 * 1024)
    try:
        js = client.jetstream(publish_async_max_pending=job.get("in_flight", 4_000), timeout=60)
        return await doing[job["do"]](js, job)
    finally:
        await client.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_main(json.loads(sys.argv[1])))))
