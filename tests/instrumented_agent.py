"""An agent that uses OpenTelemetry, and instruments gRPC as OpenTelemetry's instrumentation does.

`python -m tests.instrumented_agent SERVER FOLDER THREAD`: receives a message, and posts twice.
Prints the traceparents that the instrumentation sent with these posts.
"""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from bus_client import BusClient

tracer = trace.get_tracer("instrumentation")


def traced(details: Any) -> Any:
    """Returns the details of a call with the traceparent of a span below the current one."""
    if "/Post" in str(details.method):
        span = tracer.start_span("rpc").get_span_context()
        traceparent = f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
        details.metadata["traceparent"] = traceparent
        print(traceparent)
    return details


class Unary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(traced(client_call_details), request)


class Stream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(traced(client_call_details), request_iterator)


async def main(server: str, folder: Path, thread: str) -> None:
    async with BusClient(server, agent=f"{thread}-agent", credentials=folder / "c.json") as bus:
        handle = await bus.join(thread, start="first")
        assert len(await handle.wait(timeout=20)) == 1
        await handle.post("one")
        assert len([each async for each in handle.post_many(["two"])]) == 1


if __name__ == "__main__":
    trace.set_tracer_provider(TracerProvider())
    interceptors = [Unary(), Stream()]
    grpc.aio.insecure_channel = partial(grpc.aio.insecure_channel, interceptors=interceptors)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
