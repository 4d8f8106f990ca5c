"""A scripted server, for responses that no real server can be made to send."""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tests.rpcs import RPCS, Rpc
from tests.wait_frames import seconds
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.agent_service_pb2 import (
    EndSessionResponse,
    RegisterAgentRequest,
    RegisterAgentResponse,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoResponse,
    HeartbeatResponse,
    MessageBatch,
    WaitEnding,
    WaitKeepalive,
    WaitMessagesRequest,
    WaitMessagesResponse,
    WaitResync,
    WaitStarted,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, WAKE_UNSPECIFIED, Cursor, Message, Wake
from threadbus.v1.thread_pb2 import ThreadPosition
from threadbus.v1.thread_service_pb2 import JoinThreadRequest, JoinThreadResponse

#: The one thread of every script, and its epoch.
THREAD, EPOCH = "scripted", "epoch-1"


@dataclass(frozen=True, slots=True)
class Failure:
    """A status to fail a call with. Without a reason it is one that gRPC itself might set."""

    code: grpc.StatusCode
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_delay: float | None = None
    fields: Sequence[str] = ()
    domain: str = "threadbus"
    message: str = "as scripted"

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """The error details, serialised."""
        details: list[AnyMessage] = []
        if self.reason:
            details.append(
                ErrorInfo(reason=self.reason, domain=self.domain, metadata=self.metadata)
            )
        if self.retry_delay is not None:
            details.append(RetryInfo(retry_delay=seconds(self.retry_delay)))
        if self.fields:
            violation = BadRequest.FieldViolation
            violations = [violation(field=name, description="wrong") for name in self.fields]
            details.append(BadRequest(field_violations=violations))
        if not details:
            return ()
        status = Status(code=self.code.value[0], message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


#: A frame or response to send (bytes: sent as they are), an event to wait for, or a failure.
Step: TypeAlias = AnyMessage | bytes | asyncio.Event | Failure
Asked = TypeVar("Asked", bound=AnyMessage)


class Script(grpc.GenericRpcHandler):
    """The responses, call by call; and the requests."""

    def __init__(self) -> None:
        self.address = ""
        #: Every request, and when it arrived, on the event loop's clock.
        self.requests: list[tuple[float, AnyMessage]] = []
        #: The agent that was registered last, whose every token is taken to be.
        self._registered = ""
        self._metadata: list[Mapping[str, str]] = []  # that came with them
        self._turns: dict[str, deque[Sequence[Step]]] = defaultdict(deque)
        self._rpcs = {rpc.path: rpc for rpc in RPCS}

    def answer(self, rpc: str, *steps: Step) -> None:
        """Take these steps at the next call of `rpc` that has none yet."""
        self._turns[rpc].append(steps)

    def asked(self, request_type: type[Asked]) -> list[Asked]:
        """Returns the requests of one type, in order of arrival."""
        return [request for _, request in self.requests if isinstance(request, request_type)]

    def tokens(self, request_type: type[AnyMessage]) -> list[str]:
        """Returns the token of each of these requests; empty if there was none."""
        sent = self._sent(request_type, "authorization")
        return [value.removeprefix("Bearer ") for value in sent]

    def traceparents(self, request_type: type[AnyMessage]) -> list[str]:
        """Returns the traceparent of each of these requests; empty if there was none."""
        return self._sent(request_type, "traceparent")

    def _sent(self, request_type: type[AnyMessage], key: str) -> list[str]:
        return [
            metadata.get(key, "")
            for (_, request), metadata in zip(self.requests, self._metadata, strict=True)
            if isinstance(request, request_type)
        ]

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[Any, Any] | None":
        rpc = self._rpcs.get(handler_call_details.method)
        if rpc is None:
            return None
        return self._stream(rpc) if rpc.streams else self._unary(rpc)

    def _unary(self, rpc: Rpc) -> "grpc.RpcMethodHandler[Any, Any]":
        async def handle(data: bytes, context: Any) -> bytes:
            for step in await self._begin(rpc, data, context):
                if isinstance(step, AnyMessage | bytes):
                    return _serialized(step)
                await _perform(step, context)
            raise AssertionError("a unary call needs an answer")

        return grpc.unary_unary_rpc_method_handler(handle)

    def _stream(self, rpc: Rpc) -> "grpc.RpcMethodHandler[Any, Any]":
        async def handle(data: bytes, context: Any) -> None:
            for step in await self._begin(rpc, data, context):
                if isinstance(step, AnyMessage | bytes):
                    await context.write(_serialized(step))
                else:
                    await _perform(step, context)

        return grpc.unary_stream_rpc_method_handler(handle)

    async def _begin(self, rpc: Rpc, data: bytes, context: Any) -> Sequence[Step]:
        request = rpc.request_type.FromString(data)
        self.requests.append((asyncio.get_running_loop().time(), request))
        sent = dict(context.invocation_metadata())
        self._metadata.append(sent)
        if isinstance(request, RegisterAgentRequest):
            self._registered = request.agent
        turns = self._turns[str(rpc)]
        caller = self._registered if "authorization" in sent else ""
        return turns.popleft() if turns else [_usual(request, caller)]


def _serialized(step: AnyMessage | bytes) -> bytes:
    return step if isinstance(step, bytes) else step.SerializeToString()


async def _perform(step: asyncio.Event | Failure, context: Any) -> None:
    if isinstance(step, asyncio.Event):
        await step.wait()
    else:
        await context.abort(step.code, step.message, step.trailers())


def _usual(request: AnyMessage, caller: str) -> Step:
    """Returns the response to calls that are not scripted. `caller`: empty without a token."""
    match type(request).__name__:
        case "GetServerInfoRequest":
            return GetServerInfoResponse(agent=caller or "anonymous")
        case "EndSessionRequest":
            return EndSessionResponse()
        case "HeartbeatRequest":
            return HeartbeatResponse()
        case "JoinThreadRequest":
            assert isinstance(request, JoinThreadRequest)
            return JoinThreadResponse(cursor=Cursor(thread=request.thread, epoch=EPOCH))
        case "RegisterAgentRequest":
            assert isinstance(request, RegisterAgentRequest)
            return RegisterAgentResponse(agent=Agent(name=request.agent), token=request.token)
    return Failure(grpc.StatusCode.UNIMPLEMENTED)


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[Script]:
    """A server on a free port that follows the script."""
    script = Script()
    server = grpc.aio.server()
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.add_generic_rpc_handlers((script,))
    await server.start()
    try:
        yield script
    finally:
        await server.stop(None)


def cursor(seq: int, *, epoch: str = EPOCH) -> Cursor:
    """Returns a position in the scripted thread."""
    return Cursor(thread=THREAD, after_seq=seq, epoch=epoch)


def started(*, keepalive: float = 45.0) -> WaitMessagesResponse:
    """Returns the first frame."""
    return WaitMessagesResponse(started=WaitStarted(keepalive_interval=seconds(keepalive)))


def batch(
    *seqs: int, upto: int = 0, wakes: Wake.ValueType = WAKE_UNSPECIFIED
) -> WaitMessagesResponse:
    """Returns a frame of messages, whose content is their seq; its cursor may be further."""
    fields: dict[str, Any] = {"thread": THREAD, "sender": "someone", "wakes": wakes}
    messages = [
        Message(seq=seq, content=str(seq), kind=MESSAGE_KIND_CHAT, **fields) for seq in seqs
    ]
    return WaitMessagesResponse(
        messages=MessageBatch(cursor=cursor(upto or seqs[-1]), messages=messages)
    )


def caught_up(seq: int) -> WaitMessagesResponse:
    """Returns the frame that ends the history, up to here."""
    return WaitMessagesResponse(caught_up=ThreadPosition(cursor=cursor(seq)))


def keepalive(seq: int) -> WaitMessagesResponse:
    """Returns a keepalive: everything up to here was skipped."""
    positions = [ThreadPosition(cursor=cursor(seq))]
    return WaitMessagesResponse(keepalive=WaitKeepalive(threads=positions))


def ending(
    reason: WaitEnding.Reason.ValueType, *, upto: int, retry_delay: float | None = None
) -> WaitMessagesResponse:
    """Returns the last frame."""
    return WaitMessagesResponse(
        ending=WaitEnding(
            reason=reason,
            threads=[ThreadPosition(cursor=cursor(upto))],
            retry_delay=None if retry_delay is None else seconds(retry_delay),
        )
    )


def last_batch(*seqs: int) -> list[WaitMessagesResponse]:
    """Returns the frames of a wait that delivers these messages and the thread's closing."""
    closed = ending(WaitEnding.REASON_THREADS_CLOSED, upto=seqs[-1])
    return [started(), batch(*seqs), closed]


def lost(requested: Cursor, position: Cursor) -> WaitMessagesResponse:
    """Returns the resync of a cursor of another epoch; the wait continues at `position`."""
    return WaitMessagesResponse(
        resync=WaitResync(
            reason=WaitResync.REASON_EPOCH_CHANGED,
            requested=requested,
            position=ThreadPosition(cursor=position),
        )
    )


def asked_from(script: Script) -> list[int]:
    """Returns the seq of the scripted thread after which each wait was to start."""
    requests = script.asked(WaitMessagesRequest)
    assert all([at.thread for at in request.threads] == [THREAD] for request in requests)
    return [request.threads[0].after_seq for request in requests]
