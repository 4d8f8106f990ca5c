"""Callers with tokens: registered agents and operators."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.serving import AdminStub, AgentStub, ServerProcess
from threadbus.v1.admin_service_pb2 import CreateTokenRequest, CreateTokenResponse
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, AgentKind
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest

__all__ = ["Caller", "create_token", "operator", "operator_token_file", "register", "with_token"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A name and the token that proves it."""

    name: str
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of its calls."""
        return (("authorization", f"Bearer {self.token}"),)


async def register(
    agents: AgentStub,
    name: str,
    by: Caller | None = None,
    kind: AgentKind.ValueType = AGENT_KIND_AGENT,
    **settings: Any,
) -> Caller:
    """Register an agent, `by` an operator if it is a person or tokens are required."""
    request = RegisterAgentRequest(agent=name, kind=kind, **settings)
    answer = await agents.RegisterAgent(request, metadata=by.metadata if by else ())
    return Caller(name, answer.token)


def operator_token_file(db: Path) -> Path:
    """Returns the path of the operator's token of a server over this database."""
    return db.with_name(f"{db.name}.operator-token")


def operator(server: ServerProcess) -> Caller:
    """Returns the server's operator."""
    return Caller("operator", operator_token_file(server.db).read_text("ascii").strip())


async def create_token(
    channel: grpc.aio.Channel, boss: Caller, agent: str = "", **fields: Any
) -> CreateTokenResponse:
    """Create a token of an agent; empty: of an operator. `fields`: of the request."""
    admin: AdminStub = AdminServiceStub(channel)
    request = CreateTokenRequest(agent=agent, **fields)
    return await admin.CreateToken(request, metadata=boss.metadata)


async def with_token(
    channel: grpc.aio.Channel, boss: Caller, agent: str = "", **fields: Any
) -> Caller:
    """Returns a caller with a token of its own, created as in `create_token`."""
    created = await create_token(channel, boss, agent, **fields)
    return Caller(agent or "operator", created.secret)
