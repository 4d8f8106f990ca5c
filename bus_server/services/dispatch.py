"""From gRPC to the servicers: authenticate, read, parse, call, translate errors, serialize."""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import functools
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from bus_server import fair_queue
from bus_server.auth import MAX_KNOWN_CALLERS, Auth, Caller
from bus_server.budget import SMALL, Budget
from bus_server.errors import BusError, ValidationFailed
from bus_server.services.outlet import Outlet
from bus_server.services.request_reader import Context, PendingReads, RequestReader
from bus_server.settings import MAX_CALL_BYTES
from bus_server.status import abort, incident

#: Unary methods whose answers can be large.
_LARGE_RESPONSES = frozenset(
    (
        *("GetMessage", "JoinThread", "ListAgents", "ListMessages", "ListParticipants"),
        *("ListThreads", "ListWaits"),
    )
)

#: Answers that may be large are made so many at a time; each is there three times meanwhile.
MAX_LARGE_RESPONSES = 6

#: What the call at hand carries as `authorization` metadata. Asking its context for the metadata
#: would convert all of it once more, 3 % of a post.
_authorization: ContextVar[str | bytes | None] = ContextVar("authorization", default=None)


class Authorization(grpc.aio.ServerInterceptor):
    """Keeps what each call carries as `authorization` for its handler."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        found = None
        for key, value in handler_call_details.invocation_metadata or ():
            if key == "authorization":
                if found is not None and value != found:
                    found = ", ".join(map(str, (found, value)))  # as HTTP joins them
                    break
                found = value
        if found is not None:
            _authorization.set(found)
        return await continuation(handler_call_details)


class Dispatcher(grpc.GenericRpcHandler):
    """Finds each call's handler in one dictionary.

    The generated way of adding servicers makes grpc.aio wait on one future per method on every
    call; and it parses requests where no error of ours can tell what was wrong with them.

    Every method is registered as taking a stream of requests, so that the caller is authenticated
    and room reserved before the request is read, and a refused call is reset at once even if its
    request is incomplete. This costs no more than a unary handler.
    """

    def __init__(
        self,
        auth: Auth,
        record_activity: Callable[[str], None],
        pending_reads: PendingReads,
        unread: Budget,
    ) -> None:
        """
        Args:
            record_activity: called with the name of each named caller.
            pending_reads: tracks requests that are being read.
            unread: budget for responses and frames that callers have not read.
        """
        self._auth = auth
        self._record_activity = record_activity
        self._pending = pending_reads
        self._unread = unread
        self._building = Budget(
            MAX_LARGE_RESPONSES * MAX_CALL_BYTES, timeout=unread.timeout, what="making its answer"
        )
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        #: Callers without a name, by their connection.
        self._anonymous: dict[str, Caller] = {}
        #: Makes the error that every call is refused with once the server is going away.
        self.refusal: Callable[[], BusError] | None = None
        #: How many calls were refused with it.
        self.refused_calls = 0

    def add(self, service: ServiceDescriptor, servicer: object) -> None:
        """Serve a service, all of whose methods the servicer has."""
        for method in service.methods:
            call = getattr(servicer, method.name)
            make: Callable[[MethodDescriptor, Any], grpc.RpcMethodHandler[Any, Any]] = self._unary
            if method.server_streaming:
                make = self._both_ways if method.client_streaming else self._stream
            self._handlers[f"/{service.full_name}/{method.name}"] = make(method, call)

    def add_handlers(self, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """Serve methods by their paths."""
        self._handlers |= handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is None and path.startswith("/threadbus."):
            return _unimplemented(path)
        return handler  # gRPC answers calls of other services itself, which costs less

    def registered_handlers(self) -> Mapping[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]]:
        """Handlers, by service, of the methods that get an accept queue of their own in gRPC.

        grpc.aio accepts one call per queue in each iteration of the event loop.
        """
        service, method = "threadbus.v1.BusService", "PostMessage"
        return {service: {method: self._handlers[f"/{service}/{method}"]}}

    def _unary(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[Message]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)
        token_needed = method.name != "GetServerInfo"
        large = method.name in _LARGE_RESPONSES

        async def handle(_: object, context: Context) -> bytes:
            reader = None
            try:
                caller = await self._admit(context, token_needed)
                reader = RequestReader(self._pending, context, caller.fairness_key)
                request = parse(await reader.receive())
                if large:
                    return await self._respond_large(
                        functools.partial(call, request, caller), context
                    )
                answering = call(request, caller)
                del request  # the call keeps what it needs
                return (await answering).SerializeToString()
            except BusError as refusal:
                error = refusal.without_traceback()
            except Exception as bug:  # noqa: BLE001 - the one place that turns bugs into INTERNAL
                error = incident(method.full_name, bug)
            finally:
                if reader is not None:
                    reader.close()
            await abort(context, error)

        return grpc.stream_unary_rpc_method_handler(handle)

    def _stream(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[None]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)

        # A coroutine that writes, not a generator: a generator that is cancelled in a write is
        # cleaned up in another task.
        async def handle(_: object, context: Context) -> None:
            outlet = None
            try:
                caller = await self._admit(context)
                outlet = Outlet(self._unread, caller.fairness_key, context.write)
                reader = RequestReader(self._pending, context, caller.fairness_key)
                try:
                    request = parse(await reader.receive())
                finally:
                    reader.close()  # the call keeps little of it
                waiting = call(
                    request, caller, context.time_remaining(), outlet, _peer_address(context.peer())
                )
                del reader, request
                await waiting
                return
            except BusError as refusal:
                error = refusal.without_traceback()
            except grpc.aio.InternalError:
                return  # the client left in the midst of a write
            except Exception as bug:  # noqa: BLE001 - as above
                error = incident(method.full_name, bug)
            finally:
                if outlet is not None:
                    outlet.close()
            await abort(context, error)

        return grpc.stream_stream_rpc_method_handler(handle)

    def _both_ways(
        self, method: MethodDescriptor, call: Callable[..., Awaitable[None]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = _parser(method)

        async def handle(_: object, context: Context) -> None:
            reader = outlet = None
            try:
                caller = await self._admit(context)
                reader = RequestReader(self._pending, context, caller.fairness_key, stream=True)
                outlet = Outlet(self._unread, caller.fairness_key, context.write)
                admit = functools.partial(self._admit, context)
                await call(Requests(reader, parse, admit), caller, outlet)
                return
            except BusError as refusal:
                error = refusal.without_traceback()
            except grpc.aio.InternalError:
                return  # the client left in the midst of a write
            except Exception as bug:  # noqa: BLE001 - as above
                error = incident(method.full_name, bug)
            finally:
                if reader is not None:
                    reader.close()
                if outlet is not None:
                    outlet.close()
            await abort(context, error)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _respond_large(
        self, call: Callable[[], Awaitable[Message]], context: Context
    ) -> bytes:
        """Make a call whose response may be large. Returns the response, serialized.

        It counts against the budget until the caller has read it. Without room it is dropped and
        the call, which is idempotent, repeated once there is. Raises StoreBusy.
        """
        caller, held = fair_queue.fairness_key.get(), 0
        try:
            while True:
                if not self._building.take_now(caller, MAX_CALL_BYTES):
                    await self._building.take(caller, MAX_CALL_BYTES)
                try:
                    answer = (await call()).SerializeToString()
                finally:
                    self._building.give(caller, MAX_CALL_BYTES)
                size = len(answer) if len(answer) > SMALL else 0
                if held or not size or self._unread.take_now(caller, size):
                    break
                del answer
                await self._unread.take(caller, size)
                held = size
        except BaseException:
            self._unread.give(caller, held)
            raise
        if held:
            self._unread.change(caller, size - held)
        if size:
            read: Any = functools.partial(self._release, caller, size)
            context.add_done_callback(read)
        return answer

    def _release(self, caller: str, size: int, _: object) -> None:
        """Release a large response: the caller has read it, or the call was cancelled."""
        self._unread.give(caller, size)

    async def _admit(self, context: Context, token_needed: bool = True) -> Caller:
        if self.refusal is not None:
            self.refused_calls += 1
            raise self.refusal()
        caller = await self._auth.authenticate(_authorization.get(), token_needed=token_needed)
        if caller.own_name:
            self._record_activity(caller.own_name)
        else:
            caller = self._by_connection(caller, context.peer())
        fair_queue.fairness_key.set(caller.fairness_key)
        return caller

    def _by_connection(self, caller: Caller, connection: str) -> Caller:
        """Returns the anonymous caller of a connection."""
        known = self._anonymous.get(connection)
        if known is None or known.scopes != caller.scopes:
            if len(self._anonymous) >= MAX_KNOWN_CALLERS:
                self._anonymous.clear()
            known = self._anonymous[connection] = replace(caller, connection=connection)
        return known


def _unimplemented(path: str) -> grpc.RpcMethodHandler[Any, Any]:
    """Returns the handler of calls to a method that this version of the server does not have."""

    async def handle(_: object, context: Context) -> None:
        # Without ErrorInfo: the status code says it all, to every client.
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"there is no method {path[:100]} here: if the name is right, this server is older "
            "than the client; upgrade it (GetServerInfo tells its version)",
        )

    return grpc.stream_stream_rpc_method_handler(handle)


class Requests:
    """The requests of a stream, as they are parsed."""

    def __init__(
        self,
        reader: RequestReader,
        parse: Callable[[bytes | None], Message],
        admit: Callable[[], Awaitable[Caller]],
    ) -> None:
        self._reader = reader
        self._parse = parse
        self._admit = admit
        self._size = 0

    async def receive(self) -> Message | None:
        """Returns the next request, None at the end of the stream. Raises BusError."""
        data = await self._reader.receive()
        if data is None:
            return None
        # The caller's token may have ended since, and the server may be going away.
        await self._admit()
        self._size = len(data)
        return self._parse(data)

    def handled_last(self) -> Callable[[], None]:
        """Returns a function to call once the request received last is handled."""
        return functools.partial(self._reader.handled, self._size)


def _peer_address(peer: str) -> str:
    """Where a connection comes from, as people write it: gRPC says `ipv6:%5B::1%5D:40312`."""
    kind, _, address = urllib.parse.unquote(peer).partition(":")
    return kind if kind == "unix" else address


def _parser(method: MethodDescriptor) -> Callable[[bytes | None], Message]:
    request_type = message_factory.GetMessageClass(method.input_type)

    def parse(data: bytes | None) -> Message:
        if data is None:
            raise ValidationFailed(("", "the call carries no request"))
        try:
            return request_type.FromString(data)
        except DecodeError:
            raise ValidationFailed(
                ("", f"the bytes are no {method.input_type.full_name} (or its text no UTF-8)")
            ) from None

    return parse
