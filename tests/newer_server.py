"""A server of a later version: it sends what the contract allows and today's server does not."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    GetServerInfoResponse,
    MessageBatch,
    WaitEnding,
    WaitKeepalive,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitStarted,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, Cursor, Message, MessageKind
from threadbus.v1.thread_pb2 import ThreadPosition

#: The greatest seq that the contract allows, and that a double holds exactly.
LAST_SEQ = 2**53 - 1


class NewerServer:
    """Three waits on one thread: two that end early in odd ways, and one that completes."""

    def __init__(self) -> None:
        self.address = ""
        #: The requested cursors.
        self.asked: list[Cursor] = []

    async def wait(self, request: WaitMessagesRequest, context: Any) -> None:
        """Serve a WaitMessages call."""
        [asked] = request.threads
        self.asked.append(asked)
        interval = Duration(seconds=45)
        await context.write(WaitMessagesResponse(started=WaitStarted(keepalive_interval=interval)))
        match len(self.asked):
            case 1:
                # A frame, a kind of message and a reason that are not known yet.
                await context.write(WaitMessagesResponse.FromString(b"\xfa\x3e\x01x"))
                await context.write(_messages(asked, 77, LAST_SEQ - 3))
                await context.write(_messages(asked, MESSAGE_KIND_CHAT, LAST_SEQ - 2))
                await context.write(_ending(asked, 77, LAST_SEQ - 1))
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "after the ending")
            case 2:
                # As under overload: refused, without details.
                await context.write(WaitMessagesResponse(keepalive=WaitKeepalive()))
                await context.abort(grpc.StatusCode.CANCELLED, "")
            case _:
                await context.write(_messages(asked, MESSAGE_KIND_CHAT, LAST_SEQ))
                await context.write(_ending(asked, WaitEnding.REASON_THREADS_CLOSED, LAST_SEQ))


def _messages(asked: Cursor, kind: int, seq: int) -> WaitMessagesResponse:
    cursor = Cursor(thread=asked.thread, after_seq=seq, epoch="tomorrow")
    message = Message(
        thread=asked.thread, seq=seq, kind=MessageKind.ValueType(kind), content=f"number {seq}"
    )
    return WaitMessagesResponse(messages=MessageBatch(cursor=cursor, messages=[message]))


def _ending(asked: Cursor, reason: int, seq: int) -> WaitMessagesResponse:
    cursor = Cursor(thread=asked.thread, after_seq=seq, epoch="tomorrow")
    ending = WaitEnding(
        reason=WaitEnding.Reason.ValueType(reason),
        retry_delay=Duration(nanos=10_000_000),
        threads=[ThreadPosition(cursor=cursor)],
    )
    return WaitMessagesResponse(ending=ending)


@contextlib.asynccontextmanager
async def newer_server() -> AsyncIterator[NewerServer]:
    """Run one."""
    newer = NewerServer()

    async def info(_: GetServerInfoRequest, __: Any) -> GetServerInfoResponse:
        return GetServerInfoResponse(agent="anonymous")

    waits: Any = grpc.unary_stream_rpc_method_handler(
        newer.wait, WaitMessagesRequest.FromString, WaitMessagesResponse.SerializeToString
    )
    infos: Any = grpc.unary_unary_rpc_method_handler(
        info, GetServerInfoRequest.FromString, GetServerInfoResponse.SerializeToString
    )
    methods = {"WaitMessages": waits, "GetServerInfo": infos}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("threadbus.v1.BusService", methods)]
    )
    newer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield newer
    finally:
        await server.stop(0)
