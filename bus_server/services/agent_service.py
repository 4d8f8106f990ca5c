"""AgentService: registration and sessions."""

import time

from bus_server.auth import OPERATOR_NAME, Auth, Caller, new_token, token_hash
from bus_server.errors import (
    AccessDenied,
    AgentNotFound,
    BusError,
    OutcomeUnknown,
    TokenInvalid,
    ValidationFailed,
)
from bus_server.presence.agents import Agents
from bus_server.rates import Quota, renewed_quota
from bus_server.services import validation
from bus_server.services.pages import take_page
from bus_server.settings import Settings
from bus_server.store import RegisterAgent, Registered, UpdateAgent
from bus_server.tokens import Tokens
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

    def __init__(self, agents: Agents, tokens: Tokens, auth: Auth, settings: Settings) -> None:
        self._agents = agents
        self._tokens = tokens
        self._auth = auth
        self._quota: Quota | None = None
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._quota = renewed_quota(self._quota, "agents", settings.agents_per_caller)

    async def RegisterAgent(
        self, request: pb.RegisterAgentRequest, caller: Caller
    ) -> pb.RegisterAgentResponse:
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
        hashed = token_hash(token)
        registration = RegisterAgent(agent, hashed, caller.operator)
        if self._quota is None or caller.operator:
            agent, created = await self._agents.register(registration)
        else:
            agent, created = await _register_within(self._quota, self._agents, registration, caller)
        self._auth.now_valid(hashed)
        if not caller.operator and caller.agent in ("", agent.name):
            self._agents.called(agent)
        return pb.RegisterAgentResponse(agent=agent, token=token, created=created)

    async def GetAgent(self, request: pb.GetAgentRequest, caller: Caller) -> pb.GetAgentResponse:
        if not request.agent and not caller.agent:
            agent = Agent(name=caller.name, kind=caller.kind)
            self._agents.refresh(agent)
        else:
            name = validation.agent_name("agent", request.agent or caller.name)
            agent = await self._agents.get(name)
        return pb.GetAgentResponse(agent=agent)

    async def ListAgents(
        self, request: pb.ListAgentsRequest, caller: Caller
    ) -> pb.ListAgentsResponse:
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
        if request.agent and request.agent != caller.own_name:
            await self._agents.kick(_agent_to_change(caller, request.agent))
        elif caller.own_name:
            limited = caller.prefixes or not (caller.agent or caller.operator)
            only = caller.token if limited else b""
            await self._agents.end_session(caller.own_name, only)
        return pb.EndSessionResponse()

    async def UnregisterAgent(
        self, request: pb.UnregisterAgentRequest, caller: Caller
    ) -> pb.UnregisterAgentResponse:
        name = _agent_to_change(caller, request.agent)
        await self._agents.unregister(name)
        return pb.UnregisterAgentResponse()

    async def RotateToken(
        self, request: pb.RotateTokenRequest, caller: Caller
    ) -> pb.RotateTokenResponse:
        if caller.kind == AGENT_KIND_ANONYMOUS and not request.agent:
            raise TokenInvalid("send the token to rotate as metadata: `authorization: Bearer …`")
        if caller.name == OPERATOR_NAME and request.agent in ("", caller.name):
            raise ValidationFailed(
                (
                    "agent",
                    "required of an operator, whose own token is replaced by creating another one "
                    "and revoking it, or that in the server's file by deleting the file and "
                    "restarting the server",
                )
            )
        itself = request.agent == caller.own_name and not caller.operator
        other = "" if itself else request.agent
        if other:
            _agent_to_change(caller, other)
        grace = min(validation.duration("grace", request.grace), MAX_GRACE)
        token = new_token()
        await self._tokens.rotate(caller.token, token_hash(token), grace=grace, agent=other)
        return pb.RotateTokenResponse(token=token)


async def _register_within(
    quota: Quota, agents: Agents, registration: RegisterAgent, caller: Caller
) -> Registered:
    """As `Agents.register`. Raises QuotaExceeded if the name is new and the quota is used up."""
    now = time.monotonic_ns()
    if not quota.take(caller.name, now):
        try:
            await agents.get(registration.agent.name)
        except AgentNotFound:
            raise quota.exceeded(caller.name, now) from None
        return await agents.register(registration)
    try:
        registered = await agents.register(registration)
    except BusError as error:
        if not isinstance(error, OutcomeUnknown):
            quota.give_back(caller.name)
        raise
    if not registered.created:
        quota.give_back(caller.name)
    return registered


def _agent_to_change(caller: Caller, name: str) -> str:
    """Returns the name of the agent to change: `name`, or the caller's own if that is empty.

    Raises:
        AccessDenied: the caller names another agent without being an operator.
        ValidationFailed: the name is invalid; or it is empty, and the caller is not an agent.
    """
    if name and name != caller.own_name and not caller.operator:
        raise AccessDenied("only an operator may change another agent")
    if not name and not caller.agent:
        raise ValidationFailed(("agent", f"required: {caller.name} is not an agent"))
    return validation.agent_name("agent", name or caller.name)


SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]
