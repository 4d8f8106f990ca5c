"""Two agents that use OpenTelemetry, in a process of their own.

`python -m tests.traced_agents SERVER FOLDER THREAD`: the coder posts to the reviewer within a span
of its own, `task`; the reviewer replies, once within another, `review`.
"""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from bus_client import BusClient, InvalidArgument, Post, continue_trace
from threadbus.v1.message_pb2 import WAKE_ALL

tracer = trace.get_tracer("tests")


async def review(bus: BusClient, thread: str, following: asyncio.Event) -> None:
    """Take the first message, and reply to the second: once, at once, and once in a span."""
    handle = await bus.join(thread)
    async with aclosing(handle.follow()) as messages:
        await anext(messages)
        following.set()
        message = await anext(messages)
        await handle.post("at once", reply_to=message.seq)
        with tracer.start_as_current_span("other work"):
            await handle.post("other work")
        with continue_trace(message.traceparent), tracer.start_as_current_span("review"):
            await handle.post("reviewed", reply_to=message.seq)
        await handle.post("after it")
        with continue_trace(""):
            await handle.post("of no trace of ours")


async def main(server: str, folder: Path, thread: str) -> None:
    credentials = folder / "credentials.json"
    async with (
        BusClient(server, agent="coder", credentials=credentials) as coder,
        BusClient(server, agent="reviewer", credentials=credentials) as reviewer,
    ):
        following = asyncio.Event()
        reviewing = asyncio.create_task(review(reviewer, thread, following))
        handle = await coder.join(thread)
        # What a wait gets of the history of its thread has no span: what follows on it has one.
        await handle.post("hello")
        await following.wait()
        with tracer.start_as_current_span("task"):
            await handle.post("please review")
        await reviewing
        assert len(await handle.wait(timeout=20, min_messages=5)) == 5
        await handle.post("thank you")
        with tracer.start_as_current_span("many"):
            results = handle.post_many([Post("a"), Post("b")])
            assert len([each async for each in results]) == 2
            await handle.update(topic="reviewed")
            try:
                await handle.post("again", edit_of=1, wakes=WAKE_ALL)
            except InvalidArgument:
                pass
            else:
                raise AssertionError("it was posted")


if __name__ == "__main__":
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
