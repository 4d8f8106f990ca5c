"""The one road from gRPC to the servicers: parse, identify, call, map errors, serialise."""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from bus_server.auth import Auth, Caller
from bus_server.errors import BusError, Draining, ValidationFailed
from bus_server.status import incident, to_status

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

#: What the call at hand carries as `authorization` metadata. Asking its context for the metadata
#: would convert all of it once more, 3 % of a post.
_authorization: ContextVar[str | bytes | None] = ContextVar("authorization", default=None)


class Road(grpc.GenericRpcHandler):
    """Finds each call's handler in one dictionary.

    The generated way of adding servicers makes grpc.aio wait on one future per method on every
    call; and it parses requests where no error of ours can tell what was wrong with them.
    """

    def __init__(self, auth: Auth, seen: Callable[[str], None]) -> None:
        """`seen` is told who calls, of those with a name of their own."""
        self._auth = auth
        self._seen = seen
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        #: The server is going away: refuse what is new.
        self.draining = False

    def add(self, service: ServiceDescriptor, servicer: object) -> None:
        """Serve a service, all of whose methods the servicer has."""
        for method in service.methods:
            call = getattr(servicer, method.name)
            make: Callable[[MethodDescriptor, Any], grpc.RpcMethodHandler[Any, Any]] = self._unary
            if method.server_streaming:
                make = self._both_ways if method.client_streaming else self._stream
            self._handlers[f"/{service.full_name}/{method.name}"] = make(method, call)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        metadata = handler_call_details.invocation_metadata or ()
        for key, value in metadata:
            if key == "authorization":
                _authorization.set(value)
                break
        return self._handlers.get(handler_call_details.method)

    def _unary(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[Message]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)
        token_needed = method.name != "GetServerInfo"

        async def handle(data: bytes, context: Context) -> bytes:
            try:
                caller = await self._admit(token_needed)
                response = await call(parse(data), caller)
                return response.SerializeToString()
            except BusError as refusal:
                error = refusal
            except Exception as bug:  # noqa: BLE001 - the one place that turns bugs into INTERNAL
                error = incident(method.full_name, bug)
            await _abort(context, error)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _stream(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[None]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)

        # A coroutine that writes, not a generator: a generator that is cancelled in a write is
        # cleaned up in another task.
        async def handle(data: bytes, context: Context) -> None:
            try:
                caller = await self._admit()
                await call(parse(data), caller, context.time_remaining(), context.write)
                return
            except BusError as refusal:
                error = refusal
            except grpc.aio.InternalError:
                return  # the client left in the midst of a write
            except Exception as bug:  # noqa: BLE001 - as above
                error = incident(method.full_name, bug)
            await _abort(context, error)

        return grpc.unary_stream_rpc_method_handler(handle)

    def _both_ways(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[None]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)

        async def handle(requests: AsyncIterator[bytes], context: Context) -> None:
            async def parsed() -> AsyncIterator[Message]:
                async for data in requests:
                    # Its token may have ended since, and the server may be going away.
                    await self._admit()
                    yield parse(data)

            def send(response: Message) -> Awaitable[None]:
                return context.write(response.SerializeToString())

            try:
                caller = await self._admit()
                await call(parsed(), caller, send)
                return
            except BusError as refusal:
                error = refusal
            except grpc.aio.InternalError:
                return  # the client left in the midst of a write
            except Exception as bug:  # noqa: BLE001 - as above
                error = incident(method.full_name, bug)
            await _abort(context, error)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _admit(self, token_needed: bool = True) -> Caller:
        if self.draining:
            raise Draining
        caller = await self._auth.identify(_authorization.get(), token_needed=token_needed)
        if caller.own_name:
            self._seen(caller.own_name)
        return caller


def _parser(method: MethodDescriptor) -> Callable[[bytes], Message]:
    request_type = message_factory.GetMessageClass(method.input_type)

    def parse(data: bytes) -> Message:
        try:
            return request_type.FromString(data)
        except DecodeError:
            raise ValidationFailed(
                ("", f"the bytes are no {method.input_type.full_name} (or its text no UTF-8)")
            ) from None

    return parse


async def _abort(context: Context, error: BusError) -> NoReturn:
    code, message, trailers = to_status(error)
    await context.abort(code, message, trailers)
