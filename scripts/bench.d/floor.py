"""The floor: a bare grpc.aio server on uvloop that stores nothing, with ThreadBus' gRPC options.

Empty        returns an empty response, without parsing
PostMessage  parses the request, awaits one future and builds the response
Frames       writes prepared frames; the request says how many and of what size
Open         writes one frame and stays open
WaitMessages writes one frame, and a prepared one for each post: the least that a wake-up can cost
"""

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import uvloop

from bus_server.server import channel_options
from bus_server.settings import Settings
from threadbus.v1.bus_service_pb2 import (
    MessageBatch,
    PostMessageRequest,
    PostMessageResponse,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.message_pb2 import Cursor, Message

Context = Any
_EPOCH = "0123456789abcdef"


class Floor(grpc.GenericRpcHandler):
    """The generic handler: looks up methods in one dictionary, as ThreadBus does."""

    def __init__(self) -> None:
        self._seq = 0
        self._readers = 0
        self._posted = asyncio.Condition()
        self._frame = b""
        self._handlers = {
            "/floor.Floor/Empty": grpc.unary_unary_rpc_method_handler(_empty),
            "/threadbus.v1.BusService/PostMessage": grpc.unary_unary_rpc_method_handler(self._post),
            "/threadbus.v1.BusService/WaitMessages": grpc.unary_stream_rpc_method_handler(
                self._wait
            ),
            "/floor.Floor/Frames": grpc.unary_stream_rpc_method_handler(_frames),
            "/floor.Floor/Open": grpc.unary_stream_rpc_method_handler(_open),
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._handlers.get(handler_call_details.method)

    async def _post(self, data: bytes, _: Context) -> bytes:
        request = PostMessageRequest.FromString(data)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self._seq += 1
        if self._readers:
            async with self._posted:
                self._frame = message_frame(self._seq, request.content)
                self._posted.notify_all()
        loop.call_soon(answer.set_result, self._seq)
        seq = await answer
        response = PostMessageResponse(
            thread=request.thread, seq=seq, last_seq=seq, epoch=_EPOCH, deduplicated=False
        )
        response.create_time.FromMicroseconds(1_750_000_000_000_000)
        return response.SerializeToString()

    async def _wait(self, _: bytes, context: Context) -> None:
        await context.write(WaitMessagesResponse(started=WaitStarted()).SerializeToString())
        seen = self._seq
        self._readers += 1
        try:
            while True:
                async with self._posted:
                    while self._seq == seen:
                        await self._posted.wait()
                seen = self._seq
                await context.write(self._frame)
        finally:
            self._readers -= 1


async def _empty(_: bytes, __: Context) -> bytes:
    return b""


async def _frames(data: bytes, context: Context) -> None:
    count, size = struct.unpack(">II", data)
    frame = message_frame(1, "x" * size)
    write: Callable[[bytes], Awaitable[None]] = context.write
    for _ in range(count):
        await write(frame)


async def _open(_: bytes, context: Context) -> None:
    await context.write(WaitMessagesResponse(started=WaitStarted()).SerializeToString())
    await asyncio.get_running_loop().create_future()


def message_frame(seq: int, content: str) -> bytes:
    """Returns a WaitMessagesResponse with one message, serialised."""
    message = Message(
        thread="bench", seq=seq, sender="anonymous", content=content, priority=2, kind=1
    )
    message.create_time.FromMicroseconds(1_750_000_000_000_000)
    batch = MessageBatch(
        cursor=Cursor(thread="bench", after_seq=seq, epoch=_EPOCH), messages=[message]
    )
    return WaitMessagesResponse(messages=batch).SerializeToString()


async def _serve() -> None:
    server = grpc.aio.server(options=channel_options(Settings()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_generic_rpc_handlers((Floor(),))
    await server.start()
    sys.stdout.write(f"listening on 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
