"""Clients that post and read through any of the servers, and record each call."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from history import Kind, Operation, Outcome

from tests.connections import Connection
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetMessageResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    PostMessageRequest,
    PostMessageResponse,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_service_pb2 import GetThreadRequest, GetThreadResponse

#: Seconds that a client waits for an answer, with weights. Most calls on a stopped server end
#: before it goes on; a few calls are given up while they are carried out.
_TIMEOUTS = {0.005: 1, 0.5: 20, 5.0: 79}
#: Calls that a client makes at another server, before it returns to its own.
_CALLS_AWAY = 20
#: Seconds before a call that failed is made again.
_PAUSE = 0.02


class Recorder:
    """The calls of all clients."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        #: The newest seq that any client has seen, by thread.
        self.heads: dict[str, int] = defaultdict(int)
        #: Acknowledged posts, by server.
        self.acknowledged: Counter[int] = Counter()
        #: Clients make no new calls.
        self.stopping = False

    def add(self, operation: Operation) -> None:
        """Record a call that has ended."""
        self.operations.append(operation)
        if operation.outcome in ("ok", "conflict"):
            seen = max(operation.head, operation.seq)
            self.heads[operation.thread] = max(self.heads[operation.thread], seen)
        if operation.kind == "post" and operation.outcome == "ok":
            self.acknowledged[operation.server] += 1


class Client:
    """Makes one call after the other; of posts that are sent twice, two at once."""

    def __init__(
        self,
        number: int,
        servers: Sequence[Connection],
        threads: Sequence[str],
        recorder: Recorder,
        seed: str,
    ) -> None:
        self._number = number
        self._servers = servers
        self._threads = threads
        self._recorder = recorder
        self._random = random.Random(f"{seed} {number}")  # noqa: S311
        self._server = self._own = number % len(servers)
        self._away = 0
        self._posts = 0
        self._answered: list[PostMessageRequest] = []

    async def run(self) -> None:
        """Call until the recorder is stopping."""
        acts = {
            self._post_once: 2,
            self._post_until_answered: 6,
            self._post_through_two_servers: 3,
            self._post_again: 2,
            self._post_if_head_is: 5,
            self._read_head: 3,
            self._read_newest: 3,
            self._read_message: 3,
        }
        while not self._recorder.stopping:
            (act,) = self._random.choices([*acts], [*acts.values()])
            await act(self._random.choice(self._threads))
            self._away = max(self._away - 1, 0)
            if not self._away:
                self._server = self._own

    async def _post_once(self, thread: str) -> None:
        await self._post(self._server, self._new(thread, repeatable=False))

    async def _post_until_answered(self, thread: str) -> None:
        await self._until_answered(self._new(thread))

    async def _post_through_two_servers(self, thread: str) -> None:
        request = self._new(thread)
        there = (self._server + 1) % len(self._servers)
        await asyncio.gather(*(self._post(server, request) for server in (self._server, there)))
        await self._until_answered(request)

    async def _post_again(self, thread: str) -> None:
        if self._answered:
            await self._post(self._server, self._random.choice(self._answered))

    async def _post_if_head_is(self, thread: str) -> None:
        request = self._new(thread, repeatable=self._random.random() < 0.5)
        (off,) = self._random.choices([0, -1, 1], [18, 1, 1])
        request.expected_last_seq = max(self._recorder.heads[thread] + off, 0)
        if request.request_id:
            await self._until_answered(request)
        else:
            await self._post(self._server, request)

    async def _read_head(self, thread: str) -> None:
        def learned(answer: GetThreadResponse) -> Mapping[str, Any]:
            return {"head": answer.thread.head_seq}

        stub = self._servers[self._server].threads
        await self._call(
            "head", self._server, stub.GetThread, GetThreadRequest(thread=thread), learned
        )

    async def _read_newest(self, thread: str) -> None:
        def learned(answer: ListMessagesResponse) -> Mapping[str, Any]:
            newest = answer.messages[-1] if answer.messages else Message()
            return {"head": answer.head_seq, "seq": newest.seq, "content": newest.content}

        request = ListMessagesRequest(thread=thread, newest=True, limit=1)
        stub = self._servers[self._server].bus
        await self._call("newest", self._server, stub.ListMessages, request, learned)

    async def _read_message(self, thread: str) -> None:
        def learned(answer: GetMessageResponse) -> Mapping[str, Any]:
            message = answer.message
            return {"content": message.content if message.seq == seq else f"of seq {message.seq}"}

        # Mostly one of the newest, and sometimes the next one, which may not be there yet.
        seq = max(self._recorder.heads[thread] + 1 - int(self._random.expovariate(0.2)), 1)
        request = GetMessageRequest(thread=thread, seq=seq)
        stub = self._servers[self._server].bus
        await self._call("message", self._server, stub.GetMessage, request, learned, seq=seq)

    def _new(self, thread: str, *, repeatable: bool = True) -> PostMessageRequest:
        self._posts += 1
        content = f"{self._number}-{self._posts}"
        return PostMessageRequest(
            thread=thread, content=content, request_id=content if repeatable else ""
        )

    async def _until_answered(self, request: PostMessageRequest) -> None:
        """Post until it is known to be stored or to conflict, or the recorder is stopping."""
        outcome = await self._post(self._server, request)
        while outcome not in ("ok", "conflict") and not self._recorder.stopping:
            outcome = await self._post(self._server, request)
        if outcome == "ok":
            self._answered.append(request)

    async def _post(self, server: int, request: PostMessageRequest) -> Outcome:
        def learned(answer: PostMessageResponse) -> Mapping[str, Any]:
            told = {"seq": answer.seq, "head": answer.last_seq}
            return told | {"repeated": answer.deduplicated}

        return await self._call(
            "post",
            server,
            self._servers[server].bus.PostMessage,
            request,
            learned,
            content=request.content,
            request_id=request.request_id,
            expected=request.expected_last_seq if request.HasField("expected_last_seq") else None,
        )

    async def _call(
        self,
        kind: Kind,
        server: int,
        method: Callable[..., Any],
        request: Any,
        learned: Callable[[Any], Mapping[str, Any]],
        **asked: Any,
    ) -> Outcome:
        """Make a call and record it; if it fails, move to the next server.

        Args:
            learned: returns the fields of the operation that a response tells.
            asked: those that the request tells.
        """
        (timeout,) = self._random.choices([*_TIMEOUTS], [*_TIMEOUTS.values()])
        outcome: Outcome = "ok"
        told: Mapping[str, Any]
        call = time.monotonic_ns()
        try:
            told = learned(await method(request, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            outcome, told = outcome_of(error)
        operation = Operation(
            kind=kind,
            call=call,
            returned=time.monotonic_ns(),
            thread=request.thread,
            client=self._number,
            server=server,
            outcome=outcome,
            **(asked | dict(told)),
        )
        self._recorder.add(operation)
        if outcome in ("refused", "unknown"):
            self._server = (server + 1) % len(self._servers)
            self._away = _CALLS_AWAY
            await asyncio.sleep(_PAUSE)
        return outcome


def outcome_of(error: grpc.aio.AioRpcError) -> tuple[Outcome, Mapping[str, Any]]:
    """Returns what an error says of the outcome, by the rules of errors.proto."""
    info = _error_info(error)
    told = {"error": f"{error.code().name} {info.reason}".strip()}
    match info.reason:
        case "SEQ_CONFLICT":
            return "conflict", told | {"head": int(info.metadata["last_seq"])}
        case "MESSAGE_NOT_FOUND":
            return "missing", told
        case "" | "INTERNAL":
            return "unknown", told
    return "refused", told


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    """Returns the error's ErrorInfo; an empty one if it has none."""
    info = ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            details = Status.FromString(value).details
            any(detail.Unpack(info) for detail in details)
    return info
