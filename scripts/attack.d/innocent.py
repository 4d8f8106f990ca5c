"""The innocent agent during an attack: innocent.py PORT IDLE_SECONDS, with its token on stdin.

It posts every 20 ms through one connection, without waiting for the previous post, each post with
a deadline of 2 s. It waits on the same thread through another connection. It prints `idle` and the
figures without an attack. From the line `attack` to the line `end` it measures again, and then
prints those figures.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import uvloop

from threadbus.v1.bus_service_pb2 import PostMessageRequest, WaitMessagesRequest
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

_THREAD = "innocent"
_PACE = 0.02  # seconds
_DEADLINE = 2.0  # seconds
_WARM_UP = 0.5  # seconds of warm-up
#: Seconds after the end of the attack within which it must have received its last post.
_SEEN = 10.0


@dataclass(slots=True)
class Phase:
    """The measurements of a period."""

    taken: list[float] = field(default_factory=list)
    #: The number of failed calls by status code.
    failed: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """Returns the latencies of its calls, including failed ones, in milliseconds."""
        taken = sorted(self.taken)

        def at(share: float) -> float:
            return 1000 * taken[min(len(taken) - 1, int(share * len(taken)))] if taken else 0.0

        return {
            **{"calls": len(taken), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
            "failed": dict(self.failed),
        }


class Innocent:
    """The innocent agent: posts to a thread and waits on it."""

    def __init__(self, posts: grpc.aio.Channel, waits: grpc.aio.Channel, token: str) -> None:
        self._posts, self._waits = BusServiceStub(posts), BusServiceStub(waits)
        self._threads = ThreadServiceStub(posts)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._acknowledged: dict[int, str] = {}
        self._seen: list[tuple[int, str]] = []
        self._came = asyncio.Event()
        self._count = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self.phase = Phase()

    async def create(self) -> None:
        """Create its thread."""
        request = CreateThreadRequest(thread=_THREAD)
        await self._threads.CreateThread(request, metadata=self._metadata, timeout=10)

    async def post(self) -> None:
        """Post every 20 ms, until cancelled."""
        due = time.monotonic()
        while True:
            self._count += 1
            task = asyncio.create_task(self._post(str(self._count), self.phase))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
            due = max(due + _PACE, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _post(self, content: str, phase: Phase) -> None:
        request = PostMessageRequest(thread=_THREAD, content=content, request_id=content)
        start = time.monotonic()
        try:
            answer = await self._posts.PostMessage(
                request, metadata=self._metadata, timeout=_DEADLINE
            )
        except grpc.aio.AioRpcError as error:
            phase.failed[error.code().name] += 1
        else:
            self._acknowledged[answer.seq] = content
        phase.taken.append(time.monotonic() - start)

    async def wait(self) -> None:
        """Wait from the start of the thread. When a wait ends, continue from its cursor."""
        cursor = Cursor(thread=_THREAD)
        while True:
            request = WaitMessagesRequest(threads=[cursor])
            try:
                async for frame in self._waits.WaitMessages(request, metadata=self._metadata):
                    if frame.HasField("messages"):
                        cursor = frame.messages.cursor
                        self._seen += [(each.seq, each.content) for each in frame.messages.messages]
                        self._came.set()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)

    async def all_seen(self) -> str:
        """Wait for all acknowledged posts. Returns what is wrong with the posts received."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEEN):
                while self._acknowledged.items() - dict(self._seen).items():
                    self._came.clear()
                    await self._came.wait()
        seqs = [seq for seq, _ in self._seen]
        if missing := len(self._acknowledged.items() - dict(self._seen).items()):
            return f"{missing} acknowledged posts were not received"
        if seqs != list(range(1, len(seqs) + 1)):
            return "posts were not received once each, in order"
        if len({content for _, content in self._seen}) != len(seqs):
            return "a post is stored twice"
        return ""


async def main() -> None:
    port, idle = int(sys.argv[1]), float(sys.argv[2])
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    token = (await lines.readline()).decode().strip()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    options.append(("grpc.max_reconnect_backoff_ms", 1_000))
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as posts,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as waits,
    ):
        innocent = Innocent(posts, waits, token)
        await innocent.create()
        waiting = asyncio.create_task(innocent.wait())
        posting = asyncio.create_task(innocent.post())
        await asyncio.sleep(_WARM_UP)
        innocent.phase = quiet = Phase()
        await asyncio.sleep(idle)
        print(json.dumps(quiet.figures()), flush=True)
        await lines.readline()
        innocent.phase = attacked = Phase()
        await lines.readline()
        posting.cancel()
        wrong = await innocent.all_seen()
        waiting.cancel()
        print(json.dumps({**attacked.figures(), "wrong": wrong}), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
