"""AgentService: registration and sessions."""

from bus_server.auth import Auth, Caller, new_token, require_scope, token_hash
from bus_server.errors import AccessDenied, TokenInvalid, ValidationFailed
from bus_server.presence.agents import Agents
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.store import RegisterAgent, UpdateAgent
from threadbus.limits import (
    MAX_DESCRIPTION_BYTES,
    MAX_DISPLAY_NAME_BYTES,
    MAX_FILTER_VALUES,
    MAX_GRACE,
)
from threadbus.v1 import agent_service_pb2 as pb
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    Agent,
    AgentKind,
    Presence,
)

#: The fields that UpdateAgent can set.
_SETTINGS = ("display_name", "description", "labels")


class AgentService:
    """The servicer of threadbus.v1.AgentService. Methods raise BusError as the proto says."""

    def __init__(self, agents: Agents, auth: Auth) -> None:
        self._agents = agents
        self._auth = auth

    async def RegisterAgent(
        self, request: pb.RegisterAgentRequest, caller: Caller
    ) -> pb.RegisterAgentResponse:
        require_scope(caller, "post")
        # Where tokens are required, only operators register agents, but an agent may repeat its
        # own registration.
        if self._auth.required and not caller.operator and caller.name != request.agent:
            raise AccessDenied("this server requires tokens: ask an operator to register the agent")
        kind = validation.enum("kind", request.kind, AgentKind) or AGENT_KIND_AGENT
        if kind not in (AGENT_KIND_AGENT, AGENT_KIND_HUMAN):
            raise ValidationFailed(("kind", "AGENT_KIND_AGENT or AGENT_KIND_HUMAN"))
        agent = Agent(
            name=validation.own_agent_name("agent", request.agent),
            kind=AgentKind.ValueType(kind),
            display_name=validation.text(
                "display_name", request.display_name, MAX_DISPLAY_NAME_BYTES
            ),
            description=validation.text("description", request.description, MAX_DESCRIPTION_BYTES),
            labels=validation.labels("labels", request.labels),
        )
        token = validation.token("token", request.token) if request.token else new_token()
        agent, created = await self._agents.register(
            RegisterAgent(agent, token_hash(token), claim=caller.operator)
        )
        return pb.RegisterAgentResponse(agent=agent, token=token, created=created)

    async def GetAgent(self, request: pb.GetAgentRequest, caller: Caller) -> pb.GetAgentResponse:
        require_scope(caller, "read")
        if not request.agent and (caller.operator or caller.kind == AGENT_KIND_ANONYMOUS):
            agent = Agent(name=caller.name, kind=caller.kind)
            self._agents.refresh(agent)
        else:
            name = validation.agent_name("agent", request.agent or caller.name)
            agent = await self._agents.get(name)
        return pb.GetAgentResponse(agent=agent)

    async def ListAgents(
        self, request: pb.ListAgentsRequest, caller: Caller
    ) -> pb.ListAgentsResponse:
        require_scope(caller, "read")
        size = validation.page_size("page_size", request.page_size)
        if request.page_token:
            validation.agent_name("page_token", request.page_token)
        validation.at_most("presences", request.presences, MAX_FILTER_VALUES)
        presences = {
            validation.enum(f"presences[{at}]", presence, Presence)
            for at, presence in enumerate(request.presences)
        }
        agents = await self._agents.by_name(
            presences=presences, limit=size + 1, after=request.page_token
        )
        listed = take_page(agents, size)
        more = len(agents) > len(listed)
        return pb.ListAgentsResponse(agents=listed, next_page_token=listed[-1].name if more else "")

    async def UpdateAgent(
        self, request: pb.UpdateAgentRequest, caller: Caller
    ) -> pb.UpdateAgentResponse:
        name = _agent_to_change(caller, request.agent)
        mask = validation.update_mask("update_mask", request.update_mask, _SETTINGS)
        settings = Agent(
            display_name=validation.text(
                "display_name", request.display_name, MAX_DISPLAY_NAME_BYTES
            ),
            description=validation.text("description", request.description, MAX_DESCRIPTION_BYTES),
            labels=validation.labels("labels", request.labels),
        )
        change = UpdateAgent(name, settings, mask)
        return pb.UpdateAgentResponse(agent=await self._agents.update(change))

    async def EndSession(
        self, request: pb.EndSessionRequest, caller: Caller
    ) -> pb.EndSessionResponse:
        if caller.own_name:
            await self._agents.end_session(caller.own_name)
        return pb.EndSessionResponse()

    async def UnregisterAgent(
        self, request: pb.UnregisterAgentRequest, caller: Caller
    ) -> pb.UnregisterAgentResponse:
        name = _agent_to_change(caller, request.agent)
        await self._agents.unregister(name)
        self._auth.clear_cache()
        return pb.UnregisterAgentResponse()

    async def RotateToken(
        self, request: pb.RotateTokenRequest, caller: Caller
    ) -> pb.RotateTokenResponse:
        require_scope(caller, "post")
        if caller.kind == AGENT_KIND_ANONYMOUS:
            raise TokenInvalid("send the token to rotate as metadata: `authorization: Bearer …`")
        if caller.operator:
            raise AccessDenied(
                "the operator's token cannot be rotated: delete its file and restart the server"
            )
        grace = min(validation.duration("grace", request.grace), MAX_GRACE)
        token = new_token()
        await self._agents.rotate_token(caller.token, token_hash(token), grace=grace)
        self._auth.clear_cache()
        return pb.RotateTokenResponse(token=token)


def _agent_to_change(caller: Caller, name: str) -> str:
    """Returns the name of the agent to change: `name`, or the caller's own if that is empty.

    Raises:
        AccessDenied: the caller lacks the scope `post`, or names another agent without being an
            operator.
        ValidationFailed: the name is invalid; or it is empty, and the caller is not an agent.
    """
    require_scope(caller, "post")
    if name and name != caller.own_name and not caller.operator:
        raise AccessDenied("only an operator may change another agent")
    if not name and (caller.operator or not caller.own_name):
        raise ValidationFailed(("agent", f"required: {caller.name} is not an agent"))
    return validation.agent_name("agent", name or caller.name)


SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]
