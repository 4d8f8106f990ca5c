"""The calls of a client, with deadlines, retries, authentication and translated errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, TypeVar

import grpc.aio

from bus_client.connections import Connections
from bus_client.errors import (
    AgentExists,
    BusError,
    InternalError,
    InvalidArgument,
    OutcomeUnknown,
    ProtocolError,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    Unreachable,
    strip_traceback,
)
from bus_client.idempotency import UnaryRequest, idempotent
from bus_client.identity import Identity
from bus_client.pages import ListRequest, ListResponse, all_pages
from bus_client.responses import checked_token
from bus_client.retry import backoff
from bus_client.session_generation import SessionGeneration
from bus_client.status import from_rpc_error, refused_by_proxy, token_refused
from bus_client.taken import Taken
from bus_client.traces import Metadata, appends, sending
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_service_pb2 import RotateTokenRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessagesRequest,
    PostMessagesResponse,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

# Seconds for one attempt, so that a hanging server does not use up the whole timeout.
_ATTEMPT_TIMEOUT = 10.0
# Seconds to wait for the server's limits before a stream is opened without them.
_LIMITS_TIMEOUT = 5.0
# Minimum seconds left to start an attempt whose outcome could become unknown; and one after that,
# which would only hide why the earlier ones failed.
_MIN_ATTEMPT, _MIN_LATER_ATTEMPT = 0.25, 0.05
_CLOSED = "The client was closed."
# What grpc raises instead of a status if it cannot send a call, for example because of its
# metadata.
_GRPC_ERRORS = (grpc.aio.BaseError, TypeError, ValueError)

Request = TypeVar("Request", bound=UnaryRequest)
Response = TypeVar("Response")


def _cancelled_by_caller() -> bool:
    """Returns whether the current task was cancelled, rather than only a call that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked_response(
    response: Response | None, check: Callable[[Response], object] | None
) -> Response:
    if response is None:  # grpc could not parse its bytes
        raise ProtocolError("The server sent a response that cannot be parsed.")
    if check is not None:
        check(response)
    return response


def _not_sent(failure: Exception) -> BusError:
    """Returns the error for a call that grpc refused to send."""
    # Without the failure's text, which may contain the token.
    name = type(failure).__name__
    return BusError(
        f"gRPC did not send the call ({name}): part of it, such as the token, cannot be sent.",
        code="INTERNAL",
    )


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


class Calls:
    """The calls of one client to one server, with their retries.

    Any number of calls may run at once. Belongs to the event loop in which it was created.

    Attributes:
        admin, agents, bus, threads: The stubs; their methods are what call() takes.
        agent: The caller's name at the server, as authenticate() last found it.
        session_generation: The client's SessionGeneration.
        taken: What its ask() calls have told.
        token_version: How many times the token was set or replaced; see reauthenticate().
        created: Whether the last registration was of a new name. False if there was none.
    """

    def __init__(self, connections: Connections, *, identity: Identity, timeout: float) -> None:
        channel = connections.unary
        self.admin = AdminServiceStub(channel)
        self.agents = AgentServiceStub(channel)
        self.bus = BusServiceStub(channel)
        self.threads = ThreadServiceStub(channel)
        self.agent = ""
        self.session_generation = SessionGeneration()
        self.taken = Taken()
        self.token_version = 0
        self.created = False
        self._connections = connections
        self._identity = identity
        self._timeout = timeout
        self._metadata: Metadata = ()
        self._authenticating = asyncio.Lock()
        self._closed = False

    async def authenticate(self) -> str:
        """Register the agent, or check the token. Returns the caller's name at the server.

        Raises:
            AgentExists: The name is registered with another token or none, or was unregistered.
            Unauthenticated: The token is unknown or expired, or belongs to another agent.
            InvalidArgument: An argument of the registration is not valid.
            CredentialsError: The agent's token cannot be read from its file or saved in it.
            BusError: The call failed.
        """
        if token := await self._identity.own_token():
            self.agent = await self._enter(token, self._timeout)
            return self.agent
        if self._identity.token is not None:
            self._set_token(self._identity.token)
        info = await self.call(self.bus.GetServerInfo, GetServerInfoRequest())
        self.agent = self._identity.checked_name(info.agent)
        return self.agent

    async def reauthenticate(
        self, refused: BusError, token_version: int, *, register: bool, timeout: float
    ) -> Literal["replaced", "registered"] | None:
        """Returns why to repeat a call or stream that failed; None = do not repeat it.

        "replaced": Its token was refused, but the client has since rotated it or registered the
        agent again, or another process has stored a new token in the credentials file.
        "registered": The server did not know its token, and the agent was registered again by its
        name, since the server may have a new store.

        Args:
            refused: The error of the call or stream.
            token_version: The value of the attribute `token_version` when it was sent.
            register: Whether the agent may be registered again with the token that was refused.
            timeout: Seconds for each call of a registration.

        Raises:
            CredentialsError: The agent's token cannot be read from its file or saved in it.
            BusError: The registration failed; see authenticate().
            RuntimeError: As in call().
        """
        if not token_refused(refused):
            return None
        async with self._authenticating:
            if self.token_version != token_version:
                return "replaced"
            stored = await self._identity.stored_token()
            if stored is not None and _bearer(stored) != self._metadata:
                await self._enter(stored, timeout)  # checks that it is the agent's
                return "replaced"
            if not register or isinstance(refused, TokenExpired):
                return None
            token = await self._identity.own_token()
            if token is None:
                return None
            await self._register(token, timeout)
            return "registered"

    async def rotate_token(self, request: RotateTokenRequest) -> str:
        """Replace the caller's token: store the new one, use it from now on, and return it.

        Raises:
            OutcomeUnknown: The response was lost.
            ProtocolError: The response has no valid token. The client still uses the old one.
            CredentialsError: The new token is in use, but could not be saved in the file. Or the
                old one was refused, and the file cannot be read or written: nothing was replaced.
            RuntimeError: As in call().
            BusError: The call failed.
        """
        token_version = self.token_version
        try:
            return await self._rotate_token(request)
        except Unauthenticated as error:
            if not await self.reauthenticate(
                error, token_version, register=True, timeout=self._timeout
            ):
                raise
        return await self._rotate_token(request)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        check: Callable[[Response], object] | None = None,
    ) -> Response:
        """Returns the response to a unary call, which is retried for up to `timeout` seconds.

        Only failures that raise Unavailable are retried. If such a failure leaves the outcome
        unknown, the call is retried only if its method is idempotent or its request has a
        request_id. If the server refuses the token, the call is repeated with the client's current
        one; if that is the same, once, provided that reauthenticate() has registered the agent.

        Args:
            method: A method of one of the stubs.
            request: Must not change while the call runs.
            timeout: Seconds. None = the client's timeout.
            check: Called with the response; raises ProtocolError if the response breaks the
                contract. None = no check.

        Raises:
            OutcomeUnknown: The method is not idempotent, and the call may have been carried out.
            RuntimeError: The client was closed, or the process was forked; see refuse_fork().
            BusError: The last failure.
        """
        limit = self._timeout if timeout is None else timeout
        repeat = partial(self._repeat, method, request, limit, reauthenticate=True, check=check)
        if not appends(request):
            return await repeat()
        thread: str = getattr(request, "thread", "")
        with sending(self.agent, thread, request) as sent:
            with sent.current():
                response = await repeat(trace=sent.metadata)
            sent.seq = getattr(response, "seq", 0)
            return response

    def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[ListRequest, ListResponse],
        request: ListRequest,
    ) -> AsyncIterator[ListResponse]:
        """Yields all pages of a list; see all_pages(). Raises what call() does, too."""
        return all_pages(partial(self.call, method), request)

    async def _enter(self, token: str, timeout: float) -> str:
        """Returns the agent's name. Registers the agent if the server does not know its token."""
        if not self._identity.has_made(token):
            try:
                return await self._recognise(token, timeout)
            except Unauthenticated as error:
                if error.reason != "TOKEN_INVALID":
                    raise
        return await self._register(token, timeout)

    async def _register(self, token: str, timeout: float) -> str:
        method, request = self.agents.RegisterAgent, self._identity.registration(token)
        try:
            response = await self._repeat(method, request, timeout, metadata=())
        except Unauthenticated as error:  # only operators register agents there
            await self._identity.registration_refused(error)
            raise self._identity.not_registered(error) from error
        except AgentExists as error:
            await self._identity.registration_refused(error)
            raise self._identity.name_taken(error) from error
        except InvalidArgument as error:
            await self._identity.registration_refused(error)
            raise
        if response.agent.name != self._identity.agent:
            raise ProtocolError(
                f"The server registered {response.agent.name!r}, not {self._identity.agent!r}."
            )
        self._set_token(token)
        self.created = response.created
        return response.agent.name

    async def _recognise(self, token: str, timeout: float) -> str:
        """Returns the agent's name. Raises Unauthenticated unless the server knows its token."""
        ask, metadata = self.bus.GetServerInfo, _bearer(token)
        info = await self._repeat(ask, GetServerInfoRequest(), timeout, metadata=metadata)
        name = self._identity.checked_name(info.agent)
        self._set_token(token)
        return name

    async def _rotate_token(self, request: RotateTokenRequest) -> str:
        # Under the lock, so that calls that fail with the old token wait for the new one.
        async with self._authenticating:
            method = self.agents.RotateToken
            response = await self._repeat(method, request, self._timeout)
            token = checked_token(response.token)
            try:
                await self._identity.change_token(token)
            finally:
                self._set_token(token)
        return token

    def _set_token(self, token: str) -> None:
        self._metadata = _bearer(token)
        self.token_version += 1

    async def _repeat(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
        *,
        reauthenticate: bool = False,
        metadata: Metadata | None = None,
        trace: Metadata = (),
        check: Callable[[Response], object] | None = None,
    ) -> Response:
        """Returns the response, as call() does.

        Args:
            method, request, check: As in call().
            timeout: Seconds.
            reauthenticate: Whether to reauthenticate() if the server refuses the token.
            metadata: Replaces the metadata with the client's token. None = send the token.
            trace: Further metadata, of the trace that the call belongs to.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        changes, request_id = not idempotent(request), getattr(request, "request_id", "")
        min_attempt = min(_MIN_ATTEMPT, timeout / 2) if changes else 0.0
        last_in_doubt = deadline - min(_MIN_LATER_ATTEMPT, min_attempt)
        in_doubt, settled, register = False, False, True
        error: BusError
        for pause in backoff(0.1, 2.0):
            last_start = last_in_doubt if in_doubt else deadline - min_attempt
            # Wait for the connection first, to distinguish calls that were never sent from calls
            # without a response.
            if unreachable := await self._connections.acquire(last_start):
                error = unreachable
                break
            left = min(deadline - loop.time(), _ATTEMPT_TIMEOUT)
            token_version = self.token_version
            try:
                sent = (self._metadata if metadata is None else metadata) + trace
                response = await method(request, timeout=left, metadata=sent)
                return _checked_response(response, check)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
            except ProtocolError as failure:
                error = strip_traceback(failure)
            except _GRPC_ERRORS as failure:
                error = _not_sent(failure)
            except asyncio.CancelledError:
                if not self._closed or _cancelled_by_caller():
                    raise
                error = Unreachable(_CLOSED, code="CANCELLED")
            finally:
                self._connections.release()
            unknown = isinstance(error, (Unreachable, InternalError, ProtocolError))
            in_doubt = in_doubt or unknown
            # These errors leave the outcome of earlier attempts unknown: the server checks the
            # token before it looks up the request_id, and a proxy never looks it up.
            settled = not (
                isinstance(error, (Unavailable, InternalError, ProtocolError, Unauthenticated))
                or refused_by_proxy(error)
            )
            if reauthenticate:
                try:
                    left = deadline - loop.time()
                    if why := await self.reauthenticate(
                        error, token_version, register=register, timeout=left
                    ):
                        register = register and why == "replaced"
                        continue
                except BusError as failure:
                    error = strip_traceback(failure)
            if not isinstance(error, Unavailable) or (unknown and changes and not request_id):
                break
            pause = max(pause, error.retry_delay or 0.0)
            if self._closed or loop.time() + pause >= (last_in_doubt if in_doubt else last_start):
                break
            await asyncio.sleep(pause)
        if changes and in_doubt and not settled:
            raise OutcomeUnknown(
                f"It is unknown whether this was done: {error.message}",
                request_id=request_id,
                code=error.code,
                reason=error.reason,
            ) from error
        if self._closed and isinstance(error, Unavailable):
            raise RuntimeError(_CLOSED)
        try:
            raise error
        finally:
            del error  # see strip_traceback()

    @property
    def posts_limited(self) -> bool:
        """Whether the server limits how often this client posts. See learn_limits()."""
        return self._connections.posts_limited

    async def learn_limits(self) -> None:
        """Learn the server's limits, within 5 s. Await this before opening a stream.

        See Connections.learn_limits().

        Raises:
            TlsFailed: No connection can succeed.
            RuntimeError: As in call().
        """
        request, timeout = GetServerInfoRequest(), _LIMITS_TIMEOUT
        ask = partial(self.call, self.bus.GetServerInfo, request, timeout=timeout)
        await self._connections.learn_limits(ask)

    async def raise_tls_fault(self, within: float) -> None:
        """Raises TlsFailed if TLS is why a stream failed; looks for `within` seconds."""
        await self._connections.raise_tls_fault(within)

    def wait_messages(
        self, request: WaitMessagesRequest, *, timeout: float | None
    ) -> grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]:
        """Open a wait, and return its stream. The request is sent once the channel is connected.

        Call this, and use the stream, within stream_errors().

        Args:
            request: What to wait for.
            timeout: Seconds until gRPC ends the stream. None = no limit.

        Raises:
            RuntimeError: The process was forked; see refuse_fork().
        """
        return self._connections.open_stream(
            lambda bus: bus.WaitMessages(
                request, timeout=timeout, metadata=self._metadata, wait_for_ready=True
            )
        )

    def post_messages(
        self, trace: Metadata
    ) -> grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]:
        """Open a stream of posts, and return it. It starts once the channel is connected.

        Call this, and use the stream, within stream_errors().

        Args:
            trace: The metadata of the trace that the posts belong to.

        Raises:
            RuntimeError: The process was forked; see refuse_fork().
        """
        return self._connections.open_stream(
            lambda bus: bus.PostMessages(metadata=self._metadata + trace, wait_for_ready=True)
        )

    async def close(self) -> None:
        """Close all connections.

        Calls and streams in progress raise RuntimeError, or OutcomeUnknown if the call is not
        idempotent and may have been carried out.
        """
        self._closed = True
        await self._connections.close()

    @contextmanager
    def stream_errors(self) -> Iterator[None]:
        """Context manager for each use of a stream: translates grpc's errors except AioRpcError.

        Raises:
            RuntimeError: The client was closed before the block, or before grpc raised an error.
            Unreachable: The stream was cancelled, but not the task that uses it.
            BusError: grpc refused to send the call.
        """
        if self._closed:
            raise RuntimeError(_CLOSED)
        try:
            yield
        except asyncio.CancelledError as cancelled:
            if _cancelled_by_caller():
                raise
            strip_traceback(cancelled)  # contextlib keeps a reference
            if self._closed:
                raise RuntimeError(_CLOSED) from None
            raise Unreachable("The stream was cancelled.", code="CANCELLED") from None
        except _GRPC_ERRORS as failure:
            strip_traceback(failure)
            if self._closed:
                raise RuntimeError(_CLOSED) from None
            raise _not_sent(failure) from failure
