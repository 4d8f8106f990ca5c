"""Invalid fields in requests that only an agent or an operator may make."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from tests.callers import Caller, operator, register
from tests.refusals import refused
from tests.rpcs import nothing_stored, send
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess
from threadbus.v1.admin_service_pb2 import ListWaitsRequest
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    RotateTokenRequest,
    UnregisterAgentRequest,
    UpdateAgentRequest,
)
from threadbus.v1.bus_service_pb2 import HeartbeatRequest

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
WRONG_THREADS = [".x", "-x", "a b", "a/b", "a\n", "é", "x" * 129]
WRONG_AGENTS = [".x", "-x", "_x", "Upper", "a b", "a/b", "a\n", "ß", "x" * 64]
WRONG_LABELS: list[tuple[dict[str, str], str]] = [
    ({str(n): "" for n in range(33)}, "labels"),
    ({"": "no key"}, "labels"),
    ({"é" * 32: "a key of 64 bytes"}, "labels"),
    ({"k": "v" * 257}, 'labels["k"]'),
]
WRONG_MASKS: list[tuple[list[str], str]] = [
    ([], "update_mask"),
    (["labels"] * 101, "update_mask.paths"),
    (["description", "kind"], "update_mask.paths[1]"),
    (["labels", "labels", ""], "update_mask.paths[2]"),
    (["displayName"], "update_mask.paths[0]"),
    (["agent"], "update_mask.paths[0]"),
    (["x" * 100_000], "update_mask.paths[0]"),
]
WRONG_DURATIONS = [
    Duration(seconds=-1),
    Duration(nanos=-1),
    Duration(seconds=1, nanos=-1),
    Duration(seconds=315_576_000_001),
    Duration(seconds=-(2**63)),
    Duration(nanos=1_000_000_000),
    Duration(nanos=INT32_MIN),
]


def update(**fields: Any) -> UpdateAgentRequest:
    mask = FieldMask(paths=["display_name", "description", "labels"])
    return UpdateAgentRequest(**{"update_mask": mask, **fields})


OWN: list[tuple[Message, str]] = [
    (update(display_name="x" * 129), "display_name"),
    (update(display_name="é" * 65), "display_name"),
    (update(description="x" * 1_025), "description"),
    (update(description="é" * 513), "description"),
    *((update(labels=bad), field) for bad, field in WRONG_LABELS),
    *((update(update_mask=FieldMask(paths=bad)), field) for bad, field in WRONG_MASKS),
    *((RotateTokenRequest(grace=bad), "grace") for bad in WRONG_DURATIONS),
]

#: Requests that an operator may make about any agent, or all.
OPERATORS: list[tuple[Message, str]] = [
    (update(), "agent"),
    *((update(agent=bad), "agent") for bad in WRONG_AGENTS),
    (UnregisterAgentRequest(), "agent"),
    *((UnregisterAgentRequest(agent=bad), "agent") for bad in WRONG_AGENTS),
    *((ListWaitsRequest(agent=bad), "agent") for bad in WRONG_AGENTS),
    *((ListWaitsRequest(thread=bad), "thread") for bad in WRONG_THREADS),
    (ListWaitsRequest(page_size=-1), "page_size"),
    (ListWaitsRequest(page_size=INT32_MIN), "page_size"),
    *(
        (ListWaitsRequest(page_token=bad), "page_token")
        for bad in ("x", "-1", "+1", " 1", "1.0", "1_0", "٣", "²", "\0", "9" * 20, "9" * 1_000)
    ),
]


def ids(wrong: list[tuple[Message, str]]) -> list[str]:
    return [f"{request.DESCRIPTOR.name}-{field}" for request, field in wrong]


@pytest.fixture
async def agent(agents: AgentStub, name: str) -> Caller:
    """A newly registered agent."""
    return await register(agents, name)


@pytest.mark.parametrize(("request_", "field"), OWN, ids=ids(OWN))
async def test_an_agents_request_with_an_invalid_field_is_refused_with_the_fields_path(
    channel: grpc.aio.Channel, bus: BusStub, agent: Caller, request_: Message, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_, agent.metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert refusal.details == ["ErrorInfo", "BadRequest"]
    assert refusal.trailer_bytes < 1_000
    await bus.Heartbeat(HeartbeatRequest(), metadata=agent.metadata)  # its token still works


@pytest.mark.parametrize(("request_", "field"), OPERATORS, ids=ids(OPERATORS))
async def test_an_operators_request_with_an_invalid_field_is_refused_with_the_fields_path(
    channel: grpc.aio.Channel, server: ServerProcess, request_: Message, field: str
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(send(channel, request_, operator(server).metadata))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", [field])
    assert refusal.details == ["ErrorInfo", "BadRequest"]


async def test_a_heartbeat_at_every_limit_is_accepted_and_stored_as_sent(
    bus: BusStub, agents: AgentStub, agent: Caller
) -> None:
    longest = Duration(seconds=315_576_000_000, nanos=999_999_999)
    beat = HeartbeatRequest(status_text="é\0" + "é" * 126 + "x", lease=longest)
    assert len(beat.status_text.encode()) == 256
    await bus.Heartbeat(beat, metadata=agent.metadata)
    shown = (await agents.GetAgent(GetAgentRequest(agent=agent.name))).agent
    assert shown.status_text == beat.status_text


async def test_a_refused_heartbeat_does_not_change_the_reported_state(
    bus: BusStub, agents: AgentStub, agent: Caller
) -> None:
    await bus.Heartbeat(HeartbeatRequest(status_text="before"), metadata=agent.metadata)
    too_long = HeartbeatRequest(status_text="x" * 257)
    refusal = await refused(bus.Heartbeat(too_long, metadata=agent.metadata))
    assert refusal.fields == ["status_text"]
    shown = (await agents.GetAgent(GetAgentRequest(agent=agent.name))).agent
    assert shown.status_text == "before"


async def test_an_agent_updated_at_every_limit_is_stored_as_sent(
    agents: AgentStub, agent: Caller
) -> None:
    request = update(
        agent=agent.name,
        display_name="é\0" + "é" * 62 + "x",
        description="\n" + "x" * 1_023,
        labels={f"{n:02}" + "é" * 30 + "k": "é" * 128 for n in range(32)},
    )
    changed = (await agents.UpdateAgent(request, metadata=agent.metadata)).agent
    assert changed == Agent(
        name=agent.name,
        kind=changed.kind,
        display_name=request.display_name,
        description=request.description,
        labels=request.labels,
        presence=changed.presence,
        last_seen_time=changed.last_seen_time,
        create_time=changed.create_time,
    )


async def test_huge_numbers_are_accepted_where_they_are_upper_bounds(
    admin: AdminStub, bus: BusStub, agents: AgentStub, server: ServerProcess, agent: Caller
) -> None:
    listed = await admin.ListWaits(
        ListWaitsRequest(page_size=INT32_MAX, page_token=f"{10**19}-{'f' * 16}-{10**19}"),
        metadata=operator(server).metadata,
    )
    assert (list(listed.waits), listed.next_page_token) == ([], "")
    longest = Duration(seconds=315_576_000_000, nanos=999_999_999)
    await agents.RotateToken(RotateTokenRequest(grace=longest), metadata=agent.metadata)
    await bus.Heartbeat(HeartbeatRequest(), metadata=agent.metadata)  # with the old token
