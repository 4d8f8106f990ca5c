"""Every RPC of the contract, from the descriptors: called with any bytes, or any request."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.serving import AgentStub, ThreadStub
from threadbus.v1 import (
    admin_service_pb2,
    agent_service_pb2,
    bus_service_pb2,
    thread_service_pb2,
)
from threadbus.v1.admin_service_pb2 import (
    CreateTokenRequest,
    GetStatusRequest,
    ListTokensRequest,
    ListWaitsRequest,
    RevokeTokenRequest,
)
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    ListAgentsRequest,
    RegisterAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
    UpdateAgentRequest,
)
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    GetServerInfoRequest,
    HeartbeatRequest,
    ListMessagesRequest,
    ListRequestsRequest,
    PostMessageRequest,
    PostMessagesRequest,
    WaitMessagesRequest,
    WithdrawRequestRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, THREAD_STATE_UNSPECIFIED, Thread
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    LeaveThreadRequest,
    ListParticipantsRequest,
    ListThreadsRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

__all__ = [
    "FOR_OPERATORS",
    "NOT_ANONYMOUS",
    "NO_TOKEN",
    "RPCS",
    "Metadata",
    "Rpc",
    "as_registered",
    "good_request",
    "nothing_stored",
    "pages",
    "send",
]

Metadata = Sequence[tuple[str, str]]


class Rpc(NamedTuple):
    """A method of one of the services."""

    path: str
    request_type: type[Message]
    response_type: type[Message]
    streams: bool  # its responses
    takes_many: bool = False  # its requests
    idempotent: bool = False  # by its idempotency_level

    def __str__(self) -> str:
        return self.path.rpartition("/")[2]

    def call(
        self,
        channel: grpc.aio.Channel,
        data: bytes,
        *,
        metadata: Metadata = (),
        timeout: float | None = None,
    ) -> Awaitable[bytes] | AsyncGenerator[bytes]:
        """Call it with these bytes, valid or not."""
        if self.takes_many:
            both: Any = channel.stream_stream(self.path)
            return _answers(lambda: both(iter([data]), metadata=metadata, timeout=timeout))
        if self.streams:
            many: Any = channel.unary_stream(self.path)
            return _answers(lambda: many(data, metadata=metadata, timeout=timeout))
        one: Any = channel.unary_unary(self.path)
        answer: Awaitable[bytes] = one(data, metadata=metadata, timeout=timeout)
        return answer


async def _answers(open_call: Callable[[], Any]) -> AsyncGenerator[bytes]:
    while True:
        call = open_call()
        try:
            async for answer in call:
                yield answer
            return
        except grpc.aio.AioRpcError as error:
            # The client's own message for a call that was over before the request was written.
            own = error.details() in ("internal", "Internal error from Core")
            if error.code() is not grpc.StatusCode.INTERNAL or not own:
                raise
        finally:
            call.cancel()


RPCS = [
    Rpc(
        f"/{service.full_name}/{method.name}",
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
        bool(method.server_streaming),
        bool(method.client_streaming),
        method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
    )
    for module in (bus_service_pb2, thread_service_pb2, agent_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
#: RPCs that anonymous callers may not make: there is no agent to change, or it takes an operator.
FOR_OPERATORS = {"CreateToken", "ListTokens", "RevokeToken", "ListWaits"}
NOT_ANONYMOUS = {"UpdateAgent", "UnregisterAgent", "RotateToken", *FOR_OPERATORS}
#: The id of no token.
NO_TOKEN = "0" * 16
_BY_TYPE = {rpc.request_type: rpc for rpc in RPCS}


def send(
    channel: grpc.aio.Channel, request: Message, metadata: Metadata = ()
) -> Awaitable[bytes] | AsyncGenerator[bytes]:
    """Call the RPC that takes this request."""
    return _BY_TYPE[type(request)].call(channel, request.SerializeToString(), metadata=metadata)


def good_request(rpc: Rpc, thread: str) -> Message:
    """Returns a request that succeeds while this thread holds a message; some need a token.

    But for RevokeToken, which names no token, and WithdrawRequest: the message must ask an agent.
    """
    requests: tuple[Message, ...] = (
        PostMessageRequest(thread=thread, content="x"),
        PostMessagesRequest(posts=[PostMessageRequest(thread=thread, content="x")]),
        WaitMessagesRequest(threads=[Cursor(thread=thread)], max_wait=Duration()),
        HeartbeatRequest(read_cursors=[Cursor(thread=thread)]),
        ListMessagesRequest(thread=thread),
        GetMessageRequest(thread=thread, seq=1),
        ListRequestsRequest(),
        WithdrawRequestRequest(thread=thread, seq=1),
        GetServerInfoRequest(),
        CreateThreadRequest(thread=f"{thread}-2"),
        GetThreadRequest(thread=thread),
        ListThreadsRequest(),
        JoinThreadRequest(thread=thread),
        LeaveThreadRequest(thread=thread),
        ListParticipantsRequest(thread=thread),
        UpdateThreadRequest(thread=thread, stage="x", update_mask=FieldMask(paths=["stage"])),
        SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED),
        DeleteThreadRequest(thread=thread),
        RegisterAgentRequest(agent=thread),
        GetAgentRequest(),
        ListAgentsRequest(),
        UpdateAgentRequest(description="x", update_mask=FieldMask(paths=["description"])),
        EndSessionRequest(),
        UnregisterAgentRequest(),
        RotateTokenRequest(),
        CreateTokenRequest(),
        ListTokensRequest(),
        RevokeTokenRequest(token_id=NO_TOKEN),
        ListWaitsRequest(),
        GetStatusRequest(),
    )
    return next(request for request in requests if isinstance(request, rpc.request_type))


@contextlib.asynccontextmanager
async def nothing_stored(channel: grpc.aio.Channel, metadata: Metadata = ()) -> AsyncIterator[None]:
    """Check that no thread and no agent appears, vanishes, moves or changes within the block.

    A presence that changes by a mere call does not count. Nor does what threads with a retention
    lose by themselves, and when: they are compared without the seqs of their entries.
    """
    before = await _stored(channel, metadata)
    yield
    assert await _stored(channel, metadata) == before


def as_registered(agent: Agent) -> Agent:
    """Returns an agent without its presence."""
    lasting = Agent()
    lasting.CopyFrom(agent)
    for passing in ("presence", "status_text", "last_seen_time"):
        lasting.ClearField(passing)
    return lasting


async def _stored(
    channel: grpc.aio.Channel, metadata: Metadata
) -> tuple[list[Thread], list[Agent]]:
    threads: ThreadStub = ThreadServiceStub(channel)
    agents: AgentStub = AgentServiceStub(channel)
    every_state = ListThreadsRequest(states=[THREAD_STATE_UNSPECIFIED], page_size=1_000)
    listed = await pages(threads.ListThreads, every_state, metadata)
    known = await pages(agents.ListAgents, ListAgentsRequest(page_size=1_000), metadata)
    found = [thread for page in listed for thread in page.threads]
    shrinking = [thread for thread in found if thread.HasField("retention")]
    for thread in shrinking:
        for field in ("first_seq", "head_seq", "update_time"):
            thread.ClearField(field)
    still = [thread for thread in found if not thread.HasField("retention")]
    return (
        still + sorted(shrinking, key=lambda thread: thread.name),
        [as_registered(agent) for page in known for agent in page.agents],
    )


async def pages(call: Callable[..., Any], request: Any, metadata: Metadata = ()) -> list[Any]:
    """Returns all pages of a listing."""
    found = [await call(request, metadata=metadata)]
    while found[-1].next_page_token:
        request.page_token = found[-1].next_page_token
        found.append(await call(request, metadata=metadata))
    return found
