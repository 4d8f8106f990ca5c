"""An agent's heartbeats, and its presence as other callers see it."""

from typing import Any

from tests.callers import Caller
from tests.polling import until_known
from tests.serving import AgentStub, BusStub
from tests.wait_frames import seconds
from threadbus.v1.agent_pb2 import Agent, Presence
from threadbus.v1.agent_service_pb2 import GetAgentRequest
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, HeartbeatResponse

__all__ = ["beat", "seen", "state", "until_state"]


async def seen(agents: AgentStub, name: str) -> Agent:
    """Returns the agent."""
    return (await agents.GetAgent(GetAgentRequest(agent=name))).agent


async def state(agents: AgentStub, name: str) -> str:
    """Returns the agent's presence, such as `WAITING`."""
    return Presence.Name((await seen(agents, name)).presence).removeprefix("PRESENCE_")


async def until_state(agents: AgentStub, name: str, wanted: str, *, never: str = "") -> None:
    """Return once the agent's presence is `wanted`. Fails if it is `never` before."""

    async def is_wanted() -> bool:
        now = await state(agents, name)
        assert now != never
        return now == wanted

    await until_known(is_wanted)


async def beat(
    bus: BusStub, agent: Caller, *, lease: float | None = None, **fields: Any
) -> HeartbeatResponse:
    """Send a heartbeat of the agent, with a lease in seconds."""
    request = HeartbeatRequest(lease=None if lease is None else seconds(lease), **fields)
    return await bus.Heartbeat(request, metadata=agent.metadata)
