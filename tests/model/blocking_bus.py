"""A blocking client of a server, for tests that have no event loop of their own."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo
from google.rpc.status_pb2 import Status

from tests.model.history import ANONYMOUS, OPERATOR, Refusal
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest, RegisterAgentResponse
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    PostMessageRequest,
    PostMessagesRequest,
    PostResult,
    WaitMessagesRequest,
    WaitMessagesResponse,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

#: Seconds. No call and no open-ended wait takes longer: many times what an example takes, and short
#: enough that a failure which hangs a wait can be shrunk.
CALL_SECONDS, WAIT_SECONDS = 10.0, 15.0

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class BlockingBus:
    """One channel, and the callers that use it. A failed call returns a Refusal."""

    def __init__(self, address: str, database: Path) -> None:
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stubs: Sequence[Any] = (
            BusServiceStub(self._channel),
            ThreadServiceStub(self._channel),
            AgentServiceStub(self._channel),
        )
        self._tokens: dict[str, tuple[tuple[str, str], ...]] = {ANONYMOUS: ()}
        token = database.with_name(f"{database.name}.operator-token").read_text("ascii")
        self._know(OPERATOR, token.strip())

    def _know(self, agent: str, token: str) -> None:
        self._tokens[agent] = (("authorization", f"Bearer {token}"),)

    def register(self, agent: str) -> None:
        answer = self.ask(RegisterAgentRequest(agent=agent), ANONYMOUS)
        assert isinstance(answer, RegisterAgentResponse)
        self._know(agent, answer.token)

    def ask(self, request: Message, caller: str) -> Message | Refusal:
        """Make a unary call."""
        return self.ask_at_once([(request, caller)])[0]

    def ask_at_once(self, asked: Sequence[tuple[Message, str]]) -> list[Message | Refusal]:
        """Make several unary calls at once: all are sent before the first response is read."""
        return [_answer(call) for call in [self._call(*each) for each in asked]]

    def _call(self, request: Message, caller: str) -> Any:
        name = type(request).__name__.removesuffix("Request")
        method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))
        call: Any = method.future(
            request, timeout=CALL_SECONDS, metadata=self._tokens[caller], wait_for_ready=True
        )
        return call

    def post_many(self, posts: Sequence[PostMessageRequest], caller: str) -> Sequence[PostResult]:
        """Make posts in one batch of a stream. Returns their results."""
        (answer,) = self._stubs[0].PostMessages(
            iter([PostMessagesRequest(posts=posts)]),
            timeout=CALL_SECONDS,
            metadata=self._tokens[caller],
            wait_for_ready=True,
        )
        return list(answer.results)

    def wait(
        self, request: WaitMessagesRequest, caller: str, *, timeout: float = WAIT_SECONDS
    ) -> Generator[WaitMessagesResponse | Refusal]:
        """Yields the frames of a wait as they arrive, and a Refusal if it fails."""
        call = self._stubs[0].WaitMessages(
            request, timeout=timeout, metadata=self._tokens[caller], wait_for_ready=True
        )
        try:
            yield from call
        except grpc.RpcError as error:
            yield _refusal(error)
        finally:
            call.cancel()

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _answer(call: Any) -> Message | Refusal:
    try:
        answer: Message = call.result()
    except grpc.RpcError as error:
        return _refusal(error)
    return answer


def _refusal(error: Any) -> Refusal:
    """Returns a failed call's Refusal; `reason` is empty when gRPC failed it and not the server."""
    info, fields, resources = ErrorInfo(), BadRequest(), list[str]()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                detail.Unpack(info)
                detail.Unpack(fields)
                resource = ResourceInfo()
                if detail.Unpack(resource):
                    resources.append(resource.resource_name)
    named = [violation.field for violation in fields.field_violations] + resources
    return Refusal(error.code().name, info.reason, dict(info.metadata), named)
