"""Calls to the server: deadlines, repetition, and what their failures mean."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import grpc.aio

from bus_client.connections import Connections
from bus_client.errors import (
    AgentExists,
    BusError,
    InternalError,
    InvalidArgument,
    OutcomeUnknown,
    ProtocolError,
    Unauthenticated,
    Unavailable,
    Unreachable,
    bare,
)
from bus_client.idempotency import UnaryRequest, idempotent
from bus_client.identity import Identity
from bus_client.responses import checked_token
from bus_client.session_generation import Goodbyes
from bus_client.status import from_rpc_error, refused_by_proxy
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

# Seconds for one attempt, else a server that hangs would use up the whole timeout.
_ATTEMPT = 10.0
# Seconds for the server to say its limits, else a stream is opened without knowing them.
_LEARNING = 5.0
# Seconds without which an attempt is not begun that would only bring the outcome in doubt.
_ENOUGH = 0.25
_CLOSED = "The client was closed."
# What grpc raises, beside a status, when it cannot make a call, for its metadata for one.
_WITHIN_GRPC = (grpc.aio.BaseError, TypeError, ValueError)

Request = TypeVar("Request", bound=UnaryRequest)
Response = TypeVar("Response")


def backoff(first: float, longest: float) -> Iterator[float]:
    """Pauses between attempts, in seconds: doubling, and jittered so that clients spread out."""
    step = first
    while True:
        yield step * random.uniform(0.5, 1.0)  # noqa: S311
        step = min(step * 2, longest)


Metadata: TypeAlias = tuple[tuple[str, str], ...]


class Paged(UnaryRequest, Protocol):
    """A request that is answered in pages."""

    page_token: str


class Page(Protocol):
    """One of its answers."""

    next_page_token: str

    def SerializeToString(self) -> bytes: ...


PagedRequest = TypeVar("PagedRequest", bound=Paged)
PageResponse = TypeVar("PageResponse", bound=Page)


def _by_caller() -> bool:
    """Whether it is the caller who cancelled, not the client that closed or gave up a call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked(response: Response | None, check: Callable[[Response], object] | None) -> Response:
    if response is None:  # what grpc makes of bytes that it cannot parse
        raise ProtocolError("The server sent a response that cannot be parsed.")
    if check is not None:
        check(response)
    return response


def _not_made(failure: Exception) -> BusError:
    """What to say of a call that grpc itself did not make."""
    # Not its text: that may hold the token.
    name = type(failure).__name__
    return BusError(
        f"gRPC did not make the call ({name}): something of it, such as the token, cannot be sent.",
        code="INTERNAL",
    )


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


class Calls:
    """The services of one server, called as one agent."""

    def __init__(self, connections: Connections, *, identity: Identity, timeout: float) -> None:
        channel = connections.unary
        self.admin = AdminServiceStub(channel)
        self.agents = AgentServiceStub(channel)
        self.bus = BusServiceStub(channel)
        self.threads = ThreadServiceStub(channel)
        #: How often the server was told who calls; see introduce_again().
        self.introduced = 0
        #: Saying so registered the agent.
        self.created = False
        self._connections = connections
        self._identity = identity
        self._timeout = timeout
        self._metadata: Metadata = ()
        self._introducing = asyncio.Lock()
        self.goodbyes = Goodbyes()
        self._closed = False

    async def introduce(self) -> str:
        """Says to the server who calls; answers who it takes the caller for."""
        if token := await self._identity.own_token():
            return await self._register(token, self._timeout)
        if self._identity.token is not None:
            self._authorize(self._identity.token)
        info = await self.call(self.bus.GetServerInfo, GetServerInfoRequest())
        if self._identity.agent not in (None, info.agent):
            raise self._identity.mistaken(info.agent)
        return info.agent

    async def introduce_again(self, introduced: int, *, timeout: float) -> bool:
        """Whether a call may be repeated whose token the server did not know.

        That is when another is in use now than at the call, when `introduced` was that; or when
        the agent could be registered again, as the store was made anew.
        """
        async with self._introducing:
            if self.introduced == introduced:
                token = await self._identity.own_token()
                if token is None:
                    return False
                await self._register(token, timeout)
            return True

    async def rotate_token(self, request: RotateTokenRequest) -> str:
        """Has the server give the agent a new token, keeps it, and sends it from now on."""
        introduced = self.introduced
        try:
            return await self._rotate_token(request)
        except Unauthenticated as error:
            if error.reason != "TOKEN_INVALID" or not await self.introduce_again(
                introduced, timeout=self._timeout
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
        """Make a unary call, and retry it until it succeeds or `timeout` seconds are over.

        After an attempt whose outcome is unknown it is retried if its method is idempotent by the
        contract, or if the request carries a request_id. After one that was refused for now
        (Unavailable with a reason) it is always retried.

        Raises:
            OutcomeUnknown: It may have been done, and its method is not idempotent.
            ProtocolError: `check` raised it for the response of an idempotent method. For another
                method it is OutcomeUnknown.
            BusError: Any other failure, of the last attempt.
        """
        return await self._repeat(
            method,
            request,
            self._timeout if timeout is None else timeout,
            register=True,
            check=check,
        )

    async def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[PagedRequest, PageResponse],
        request: PagedRequest,
    ) -> AsyncIterator[PageResponse]:
        """Calls for one page after the other. ProtocolError if a page leads nowhere."""
        tokens, before = set[str](), b""
        while True:
            page = await self.call(method, request)
            token = page.next_page_token
            page.next_page_token = ""
            entries = page.SerializeToString()
            if token and (token in tokens or entries in (b"", before)):
                raise ProtocolError("The server sent a page that leads to no next one.")
            yield page
            if not token:
                return
            tokens.add(token)
            request.page_token, before = token, entries

    async def _register(self, token: str, timeout: float) -> str:
        method, request = self.agents.RegisterAgent, self._identity.registration(token)
        try:
            try:
                response = await self._repeat(method, request, timeout, metadata=())
            except Unauthenticated:
                # Tokens are required here: an agent that is registered may repeat it, with its own.
                response = await self._repeat(method, request, timeout, metadata=_bearer(token))
        except AgentExists as error:
            await self._identity.refused(error)
            raise self._identity.taken(error) from error
        except InvalidArgument as error:
            await self._identity.refused(error)
            raise
        if response.agent.name != self._identity.agent:
            raise ProtocolError(
                f"The server registered {response.agent.name!r}, not {self._identity.agent!r}."
            )
        self._authorize(token)
        self.created = response.created
        return response.agent.name

    async def _rotate_token(self, request: RotateTokenRequest) -> str:
        async with self._introducing:  # who meets the end of the old one waits for the new one
            method = self.agents.RotateToken
            response = await self._repeat(method, request, self._timeout)
            token = checked_token(response.token)
            try:
                await self._identity.change_token(token)
            finally:
                self._authorize(token)
        return token

    def _authorize(self, token: str) -> None:
        self._metadata = _bearer(token)
        self.introduced += 1

    async def _repeat(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float,
        *,
        register: bool = False,
        metadata: Metadata | None = None,
        check: Callable[[Response], object] | None = None,
    ) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        changes, request_id = not idempotent(request), getattr(request, "request_id", "")
        enough = min(_ENOUGH, timeout / 2) if changes else 0.0
        introduced, in_doubt, knows = self.introduced, False, False
        error: BusError
        for pause in backoff(0.1, 2.0):
            last_start = deadline if in_doubt else deadline - enough
            # Connecting first tells «never sent» from «no answer».
            if not await self._connections.enter(last_start):
                error = Unreachable(f"{self._identity.server} does not answer.", code="UNAVAILABLE")
                break
            left = min(deadline - loop.time(), _ATTEMPT)
            try:
                sent = self._metadata if metadata is None else metadata
                response = await method(request, timeout=left, metadata=sent)
                return _checked(response, check)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
            except ProtocolError as failure:
                error = bare(failure)
            except _WITHIN_GRPC as failure:
                error = _not_made(failure)
            except asyncio.CancelledError:
                if not self._closed or _by_caller():
                    raise
                error = Unreachable(_CLOSED, code="CANCELLED")
            finally:
                self._connections.leave()
            unknown = isinstance(error, (Unreachable, InternalError, ProtocolError))
            in_doubt = in_doubt or unknown
            # Who calls is looked at before the request_id, and a proxy does not look at it.
            knows = not (
                isinstance(error, (Unavailable, InternalError, ProtocolError, Unauthenticated))
                or refused_by_proxy(error)
            )
            if register and error.reason == "TOKEN_INVALID":
                try:
                    if await self.introduce_again(introduced, timeout=deadline - loop.time()):
                        register = False
                        continue
                except BusError as failure:
                    error = bare(failure)
            if not isinstance(error, Unavailable) or (unknown and changes and not request_id):
                break
            pause = max(pause, error.retry_delay or 0.0)
            if self._closed or loop.time() + pause >= (deadline if in_doubt else last_start):
                break
            await asyncio.sleep(pause)
        if changes and in_doubt and not knows:  # such a refusal does not end the doubt
            raise OutcomeUnknown(
                f"It may have been done, or not: {error.message}",
                request_id=request_id,
                code=error.code,
                reason=error.reason,
            ) from error
        if self._closed and isinstance(error, Unavailable):
            raise RuntimeError(_CLOSED)
        try:
            raise error
        finally:
            del error  # see bare()

    async def learn_limits(self) -> None:
        """To be awaited before a stream is opened: how many the server takes on a connection."""
        ask = partial(self.call, self.bus.GetServerInfo, GetServerInfoRequest(), timeout=_LEARNING)
        await self._connections.learn_limits(ask)

    def wait_messages(
        self, request: WaitMessagesRequest, *, timeout: float | None
    ) -> grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]:
        """Opens a wait as soon as the server can be reached; `timeout` None = without end."""
        return self._connections.open(
            lambda bus: bus.WaitMessages(
                request, timeout=timeout, metadata=self._metadata, wait_for_ready=True
            )
        )

    def post_messages(
        self,
    ) -> grpc.aio.StreamStreamCall[PostMessagesRequest, PostMessagesResponse]:
        """Opens a stream of posts as soon as the server can be reached."""
        return self._connections.open(
            lambda bus: bus.PostMessages(metadata=self._metadata, wait_for_ready=True)
        )

    async def close(self) -> None:
        """Closes all connections, and with them every call under way."""
        self._closed = True
        await self._connections.close()

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Has a stream say so when the client was closed, before it or under it.

        grpc would cancel it, which nobody asked for, or raise an error of its own. One that the
        client itself cancelled otherwise is Unreachable.
        """
        if self._closed:
            raise RuntimeError(_CLOSED)
        try:
            yield
        except asyncio.CancelledError as cancelled:
            if _by_caller():
                raise
            bare(cancelled)  # contextlib keeps it
            if self._closed:
                raise RuntimeError(_CLOSED) from None
            raise Unreachable("It was cancelled.", code="CANCELLED") from None
        except _WITHIN_GRPC as failure:
            bare(failure)
            if self._closed:
                raise RuntimeError(_CLOSED) from None
            raise _not_made(failure) from failure
