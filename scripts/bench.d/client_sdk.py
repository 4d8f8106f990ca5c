"""A client that does the same work through the Python SDK and through bare gRPC stubs.

post     posts one by one, `concurrency` in flight
batches  posts through post_many(), or through PostMessages in batches of as many posts
replay   reads a long thread from its first message
follow   receives messages that another process posts, on one stream
wait     receives such messages, with one wait for each

`api` in the job says how: `sdk`, `sync` (the SDK for programs without asyncio), or `raw`: the
generated stubs, with the SDK's channel options, the agent's token, and no checks or retries. All
run on asyncio's own event loop, as most programs do.

The CPU time is that of the whole process, while it does the work.
"""

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
from numbering import content, faults, number_of

import bus_client
import bus_client.sync
from bus_client import Cursor, Message, MessageFilter
from bus_client.channel import open_channel
from bus_client.post import new_request_id
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessageResponse,
    PostMessagesRequest,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

_WARM_UP = 50  # calls
_BATCH, _BATCHES = 100, 4  # posts in a batch, and batches in flight, as in post_many()
_TIMEOUT = 200.0  # seconds

Job = dict[str, Any]


class Work:
    """What was received, and the time and CPU time between begin() and end()."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.arrived: list[float] = []
        self._wall = self._cpu = 0.0

    def begin(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def end(self) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = time.process_time() - self._cpu

    def receive(self, message: Message) -> None:
        """Record a message that arrived now. The first one begins the measured time."""
        self.arrived.append(time.perf_counter())
        self.numbers.append(number_of(message.content))
        if len(self.numbers) == 1:
            self.begin()

    def result(self, **more: Any) -> dict[str, Any]:
        return {"seconds": self._wall, "cpu": self._cpu, "arrived": self.arrived, **more}


@contextlib.asynccontextmanager
async def _handle(job: Job) -> AsyncIterator[bus_client.ThreadHandle]:
    with tempfile.TemporaryDirectory() as folder:
        agent = f"bench-{secrets.token_hex(4)}"
        path = Path(folder) / "credentials.json"
        async with bus_client.BusClient(job["address"], agent=agent, credentials=path) as bus:
            yield await bus.join(job["thread"])


@contextlib.contextmanager
def _sync_handle(job: Job) -> Iterator[bus_client.sync.ThreadHandle]:
    with tempfile.TemporaryDirectory() as folder:
        agent = f"bench-{secrets.token_hex(4)}"
        path = Path(folder) / "credentials.json"
        with bus_client.sync.BusClient(job["address"], agent=agent, credentials=path) as bus:
            yield bus.join(job["thread"])


@contextlib.asynccontextmanager
async def _stub(job: Job) -> AsyncIterator[tuple[Any, tuple[tuple[str, str], ...]]]:
    """Yields a stub, and the metadata with a new agent's token."""
    async with open_channel(job["address"], None) as channel:
        register = AgentServiceStub(channel).RegisterAgent
        agent = await register(RegisterAgentRequest(agent=f"bench-{secrets.token_hex(4)}"))
        yield BusServiceStub(channel), (("authorization", f"Bearer {agent.token}"),)


async def post(job: Job) -> dict[str, Any]:
    async def all_in_turn(work: Work, call: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
        numbers = iter(range(-_WARM_UP, job["count"]))

        async def some(last: int) -> None:
            for number in numbers:
                await call(content(number, job["size"]))
                if number == last:
                    return

        await some(-1)
        work.begin()
        await asyncio.gather(*(some(job["count"]) for _ in range(job["concurrency"])))
        work.end()
        return work.result()

    if job["api"] == "sdk":
        async with _handle(job) as thread:
            return await all_in_turn(Work(), thread.post)
    async with _stub(job) as (bus, metadata):
        return await all_in_turn(
            Work(),
            lambda text: bus.PostMessage(
                PostMessageRequest(thread=job["thread"], content=text, request_id=new_request_id()),
                timeout=10,
                metadata=metadata,
            ),
        )


def post_sync(job: Job) -> dict[str, Any]:
    work = Work()
    with _sync_handle(job) as thread:
        for number in range(-_WARM_UP, job["count"]):
            if not number:
                work.begin()
            thread.post(content(number, job["size"]))
        work.end()
    return work.result()


async def batches(job: Job) -> dict[str, Any]:
    work, texts = Work(), [content(number, job["size"]) for number in range(job["count"])]
    if job["api"] == "sdk":
        async with _handle(job) as thread:
            work.begin()
            seqs = [_seq(posted) async for posted in thread.post_many(texts)]
            work.end()
        return work.result(**faults(seqs, range(seqs[0], seqs[0] + len(texts))))
    seqs, room = [], asyncio.Semaphore(_BATCHES)
    async with _stub(job) as (bus, metadata):
        work.begin()
        call = bus.PostMessages(timeout=_TIMEOUT, metadata=metadata)

        async def write() -> None:
            for first in range(0, len(texts), _BATCH):
                posts = [
                    PostMessageRequest(
                        thread=job["thread"], content=text, request_id=new_request_id()
                    )
                    for text in texts[first : first + _BATCH]
                ]
                await room.acquire()
                await call.write(PostMessagesRequest(posts=posts))
            await call.done_writing()

        writing = asyncio.create_task(write())
        while (response := await call.read()) is not grpc.aio.EOF:
            seqs += [result.response.seq for result in response.results]
            room.release()
        await writing
        work.end()
    return work.result(**faults(seqs, range(seqs[0], seqs[0] + len(texts))))


def batches_sync(job: Job) -> dict[str, Any]:
    work, texts = Work(), [content(number, job["size"]) for number in range(job["count"])]
    with _sync_handle(job) as thread:
        work.begin()
        seqs = [_seq(posted) for posted in thread.post_many(texts)]
        work.end()
    return work.result(**faults(seqs, range(seqs[0], seqs[0] + len(texts))))


def _seq(posted: PostMessageResponse | bus_client.BusError) -> int:
    return 0 if isinstance(posted, bus_client.BusError) else posted.seq


async def replay(job: Job) -> dict[str, Any]:
    work, seqs, count = Work(), list[int](), job["count"]
    if job["api"] == "sdk":
        async with _handle(job) as thread:
            thread.position = Cursor(thread=job["thread"])
            work.begin()
            async with contextlib.aclosing(thread.follow()) as messages:
                async for message in messages:
                    seqs.append(message.seq)
                    if len(seqs) == count:
                        break
            work.end()
        return work.result(**faults(seqs, range(1, count + 1)))
    async with _stub(job) as (bus, metadata):
        work.begin()
        call = bus.WaitMessages(_request(job), timeout=_TIMEOUT, metadata=metadata)
        while len(seqs) < count and (frame := await call.read()) is not grpc.aio.EOF:
            for message in frame.messages.messages:
                seqs.append(message.seq)
        work.end()
        call.cancel()
    return work.result(**faults(seqs, range(1, count + 1)))


def replay_sync(job: Job) -> dict[str, Any]:
    work, seqs, count = Work(), list[int](), job["count"]
    with _sync_handle(job) as thread:
        thread.position = Cursor(thread=job["thread"])
        work.begin()
        with contextlib.closing(thread.follow()) as messages:
            for message in messages:
                seqs.append(message.seq)
                if len(seqs) == count:
                    break
        work.end()
    return work.result(**faults(seqs, range(1, count + 1)))


async def follow(job: Job) -> dict[str, Any]:
    work, count = Work(), job["count"]
    if job["api"] == "sdk":
        async with _handle(job) as thread, contextlib.aclosing(thread.follow()) as messages:
            _say_ready()
            async for message in messages:
                work.receive(message)
                if len(work.numbers) == count:
                    break
            work.end()
    else:
        async with _stub(job) as (bus, metadata):
            call = bus.WaitMessages(_request(job), timeout=_TIMEOUT, metadata=metadata)
            _say_ready()
            while len(work.numbers) < count and (frame := await call.read()) is not grpc.aio.EOF:
                _receive_all(work, frame)
            work.end()
            call.cancel()
    return work.result(**faults(work.numbers, range(count)))


def follow_sync(job: Job) -> dict[str, Any]:
    work, count = Work(), job["count"]
    with _sync_handle(job) as thread, contextlib.closing(thread.follow()) as messages:
        _say_ready()
        for message in messages:
            work.receive(message)
            if len(work.numbers) == count:
                break
        work.end()
    return work.result(**faults(work.numbers, range(count)))


async def wait(job: Job) -> dict[str, Any]:
    work, count = Work(), job["count"]
    if job["api"] == "sdk":
        async with _handle(job) as thread:
            _say_ready()
            while len(work.numbers) < count:
                for message in await thread.wait(timeout=_TIMEOUT):
                    work.receive(message)
            work.end()
    else:
        async with _stub(job) as (bus, metadata):
            request = _request(job)
            request.min_messages = 1
            request.max_wait.FromSeconds(int(_TIMEOUT))
            _say_ready()
            while len(work.numbers) < count:
                call = bus.WaitMessages(request, timeout=_TIMEOUT, metadata=metadata)
                while (frame := await call.read()) is not grpc.aio.EOF:
                    _receive_all(work, frame)
                    if frame.HasField("messages"):
                        request.threads[0].CopyFrom(frame.messages.cursor)
            work.end()
    return work.result(**faults(work.numbers, range(count)))


def _receive_all(work: Work, frame: WaitMessagesResponse) -> None:
    for message in frame.messages.messages:
        work.receive(message)


def _request(job: Job) -> WaitMessagesRequest:
    return WaitMessagesRequest(
        threads=[Cursor(thread=job["thread"])], filter=MessageFilter(exclude_own=True)
    )


def _say_ready() -> None:
    print("ready", flush=True)


_BY_NAME = {"post": post, "batches": batches, "replay": replay, "follow": follow, "wait": wait}
_SYNC_BY_NAME = {
    "post": post_sync,
    "batches": batches_sync,
    "replay": replay_sync,
    "follow": follow_sync,
}

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    if job["api"] == "sync":
        print(json.dumps(_SYNC_BY_NAME[job["do"]](job)))
    else:
        print(json.dumps(asyncio.run(_BY_NAME[job["do"]](job))))
