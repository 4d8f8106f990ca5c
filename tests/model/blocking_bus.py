"""A server asked by a client that blocks: for tests that have no event loop of their own."""

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
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

#: No call takes longer, and no wait that is left open: that is many times what an example takes,
#: and short enough for a failure that makes a wait hang to be shrunk.
CALL_SECONDS, WAIT_SECONDS = 10.0, 15.0

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class BlockingBus:
    """One channel, and the callers that use it. Failed calls are answers, too: Refusals."""

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
        """Make unary calls, all of them before the first answer is taken."""
        return [_answer(call) for call in [self._call(*each) for each in asked]]

    def _call(self, request: Message, caller: str) -> Any:
        name = type(request).__name__.removesuffix("Request")
        method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))
        call: Any = method.future(
            request, timeout=CALL_SECONDS, metadata=self._tokens[caller], wait_for_ready=True
        )
        return call

    def wait(
        self, request: WaitMessagesRequest, caller: str, *, timeout: float = WAIT_SECONDS
    ) -> Generator[WaitMessagesResponse | Refusal]:
        """The frames of a wait, as they come; a Refusal is the last."""
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
    """A failed call; `reason` is empty when gRPC failed it and not the server."""
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
