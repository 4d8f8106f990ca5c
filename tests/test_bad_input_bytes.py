"""Bytes that are not a valid request, on every RPC: a typed error, and nothing is stored."""

import contextlib
from collections.abc import AsyncGenerator

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.callers import create_token, operator, register
from tests.refusals import refused
from tests.rpcs import FOR_OPERATORS, NOT_ANONYMOUS, RPCS, Rpc, good_request, nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1 import admin_service_pb2 as admin
from threadbus.v1 import agent_service_pb2 as agent
from threadbus.v1 import bus_service_pb2 as bus_service
from threadbus.v1 import thread_service_pb2 as thread_service

pytestmark = pytest.mark.small_server

STANDING = "standing"

every_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)


@pytest.fixture(autouse=True)
async def existing(threads: ThreadStub) -> None:
    """An existing thread."""
    await threads.JoinThread(thread_service.JoinThreadRequest(thread=STANDING, create=True))


def delimited(field: int, content: bytes) -> bytes:
    """A length-delimited field on the wire: a string, or a message in a message."""
    assert field < 16
    assert len(content) < 128
    return bytes([field << 3 | 2, len(content)]) + content


def test_every_rpc_of_the_four_services_is_found() -> None:
    assert sorted(map(str, RPCS)) == [
        "CreateThread", "CreateToken", "DeleteThread", "EndSession", "GetAgent", "GetMessage",
        "GetServerInfo", "GetStatus", "GetThread", "Heartbeat", "JoinThread", "LeaveThread",
        "ListAgents", "ListMessages", "ListParticipants", "ListRequests", "ListThreads",
        "ListTokens", "ListWaits", "PostMessage", "PostMessages", "RegisterAgent", "RevokeToken",
        "RotateToken", "SetThreadState", "UnregisterAgent", "UpdateAgent", "UpdateThread",
        "WaitMessages", "WithdrawRequest",
    ]  # fmt: skip


@every_rpc
@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff",
        b"\xff" * 100,
        b"\x00",
        b"\x0a\x05ab",
        b"\x0a" + b"\xff" * 10,
        b"\x07",
        b'{"thread": "standing"}',
        b"\xff" * 100_000,
    ],
    ids=["tag", "tags", "field-0", "cut-short", "endless-length", "wire-type-7", "json", "large"],
)
async def test_undecodable_bytes_are_invalid_argument(
    server: ServerProcess, channel: grpc.aio.Channel, rpc: Rpc, garbage: bytes
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(rpc.call(channel, garbage, metadata=operator(server).metadata))
    assert (refusal.reason, refusal.details) == ("VALIDATION_FAILED", ["ErrorInfo", "BadRequest"])
    assert rpc.request_type.DESCRIPTOR.full_name in refusal.message


@pytest.mark.parametrize(
    ("request_type", "data"),
    [
        (bus_service.PostMessageRequest, delimited(1, b"standing") + delimited(2, b"\xc3\x28")),
        (bus_service.PostMessageRequest, delimited(1, b"standing") + delimited(2, b"\xed\xa0\x80")),
        (bus_service.PostMessageRequest, delimited(1, b"stand\xe9")),
        (bus_service.WaitMessagesRequest, delimited(1, delimited(1, b"\xff"))),
        (bus_service.HeartbeatRequest, delimited(3, delimited(3, b"\xff"))),
        (bus_service.ListMessagesRequest, delimited(5, delimited(1, b"\x80"))),
        (bus_service.GetMessageRequest, delimited(1, b"\xff")),
        (thread_service.CreateThreadRequest, delimited(3, delimited(1, b"k") + b"\x12\x01\xff")),
        (thread_service.GetThreadRequest, delimited(1, b"\xff")),
        (thread_service.ListThreadsRequest, delimited(4, b"\xff")),
        (thread_service.JoinThreadRequest, delimited(3, b"\xff")),
        (thread_service.SetThreadStateRequest, delimited(1, b"\xff")),
        (thread_service.DeleteThreadRequest, delimited(1, b"\xff")),
        (thread_service.LeaveThreadRequest, delimited(1, b"\xff")),
        (thread_service.ListParticipantsRequest, delimited(3, b"\xff")),
        (thread_service.UpdateThreadRequest, delimited(3, b"\xc3\x28")),
        (thread_service.UpdateThreadRequest, delimited(6, delimited(1, b"\xff"))),
        (agent.RegisterAgentRequest, delimited(3, b"\xf8\x88\x80\x80\x80")),
        (agent.GetAgentRequest, delimited(1, b"\xff")),
        (agent.ListAgentsRequest, delimited(2, b"\xff")),
        (agent.UpdateAgentRequest, delimited(2, b"\xed\xa0\x80")),
        (agent.UpdateAgentRequest, delimited(5, delimited(1, b"\xff"))),
        (agent.UnregisterAgentRequest, delimited(1, b"\xff")),
        (admin.ListWaitsRequest, delimited(1, b"\xff")),
        (bus_service.HeartbeatRequest, delimited(2, b"\x80")),
    ],
)
async def test_text_that_is_not_utf_8_is_invalid_argument(
    server: ServerProcess, channel: grpc.aio.Channel, request_type: type[Message], data: bytes
) -> None:
    (rpc,) = (rpc for rpc in RPCS if rpc.request_type is request_type)
    async with nothing_stored(channel):
        refusal = await refused(rpc.call(channel, data, metadata=operator(server).metadata))
    assert refusal.reason == "VALIDATION_FAILED"


@every_rpc
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    keep=st.integers(0, 60),
    tail=st.binary(max_size=8),
)
async def test_no_bytes_cause_an_internal_error(
    channel: grpc.aio.Channel,
    rpc: Rpc,
    edits: list[tuple[int, int]],
    keep: int,
    tail: bytes,
) -> None:
    data = bytearray(delimited(1, b"standing") + delimited(2, b"text") + b"\x18\x01\x20\x02" + tail)
    for at, value in edits:
        data[at % len(data)] = value
    code = await _outcome(rpc.call(channel, bytes(data[:keep]), timeout=10))
    assert code not in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


async def _outcome(call: object) -> grpc.StatusCode:
    """Returns the status that ends a call; OK for a wait once it is open."""
    try:
        if isinstance(call, AsyncGenerator):
            async with contextlib.aclosing(call):
                await anext(call, None)
        else:
            await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@every_rpc
async def test_unknown_fields_are_ignored(
    channel: grpc.aio.Channel,
    server: ServerProcess,
    bus: BusStub,
    agents: AgentStub,
    rpc: Rpc,
    thread: str,
) -> None:
    await bus.PostMessage(bus_service.PostMessageRequest(thread=thread, content="x"))
    caller = None
    if str(rpc) in NOT_ANONYMOUS:
        for_operators = str(rpc) in FOR_OPERATORS
        caller = operator(server) if for_operators else await register(agents, f"{thread}-own")
    request = good_request(rpc, thread)
    if isinstance(request, admin.RevokeTokenRequest):
        request.token_id = (await create_token(channel, operator(server))).token.token_id
    unknown = b"\xfa\x3f\x03abc" + b"\xf8\x3f\x07"  # field 1023, as a string and as a number
    data = request.SerializeToString() + unknown
    call = rpc.call(channel, data, metadata=caller.metadata if caller else ())
    asks_nobody = str(rpc) == "WithdrawRequest"
    wanted = grpc.StatusCode.INVALID_ARGUMENT if asks_nobody else grpc.StatusCode.OK
    assert await _outcome(call) == wanted


@pytest.mark.parametrize(
    "path", ["/threadbus.v1.BusService/Nothing", "/threadbus.v2.BusService/PostMessage", "/"]
)
async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel, path: str) -> None:
    refusal = await refused(Rpc(path, Message, Message, streams=False).call(channel, b""))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "")
    if path != "/":
        assert f"no method {path} here" in refusal.message
        assert "GetServerInfo" in refusal.message


async def test_a_stream_to_an_unknown_method_is_ended_at_once(channel: grpc.aio.Channel) -> None:
    path = "/threadbus.v1.BusService/Nothing"
    rpc = Rpc(path, Message, Message, streams=True, takes_many=True)
    refusal = await refused(rpc.call(channel, b"x" * 1000))
    assert refusal.code == grpc.StatusCode.UNIMPLEMENTED


async def test_a_connection_survives_garbage(channel: grpc.aio.Channel, bus: BusStub) -> None:
    for rpc in RPCS:
        await refused(rpc.call(channel, b"\xff"))
    answer = await bus.PostMessage(bus_service.PostMessageRequest(thread=STANDING, content="x"))
    assert answer.seq
