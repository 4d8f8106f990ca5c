"""UpdateAgent: an agent's profile, changed by itself or by an operator."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tests.callers import Caller, operator, register
from tests.refusals import refused
from tests.rpcs import Metadata, as_registered, nothing_stored
from tests.serving import AgentStub, ServerProcess
from threadbus.v1.agent_pb2 import AGENT_KIND_HUMAN, Agent
from threadbus.v1.agent_service_pb2 import (
    GetAgentRequest,
    UpdateAgentRequest,
)

BEFORE: dict[str, Any] = {
    "display_name": "A name",
    "description": "A description.",
    "labels": {"a": "1"},
}
AFTER: dict[str, Any] = {
    "display_name": "Another name",
    "description": "Another description.",
    "labels": {"b": "2", "c": "3"},
}


@pytest.fixture
async def agent(server: ServerProcess, agents: AgentStub, name: str) -> Caller:
    """A newly registered human, with all fields of `BEFORE`."""
    return await register(agents, name, operator(server), AGENT_KIND_HUMAN, **BEFORE)


async def read(agents: AgentStub, name: str, **options: Any) -> Agent:
    answer = await agents.GetAgent(GetAgentRequest(agent=name), **options)
    return as_registered(answer.agent)


async def update(
    agents: AgentStub, agent: str, *paths: str, metadata: Metadata = (), **fields: Any
) -> Agent:
    """Set the given fields, or those of the paths; returns the agent from the response."""
    mask = FieldMask(paths=paths or fields)
    request = UpdateAgentRequest(agent=agent, update_mask=mask, **fields)
    return as_registered((await agents.UpdateAgent(request, metadata=tuple(metadata))).agent)


@pytest.mark.parametrize("field", AFTER)
async def test_a_field_named_in_the_mask_is_set_and_no_other(
    agents: AgentStub, agent: Caller, field: str
) -> None:
    before = await read(agents, agent.name)
    changed = await update(agents, agent.name, field, metadata=agent.metadata, **AFTER)
    assert changed == await read(agents, agent.name)
    assert changed == Agent(
        name=agent.name,
        kind=AGENT_KIND_HUMAN,
        create_time=before.create_time,
        **{**BEFORE, field: AFTER[field]},
    )


async def test_a_field_named_without_a_value_is_cleared(agents: AgentStub, agent: Caller) -> None:
    cleared = await update(agents, agent.name, *AFTER, metadata=agent.metadata)
    assert (cleared.display_name, cleared.description, dict(cleared.labels)) == ("", "", {})


async def test_an_agent_need_not_give_its_own_name(agents: AgentStub, agent: Caller) -> None:
    changed = await update(agents, "", metadata=agent.metadata, **AFTER)
    assert (changed.name, changed.display_name) == (agent.name, "Another name")


async def test_an_operator_changes_any_agent(
    agents: AgentStub, agent: Caller, server: ServerProcess
) -> None:
    changed = await update(agents, agent.name, metadata=operator(server).metadata, **AFTER)
    assert changed == await read(agents, agent.name)
    assert changed.description == "Another description."


async def test_an_operator_learns_that_an_agent_does_not_exist(
    agents: AgentStub, server: ServerProcess
) -> None:
    for name in ("nobody", "operator", "anonymous"):
        refusal = await refused(update(agents, name, metadata=operator(server).metadata, **AFTER))
        assert (refusal.reason, refusal.resources) == ("AGENT_NOT_FOUND", [("agent", name)])


async def test_no_other_agent_changes_an_agent_or_learns_whether_it_exists(
    channel: grpc.aio.Channel, agents: AgentStub, agent: Caller, name: str
) -> None:
    another = await register(agents, f"{name}-2")
    for metadata in (another.metadata, ()):
        for whom in (agent.name, "nobody", "no name"):
            async with nothing_stored(channel):
                refusal = await refused(update(agents, whom, metadata=metadata, **AFTER))
            assert refusal.reason == "ACCESS_DENIED"


async def test_anonymous_has_no_profile_to_change(
    channel: grpc.aio.Channel, agents: AgentStub
) -> None:
    async with nothing_stored(channel):
        refusal = await refused(update(agents, "", **AFTER))
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["agent"])


@pytest.mark.own_server
@pytest.mark.slow
async def test_a_change_survives_a_restart(
    agents: AgentStub, agent: Caller, server: ServerProcess
) -> None:
    changed = await update(agents, agent.name, metadata=agent.metadata, **AFTER)
    server.kill()
    server.start()
    assert await read(agents, agent.name, wait_for_ready=True) == changed
