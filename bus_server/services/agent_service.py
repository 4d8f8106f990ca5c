"""AgentService: registration and look-up."""

from bus_server.auth import Auth, Caller, need, new_token, token_hash
from bus_server.bus import Bus
from bus_server.errors import AccessDenied, ValidationFailed
from bus_server.services import validation as valid
from bus_server.services.pages import fitting
from bus_server.store import RegisterAgent
from threadbus.v1 import agent_service_pb2 as pb
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    Agent,
    AgentKind,
)


class AgentService:
    """The servicer of threadbus.v1.AgentService."""

    def __init__(self, bus: Bus, auth: Auth) -> None:
        self._bus = bus
        self._auth = auth

    async def RegisterAgent(
        self, request: pb.RegisterAgentRequest, caller: Caller
    ) -> pb.RegisterAgentResponse:
        need(caller, "post")
        # Where tokens are required only an operator registers; an agent may repeat its own.
        if self._auth.required and not caller.operator and caller.name != request.agent:
            raise AccessDenied("this server requires tokens: ask an operator to register the agent")
        kind = valid.enum("kind", request.kind, AgentKind) or AGENT_KIND_AGENT
        if kind not in (AGENT_KIND_AGENT, AGENT_KIND_HUMAN):
            raise ValidationFailed(("kind", "AGENT_KIND_AGENT or AGENT_KIND_HUMAN"))
        agent = Agent(
            name=valid.own_agent_name("agent", request.agent),
            kind=AgentKind.ValueType(kind),
            display_name=valid.text("display_name", request.display_name, 128),
            description=valid.text("description", request.description, 1_024),
            labels=valid.labels("labels", request.labels),
        )
        token = valid.token("token", request.token) if request.token else new_token()
        agent = await self._bus.register_agent(
            RegisterAgent(agent, token_hash(token), claim=caller.operator)
        )
        return pb.RegisterAgentResponse(agent=agent, token=token)

    async def GetAgent(self, request: pb.GetAgentRequest, caller: Caller) -> pb.GetAgentResponse:
        need(caller, "read")
        if not request.agent and (caller.operator or caller.kind == AGENT_KIND_ANONYMOUS):
            agent = Agent(name=caller.name, kind=caller.kind)
        else:
            name = valid.agent_name("agent", request.agent or caller.name)
            agent = await self._bus.agent(name)
        return pb.GetAgentResponse(agent=agent)

    async def ListAgents(
        self, request: pb.ListAgentsRequest, caller: Caller
    ) -> pb.ListAgentsResponse:
        need(caller, "read")
        size = valid.limit("page_size", request.page_size, default=100, most=1_000)
        if request.page_token:
            valid.agent_name("page_token", request.page_token)
        agents = await self._bus.list_agents(limit=size + 1, after=request.page_token)
        listed = fitting(agents, size)
        more = len(agents) > len(listed)
        return pb.ListAgentsResponse(agents=listed, next_page_token=listed[-1].name if more else "")


SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]
