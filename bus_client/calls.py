"""Calls to the server: deadlines, repetition, and what their failures mean."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc.aio

from bus_client.errors import (
    BusError,
    InternalError,
    OutcomeUnknown,
    Unavailable,
    Unreachable,
    from_rpc_error,
)
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

# Seconds for one attempt, else a server that hangs would use up the whole timeout.
_ATTEMPT = 10.0
_CLOSED = "The client was closed."

Request = TypeVar("Request")
Response = TypeVar("Response")


def backoff(first: float, longest: float) -> Iterator[float]:
    """Pauses between attempts, in seconds: doubling, and jittered so that clients spread out."""
    step = first
    while True:
        yield step * random.uniform(0.5, 1.0)  # noqa: S311
        step = min(step * 2, longest)


class Calls:
    """The services of one server, called as one agent."""

    def __init__(self, channel: grpc.aio.Channel, *, server: str, timeout: float) -> None:
        self.agents = AgentServiceStub(channel)
        self.bus = BusServiceStub(channel)
        self.threads = ThreadServiceStub(channel)
        self._channel = channel
        self._server = server
        self._timeout = timeout
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._closed = False

    def authorize(self, token: str) -> None:
        """Sends `token` with every call from now on."""
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        changes: bool = False,
        request_id: str = "",
    ) -> Response:
        """Calls, and calls again until there is an answer or `timeout` seconds are over.

        `changes` tells that doing it twice is not the same as doing it once. Without a request_id
        such a call is repeated only when the server says that nothing was done; when nobody can
        tell, OutcomeUnknown is raised.
        """
        with self.usable():
            return await self._call(method, request, timeout, changes, request_id)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
        changes: bool,
        request_id: str,
    ) -> Response:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        in_doubt = False
        error: BusError
        for pause in backoff(0.1, 2.0):
            # Connecting first tells «never sent» from «no answer».
            if not await self._connected(deadline):
                error = Unreachable(f"{self._server} does not answer.", code="UNAVAILABLE")
                break
            left = min(deadline - loop.time(), _ATTEMPT)
            try:
                return await method(request, timeout=left, metadata=self._metadata)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
            unknown = isinstance(error, (Unreachable, InternalError))
            in_doubt = in_doubt or unknown
            if not isinstance(error, Unavailable) or (unknown and changes and not request_id):
                break
            pause = max(pause, error.retry_delay or 0.0)
            if loop.time() + pause >= deadline:
                break
            await asyncio.sleep(pause)
        if changes and in_doubt and isinstance(error, (Unavailable, InternalError)):
            raise OutcomeUnknown(
                f"It may have been done, or not: {error.message}",
                request_id=request_id,
                code=error.code,
                reason=error.reason,
            ) from error
        raise error

    def wait_messages(
        self, request: WaitMessagesRequest, *, timeout: float | None
    ) -> grpc.aio.UnaryStreamCall[WaitMessagesRequest, WaitMessagesResponse]:
        """Opens a wait as soon as the server can be reached; `timeout` None = without end."""
        return self.bus.WaitMessages(
            request, timeout=timeout, metadata=self._metadata, wait_for_ready=True
        )

    async def close(self) -> None:
        """Closes the channel, and with it every call under way."""
        self._closed = True
        await self._channel.close()

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Has a call say so when the client was closed, before it or under it.

        grpc would cancel it, which nobody asked for, or raise an error of its own.
        """
        if self._closed:
            raise RuntimeError(_CLOSED)
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise RuntimeError(_CLOSED) from None
            raise

    async def _connected(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout_at(deadline):
                await self._channel.channel_ready()
        except TimeoutError:
            return False
        return True
