"""Each reason of errors.proto: its cause, and its details.

`refused` checks that the code and the metadata keys are those of errors.proto.
"""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.callers import operator, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.open_wait import WaitCall, open_wait
from tests.polling import until_known
from tests.refusals import CONTRACT, refused
from tests.rpcs import nothing_stored, send
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    RegisterAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetMessageRequest,
    ListMessagesRequest,
    PostMessageRequest,
    WaitMessagesRequest,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.errors_pb2 import ErrorReason
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import (
    SYNC_MODE_STRICT,
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    LeaveThreadRequest,
    ListParticipantsRequest,
    SetThreadStateRequest,
    UpdateThreadRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

pytestmark = pytest.mark.small_server

#: Tested where servers are stopped, locked out, run on a full disk, and broken.
ELSEWHERE = {"DRAINING", "STORE_BUSY", "STORE_FAILED", "STORAGE_FULL", "INTERNAL"}


def post(thread: str, **fields: Any) -> PostMessageRequest:
    return PostMessageRequest(**{"thread": thread, "content": "x", **fields})


def test_each_reason_of_the_contract_has_its_code() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()}
    assert set(CONTRACT) == reasons - {"UNSPECIFIED"}


def test_every_reason_of_the_contract_is_tested() -> None:
    tests = [test for test in globals() if test.startswith("test_")]
    untested = {
        reason
        for reason in CONTRACT
        if not any(test.startswith(f"test_{reason.lower()}_") for test in tests)
    }
    assert untested == ELSEWHERE


async def test_validation_failed_names_the_field_and_the_rule(bus: BusStub) -> None:
    refusal = await refused(bus.PostMessage(post("no/name")))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["thread"])
    assert refusal.details == ["ErrorInfo", "BadRequest"]
    assert "thread" in refusal.message


async def test_message_too_large_carries_limit_and_size(bus: BusStub, thread: str) -> None:
    size = 1024 * 1024 + 1
    refusal = await refused(bus.PostMessage(post(thread, content="x" * size)))
    assert refusal.reason == "MESSAGE_TOO_LARGE"
    assert refusal.metadata == {"limit": str(size - 1), "size": str(size)}
    assert refusal.details == ["ErrorInfo", "BadRequest"]


async def test_content_blocked_names_the_rule_and_the_field(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--refuse-secrets")
    async with connected(server.address, name) as client:
        refusal = await refused(client.bus.PostMessage(post(name, content="npm_" + "aB3" * 12)))
    assert (refusal.reason, refusal.metadata) == ("CONTENT_BLOCKED", {"rule": "npm-token"})
    assert (refusal.fields, refusal.details) == (["content"], ["ErrorInfo", "BadRequest"])


async def test_token_invalid_is_final(bus: BusStub, thread: str) -> None:
    refusal = await refused(
        bus.PostMessage(post(thread), metadata=(("authorization", "Bearer unknown"),))
    )
    assert (refusal.reason, refusal.details) == ("TOKEN_INVALID", ["ErrorInfo"])


async def test_token_expired_is_the_reason_for_a_rotated_token(
    agents: AgentStub, bus: BusStub, thread: str, name: str
) -> None:
    agent = await register(agents, name)
    await agents.RotateToken(RotateTokenRequest(), metadata=agent.metadata)
    refusal = await refused(bus.PostMessage(post(thread), metadata=agent.metadata))
    assert (refusal.reason, refusal.details) == ("TOKEN_EXPIRED", ["ErrorInfo"])


async def test_access_denied_comes_before_not_found(bus: BusStub) -> None:
    refusal = await refused(bus.PostMessage(post("unknown", on_behalf_of="another")))
    assert (refusal.reason, refusal.details) == ("ACCESS_DENIED", ["ErrorInfo"])


@pytest.mark.parametrize(
    "request_",
    [
        post("unknown"),
        post("unknown", request_id="x", expected_last_seq=7, epoch="another"),
        WaitMessagesRequest(threads=[Cursor(thread="unknown")]),
        ListMessagesRequest(thread="unknown", after_seq=1, epoch="another"),
        GetMessageRequest(thread="unknown", seq=1),
        GetThreadRequest(thread="unknown"),
        JoinThreadRequest(thread="unknown"),
        SetThreadStateRequest(thread="unknown", state=THREAD_STATE_CLOSED),
        DeleteThreadRequest(thread="unknown"),
        LeaveThreadRequest(thread="unknown"),
        ListParticipantsRequest(thread="unknown"),
        UpdateThreadRequest(thread="unknown", update_mask=FieldMask(paths=["topic"])),
    ],
    ids=lambda request: request.DESCRIPTOR.name,
)
async def test_thread_not_found_names_the_thread(
    channel: grpc.aio.Channel, request_: Message
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_))
    assert (refusal.reason, refusal.resources) == ("THREAD_NOT_FOUND", [("thread", "unknown")])
    assert refusal.details == ["ErrorInfo", "ResourceInfo"]


@pytest.mark.parametrize("field", ["seq", "reply_to", "edit_of"])
async def test_message_not_found_names_the_message(
    channel: grpc.aio.Channel, thread: str, field: str
) -> None:
    requests: dict[str, Message] = {
        "seq": GetMessageRequest(thread=thread, seq=3),
        "reply_to": post(thread, reply_to=3),
        "edit_of": post(thread, edit_of=3),
    }
    async with nothing_stored(channel):
        refusal = await refused(send(channel, requests[field]))
    assert refusal.reason == "MESSAGE_NOT_FOUND"
    assert refusal.resources == [("message", f"{thread}/3")]
    assert refusal.details == ["ErrorInfo", "ResourceInfo"]


@pytest.mark.parametrize("field", ["mentions", "handoff_to", "agent", "agent_to_take_out"])
async def test_agent_not_found_names_the_agent(
    channel: grpc.aio.Channel, server: ServerProcess, thread: str, field: str
) -> None:
    requests: dict[str, Message] = {
        "mentions": post(thread, mentions=["nobody"]),
        "handoff_to": post(thread, handoff_to="nobody"),
        "agent": GetAgentRequest(agent="nobody"),
        "agent_to_take_out": UnregisterAgentRequest(agent="nobody"),
    }
    async with nothing_stored(channel):
        refusal = await refused(send(channel, requests[field], operator(server).metadata))
    assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", "nobody")])
    assert refusal.details == ["ErrorInfo", "ResourceInfo"]


async def test_thread_exists_names_the_thread(
    channel: grpc.aio.Channel, threads: ThreadStub, thread: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(
            threads.CreateThread(CreateThreadRequest(thread=thread, topic="another"))
        )
    assert (refusal.reason, refusal.resources) == ("THREAD_EXISTS", [("thread", thread)])
    assert refusal.details == ["ErrorInfo", "ResourceInfo"]


async def test_agent_exists_names_the_agent(
    channel: grpc.aio.Channel, agents: AgentStub, name: str
) -> None:
    await register(agents, name)
    async with nothing_stored(channel):
        refusal = await refused(
            agents.RegisterAgent(RegisterAgentRequest(agent=name, description="another"))
        )
    assert (refusal.reason, refusal.resources) == ("AGENT_EXISTS", [("agent", name)])
    assert refusal.details == ["ErrorInfo", "ResourceInfo"]


async def test_request_id_reused_carries_the_first_seq(
    channel: grpc.aio.Channel, bus: BusStub, thread: str
) -> None:
    await bus.PostMessage(post(thread))
    await bus.PostMessage(post(thread, request_id="one"))
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread, request_id="one", content="other")))
    assert (refusal.reason, refusal.metadata) == ("REQUEST_ID_REUSED", {"seq": "2"})
    assert refusal.details == ["ErrorInfo"]


async def test_seq_conflict_carries_the_expectation_and_the_head(
    channel: grpc.aio.Channel, bus: BusStub, thread: str
) -> None:
    await bus.PostMessage(post(thread))
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread, expected_last_seq=0)))
    assert refusal.reason == "SEQ_CONFLICT"
    assert refusal.metadata == {"expected": "0", "last_seq": "1"}
    assert refusal.details == ["ErrorInfo"]


async def test_expected_seq_required_carries_the_head(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, name: str
) -> None:
    strict = CreateThreadRequest(thread=name, sync_mode=SYNC_MODE_STRICT)
    await threads.CreateThread(strict)
    await bus.PostMessage(post(name, expected_last_seq=0))
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(name)))
    assert (refusal.reason, refusal.details) == ("EXPECTED_SEQ_REQUIRED", ["ErrorInfo"])
    assert "newest message, 1," in refusal.message


@pytest.mark.parametrize("state", [THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED])
async def test_thread_closed_refuses_posts(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    thread: str,
    state: ThreadState.ValueType,
) -> None:
    await threads.SetThreadState(SetThreadStateRequest(thread=thread, state=state))
    async with nothing_stored(channel):
        refusal = await refused(bus.PostMessage(post(thread)))
    assert (refusal.reason, refusal.details) == ("THREAD_CLOSED", ["ErrorInfo"])
    assert thread in refusal.message


@pytest.mark.parametrize(
    "fields",
    [{"epoch": "another"}, {"after_seq": 2}, {"after_seq": 1, "epoch": "another"}],
    ids=str,
)
async def test_cursor_invalid_carries_the_range_of_the_thread(
    bus: BusStub, threads: ThreadStub, thread: str, fields: dict[str, Any]
) -> None:
    await bus.PostMessage(post(thread))
    epoch = (await threads.GetThread(GetThreadRequest(thread=thread))).thread.epoch
    refusal = await refused(bus.ListMessages(ListMessagesRequest(thread=thread, **fields)))
    assert refusal.reason == "CURSOR_INVALID"
    assert refusal.metadata == {"first_seq": "1", "head_seq": "1", "epoch": epoch}
    assert refusal.details == ["ErrorInfo"]


async def test_cursor_invalid_refuses_a_post_for_another_epoch(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    epoch = (await threads.GetThread(GetThreadRequest(thread=thread))).thread.epoch
    async with nothing_stored(channel):
        refusal = await refused(
            bus.PostMessage(post(thread, epoch="another", expected_last_seq=7, reply_to=7))
        )
    assert refusal.reason == "CURSOR_INVALID"
    assert refusal.metadata == {"first_seq": "1", "head_seq": "0", "epoch": epoch}
    assert (await bus.PostMessage(post(thread, epoch=epoch, expected_last_seq=0))).seq == 1


@pytest.mark.slow
async def test_rate_limited_says_when_to_retry(start_server: StartServer, name: str) -> None:
    server = start_server("--posts-per-minute", "1")
    async with connected(server.address, name) as client:
        await client.bus.PostMessage(post(name))
        refusal = await refused(client.bus.PostMessage(post(name)))
    assert (refusal.reason, refusal.metadata) == ("RATE_LIMITED", {"limit": "1"})
    assert refusal.details == ["ErrorInfo", "RetryInfo"]
    assert refusal.retry_delay is not None
    assert 30 < refusal.retry_delay <= 60


async def test_quota_exceeded_names_the_limit_until_a_wait_ends(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-open-waits", "1")
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus: BusStub = BusServiceStub(channel)
        threads: ThreadStub = ThreadServiceStub(channel)
        await threads.CreateThread(CreateThreadRequest(thread=name))
        mine, other = [
            (await register(AgentServiceStub(channel), f"{name}-{n}")).metadata for n in range(2)
        ]
        request = WaitMessagesRequest(threads=[Cursor(thread=name)])
        async with open_wait(bus, name, metadata=mine):
            refusal = await refused(bus.WaitMessages(request, metadata=mine))
            async with open_wait(bus, name, metadata=other), open_wait(bus, name):
                pass  # neither another agent nor anonymous is affected
        await threads.SetThreadState(SetThreadStateRequest(thread=name, state=THREAD_STATE_CLOSED))
        await until_known(lambda: ended_well(bus.WaitMessages(request, metadata=mine)))
    assert (refusal.reason, refusal.metadata) == ("QUOTA_EXCEEDED", {"limit": "1"})
    assert refusal.details == ["ErrorInfo", "QuotaFailure"]
    assert len(refusal.quotas) == 1


async def ended_well(call: WaitCall) -> bool:
    """Returns whether this wait was accepted."""
    try:
        return [frame async for frame in call][-1].HasField("ending")
    except grpc.aio.AioRpcError:
        return False
