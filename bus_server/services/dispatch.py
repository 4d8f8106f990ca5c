"""Dispatches calls to servicers: authenticates, reads, parses, translates errors, serialises."""

from __future__ import annotations  # the stubs have type parameters that grpc's classes lack

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from bus_server import fair_queue
from bus_server.audit import Audit
from bus_server.auth import MAX_KNOWN_CALLERS, Auth, Caller
from bus_server.budget import SMALL, Budget
from bus_server.errors import (
    AccessDenied,
    AgentExists,
    BusError,
    ContentBlocked,
    MethodUnknown,
    ThreadNotFound,
    TokenExpired,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.permissions import RULES, Rule
from bus_server.services.audited import Event, audited
from bus_server.services.call import Call, FinishedCall, Method, Observer, Serve
from bus_server.services.call_metadata import authorization
from bus_server.services.peer import is_here, peer_address
from bus_server.services.request_reader import Context, PendingReads, RequestReader
from bus_server.statistics import MethodStatistics, Statistics
from bus_server.status import TABLE, abort, incident
from threadbus.limits import MAX_CALL_BYTES

if TYPE_CHECKING:
    from bus_server.tracing import Tracing

#: Unary methods whose responses can be large.
_LARGE_RESPONSES = frozenset(
    (
        *("GetMessage", "JoinThread", "ListAgents", "ListMessages", "ListParticipants"),
        *("ListThreads", "ListWaits"),
    )
)

#: Maximum number of large responses that are built at a time. While a response is built, there are
#: three copies of it in memory.
MAX_LARGE_RESPONSES = 6

#: The refusals that are in the audit log.
AUDITED = (TokenInvalid, TokenExpired, AccessDenied, AgentExists, ContentBlocked)

#: The names of status codes in Go, which dashboards expect in metrics.
_LABELS = {code: code.name.title().replace("_", "") for code in grpc.StatusCode}
_LABELS[grpc.StatusCode.CANCELLED] = "Canceled"


class Dispatcher(grpc.GenericRpcHandler):
    """The handlers of all methods, in one dictionary, each in the same wrapper.

    With the generated functions that add servicers, grpc.aio would wait on one future per method in
    every call, and parse requests where this server could not report what is wrong with them.

    Every method is registered as taking a stream of requests. So the caller is authenticated and
    room is reserved before the request is read, and a refused call is reset at once, even if its
    request is incomplete. This costs no more than a unary handler.
    """

    def __init__(
        self,
        auth: Auth,
        record_activity: Callable[[str], None],
        pending_reads: PendingReads,
        unread: Budget,
        audit: Audit,
        statistics: Statistics,
        tracing: Tracing | None = None,
        observer: Observer | None = None,
    ) -> None:
        """
        Args:
            record_activity: called with the caller's name on each call, and on each request of a
                client stream, unless the caller is anonymous, or the call a wait that observes.
            pending_reads: tracks requests that are being read.
            unread: budget of responses and frames that callers have not read.
            audit: gets the events of the calls.
            statistics: counts the calls.
            tracing: makes their spans. None: nothing does.
            observer: gets the RPCs when they have finished. Not those of services that are not
                served here, which gRPC itself refuses.
        """
        self._auth = auth
        self._record_activity = record_activity
        self._pending_reads = pending_reads
        self._unread = unread
        self._audit = audit
        self._statistics = statistics
        self._tracing = tracing
        self._observer = observer
        #: Audited methods that are running.
        self._running: set[asyncio.Task[Message]] = set()
        self._building = Budget(
            MAX_LARGE_RESPONSES * MAX_CALL_BYTES,
            timeout=unread.timeout,
            what="building a response",
        )
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        #: Anonymous callers, by their connection.
        self._anonymous: dict[str, Caller] = {}
        #: Set while the server is shutting down: creates the error with which every call is
        #: refused.
        self.refusal: Callable[[], BusError] | None = None
        #: How many calls were refused with it.
        self.refused_calls = 0

    def add(self, service: ServiceDescriptor, servicer: object) -> None:
        """Serve a service. The servicer must have a method of the same name for each RPC."""
        for method in service.methods:
            call, rule = getattr(servicer, method.name), RULES[f"{service.name}.{method.name}"]
            if not method.server_streaming:
                serve = self._unary(method, rule, call)
            elif not method.client_streaming:
                serve = self._server_stream(method, rule, call)
            else:
                serve = self._bidi_stream(method, rule, call)
            path = f"/{service.full_name}/{method.name}"
            streaming = method.server_streaming, method.client_streaming
            self.add_methods([Method(path, serve, *streaming)])

    def add_methods(self, methods: Iterable[Method]) -> None:
        """Serve methods whose handlers read requests and serialise responses themselves."""
        for method in methods:
            counted = self._statistics.method(method.path, method.kind)
            self._handlers[method.path] = self._handler(method, counted)

    def limit_time(self, timeout: float) -> None:
        """Change how long a request may take to arrive, and how long calls wait for room.

        `timeout`: in seconds. Calls that wait for room already do so for as long as before.
        """
        self._pending_reads.limit_time(timeout)
        self._unread.timeout = self._building.timeout = timeout

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a call; None: gRPC refuses the call as UNIMPLEMENTED.

        gRPC calls this.
        """
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is None and path.startswith("/threadbus."):
            return self._unimplemented(path)
        return handler  # None for other services: a refusal by gRPC itself costs less

    def registered_handlers(self) -> Mapping[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]]:
        """Returns the handlers of the methods to register with gRPC, by service and name.

        Each registered method has an accept queue of its own, and grpc.aio accepts one call from
        each queue in each iteration of the event loop.
        """
        service, method = "threadbus.v1.BusService", "PostMessage"
        return {service: {method: self._handlers[f"/{service}/{method}"]}}

    def _handler(
        self, method: Method, counted: MethodStatistics
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns gRPC's handler of a method. Every RPC runs in this wrapper."""
        path, serve, observer, audit = method.path, method.serve, self._observer, self._audit
        statistics, tracing = self._statistics, self._tracing

        # A coroutine that writes, not a generator: a generator that is cancelled in a write is
        # cleaned up in another task.
        async def handle(_: object, context: Context) -> bytes | None:
            call = Call(context, self._pending_reads, self._unread, counted)
            counted.started += 1
            begin = time.monotonic()
            span = tracing.begin(path) if tracing else None
            code, error = grpc.StatusCode.CANCELLED, None
            try:
                response = await serve(call)
                code = grpc.StatusCode.OK
                if response is not None:
                    counted.sent += 1
                    call.response_size = len(response)
                return response
            except BusError as refusal:
                if isinstance(refusal, ThreadNotFound) and call.caller:
                    refusal = refusal.seen_through(call.caller.prefixes)
                error = refusal.without_traceback()
                if isinstance(error, AUDITED):
                    reason = TABLE[type(error)][1]
                    method_name, peer = path.rpartition("/")[2], peer_address(context.peer())
                    audit.event("refused", call.caller, peer, method=method_name, reason=reason)
            except grpc.aio.InternalError:
                return None  # the client disconnected during a write
            except Exception as bug:  # noqa: BLE001 - the one place that turns bugs into INTERNAL
                error = incident(path[1:].replace("/", "."), bug)
            finally:
                call.close()
                reason, duration = "", time.monotonic() - begin
                if code is grpc.StatusCode.OK:
                    counted.success(duration)
                else:
                    if error is not None:
                        code, reason = TABLE[type(error)]
                    statistics.failure(counted, _LABELS[code], reason, duration)
                # Callers who are not known make no spans, nor do calls to unknown methods, whose
                # names could be anything.
                if tracing and span and call.caller and call.caller.scopes:
                    tracing.end(span, call.caller.name, code.name, reason)
                if observer and observer.wants(failed=error is not None):
                    name, start = path if path in self._handlers else "", time.time() - duration
                    observer.record(
                        FinishedCall(
                            *(name, context.peer(), call.caller, start, duration, code, reason),
                            *(*call.received(), *call.sent()),
                        )
                    )
            await abort(context, error)

        make = (
            grpc.stream_stream_rpc_method_handler
            if method.streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(handle)

    def _unary(
        self,
        method: MethodDescriptor,
        rule: Rule,
        servicer_method: Callable[..., Awaitable[Message]],
    ) -> Serve:
        parse = _parser(method)
        token_needed = method.name != "GetServerInfo"
        large = method.name in _LARGE_RESPONSES
        further = [name for name, more in rule.fields.items() if more.scope != rule.scope]
        names = _thread_names(method)
        describe = audited(message_factory.GetMessageClass(method.input_type))

        async def serve(call: Call) -> bytes:
            caller = await self._admit(call, rule, token_needed)
            request = parse(await call.reader(caller.fairness_key).receive())
            if not self._auth.is_current(caller):  # the request may have arrived long after that
                caller = await self._admit(call, rule, token_needed)
            for name in further:
                if getattr(request, name):
                    rule.fields[name].check_scope(caller.scopes)
            if caller.prefixes:
                more = [rule.fields[name] for name in rule.fields if getattr(request, name)]
                for needed in (*more, rule):
                    needed.check_threads(caller.prefixes, names(request))
            if large:
                build = functools.partial(servicer_method, request, caller)
                return await self._respond_large(build, call.context)
            event = describe and describe(request, caller)
            response = servicer_method(request, caller)
            del request  # so that it can be freed while the servicer runs
            if event:
                peer = peer_address(call.context.peer())
                return (await self._audited(response, event, caller, peer)).SerializeToString()
            return (await response).SerializeToString()

        return serve

    async def _audited(
        self, work: Awaitable[Message], event: Event, caller: Caller, peer: str
    ) -> Message:
        """Run a method to its end, and log its event, even if the call is cancelled meanwhile.

        Methods that end tokens rely on it, too.
        """

        async def run() -> Message:
            response = await work
            if found := event(response):
                self._audit.event(found[0], caller, peer, **found[1])
            return response

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Message]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # which the call has raised, unless it was cancelled

    def _server_stream(
        self, method: MethodDescriptor, rule: Rule, servicer_method: Callable[..., Awaitable[None]]
    ) -> Serve:
        parse, names = _parser(method), _thread_names(method)

        async def serve(call: Call) -> None:
            caller, context = await self._admit(call, rule, active=False), call.context
            frames = call.frames(caller.fairness_key)
            request = parse(await call.reader(caller.fairness_key).receive())
            if not self._auth.is_current(caller):
                caller = await self._admit(call, rule, active=False)
            call.release_request()
            if caller.own_name and not getattr(request, "observe", False):
                self._record_activity(caller.own_name)
            if caller.prefixes:
                rule.check_threads(caller.prefixes, names(request))
            stream = servicer_method(
                request, caller, context.time_remaining(), frames, peer_address(context.peer())
            )
            del request
            await stream

        return serve

    def _bidi_stream(
        self, method: MethodDescriptor, rule: Rule, servicer_method: Callable[..., Awaitable[None]]
    ) -> Serve:
        parse = _parser(method)

        async def serve(call: Call) -> None:
            caller = await self._admit(call, rule)
            reader = call.reader(caller.fairness_key, stream=True)
            frames = call.frames(caller.fairness_key)
            admit = functools.partial(self._admit, call, rule)
            peer = peer_address(call.context.peer())
            await servicer_method(Requests(reader, parse, admit), caller, frames, peer)

        return serve

    def _unimplemented(self, path: str) -> grpc.RpcMethodHandler[Any, Any]:
        """Returns the handler of calls to a method that this version of the server lacks."""

        async def serve(_: Call) -> None:
            raise MethodUnknown(path)

        return self._handler(Method(path, serve, streaming=True), self._statistics.unknown)

    async def _respond_large(
        self, build: Callable[[], Awaitable[Message]], context: Context
    ) -> bytes:
        """Build a response that may be large. Returns the response, serialised.

        It is charged to the budget until the caller has read it. Without room, it is dropped, and
        built again once there is room: these methods are idempotent. Raises StoreBusy if there is
        no room in time.
        """
        caller, held = fair_queue.fairness_key.get(), 0
        try:
            while True:
                if not self._building.take_now(caller, MAX_CALL_BYTES):
                    await self._building.take(caller, MAX_CALL_BYTES)
                try:
                    response = (await build()).SerializeToString()
                finally:
                    self._building.give(caller, MAX_CALL_BYTES)
                size = len(response) if len(response) > SMALL else 0
                if held or not size or self._unread.take_now(caller, size):
                    break
                del response
                await self._unread.take(caller, size)
                held = size
        except BaseException:
            self._unread.give(caller, held)
            raise
        if held:
            self._unread.change(caller, size - held)
        if size:
            release: Any = functools.partial(self._release, caller, size)
            context.add_done_callback(release)
        return response

    def _release(self, caller: str, size: int, _: object) -> None:
        """Release the bytes of a large response: it was read, or the call was cancelled."""
        self._unread.give(caller, size)

    async def _admit(
        self, call: Call, rule: Rule, token_needed: bool = True, *, active: bool = True
    ) -> Caller:
        """Authenticate a call, record its caller's activity, and set the task's fairness key.

        `active`: whether the call is known to be a sign of life. If not, nothing is recorded.

        Returns the caller. Raises `refusal` if that is set, what `Auth.authenticate` raises, or
        AccessDenied if the caller lacks the scope.
        """
        if self.refusal is not None:
            self.refused_calls += 1
            raise self.refusal()
        caller = await self._auth.authenticate(authorization.get(), token_needed=token_needed)
        if caller.own_name:
            if active:
                self._record_activity(caller.own_name)
        else:
            peer = call.context.peer()
            caller = self._by_connection(caller, peer)
            if rule.open_here and not self._auth.required and is_here(peer):
                rule = replace(rule, scope="")
        fair_queue.fairness_key.set(caller.fairness_key)
        call.caller = caller
        rule.check_scope(caller.scopes)
        return caller

    def _by_connection(self, caller: Caller, connection: str) -> Caller:
        """Returns the anonymous caller of a connection."""
        known = self._anonymous.get(connection)
        if known is None or known.scopes != caller.scopes:
            if len(self._anonymous) >= MAX_KNOWN_CALLERS:
                self._anonymous.clear()
            known = self._anonymous[connection] = replace(caller, connection=connection)
        return known


class Requests:
    """The requests of a client stream. Each is parsed as it is received."""

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
        """Returns the next request; None at the end of the stream.

        Raises a BusError if the request is invalid or cannot be received, or if its caller is no
        longer admitted.
        """
        data = await self._reader.receive()
        if data is None:
            return None
        # The caller's token may have expired since, and the server may be shutting down.
        await self._admit()
        self._size = len(data)
        return self._parse(data)

    def handled_last(self) -> Callable[[], None]:
        """Returns a function to call once the last received request has been handled."""
        return functools.partial(self._reader.handled, self._size)


def _thread_names(method: MethodDescriptor) -> Callable[[Any], Iterable[str]]:
    """Returns a function that returns the names of the threads that a request is about."""
    fields = method.input_type.fields_by_name
    if "threads" in fields:
        return lambda request: [cursor.thread for cursor in request.threads]
    if "thread" in fields:
        return lambda request: (request.thread,)
    return lambda request: ()


def _parser(method: MethodDescriptor) -> Callable[[bytes | None], Message]:
    """Returns a function that parses a request of a method. It raises ValidationFailed."""
    request_type = message_factory.GetMessageClass(method.input_type)

    def parse(data: bytes | None) -> Message:
        if data is None:
            raise ValidationFailed(("", "the call carries no request"))
        try:
            return request_type.FromString(data)
        except DecodeError:
            name = method.input_type.full_name
            raise ValidationFailed(
                ("", f"the bytes are not a valid {name} (or a string in it is not UTF-8)")
            ) from None

    return parse
