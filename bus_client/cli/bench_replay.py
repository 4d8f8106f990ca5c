"""The replay benchmark of `threadbus bench`: fills a thread in batches, then reads it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import bus_client
from bus_client.cli.bench_results import Result, Tally, content, number_of
from bus_client.cli.bench_runs import Bench, Clock, from_start

if TYPE_CHECKING:
    from google.rpc.status_pb2 import Status

    from threadbus.v1.bus_service_pb2 import PostMessagesRequest

#: Posts in a batch, and bytes of them.
_BATCH, _BATCH_BYTES = 100, 2 * 1024 * 1024
#: What is posted at most: it is kept in memory while it is read.
_MOST, _MOST_BYTES = 100_000, 64 * 1024 * 1024
#: Seconds that reading may take.
_PATIENCE = 60.0


async def replay(bench: Bench) -> Result:
    """Messages/s of a wait that begins at the first message of a long thread."""
    began = time.perf_counter()
    filled = await _fill(bench)
    fill_seconds = time.perf_counter() - began
    thread, tally = from_start(bench), Tally()
    head = (await thread.refresh()).head_seq
    began = time.perf_counter()
    messages = await thread.wait(timeout=_PATIENCE, min_messages=head, include_own=True)
    elapsed = time.perf_counter() - began
    tally.got.update(number_of(message.content) for message in messages)
    return Result(
        name="replay",
        what=(
            f"{filled:,} messages of {bench.load.size:,} bytes in one wait; "
            f"posted in batches at {filled / fill_seconds:,.0f}/s"
        ),
        figures={"messages_per_s": len(messages) / elapsed},
        count=filled,
        lost=tally.lost(range(filled)),
        duplicated=tally.duplicated(),
    )


async def _fill(bench: Bench) -> int:
    """Fills the thread; answers with how many messages."""
    import grpc.aio

    from bus_client.channel import open_channel
    from bus_client.status import from_rpc_error
    from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

    batches = _batches(bench)
    metadata = (("authorization", f"Bearer {bench.token}"),) if bench.token else ()
    posted = 0
    async with open_channel(bench.poster.server) as channel:
        call = BusServiceStub(channel).PostMessages(batches, metadata=metadata)
        try:
            async for response in call:
                for result in response.results:
                    if result.HasField("status"):
                        raise _refused(result.status)
                posted += len(response.results)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
    return posted


async def _batches(bench: Bench) -> AsyncIterator[PostMessagesRequest]:
    from threadbus.v1.bus_service_pb2 import PostMessageRequest, PostMessagesRequest

    size, clock = bench.load.size, Clock(bench)
    batch = max(min(_BATCH, _BATCH_BYTES // size), 1)
    most = min(_MOST, _MOST_BYTES // size)
    for first in range(0, most, batch):
        if not clock.running():
            return
        yield PostMessagesRequest(
            posts=[
                PostMessageRequest(thread=bench.thread, content=content(number, size))
                for number in range(first, first + batch)
            ]
        )


def _refused(status: Status) -> bus_client.BusError:
    import grpc

    code = next((code.name for code in grpc.StatusCode if code.value[0] == status.code), "UNKNOWN")
    return bus_client.BusError(status.message, code=code)
