"""Callers with tokens: registered agents and operators."""

from dataclasses import dataclass
from pathlib import Path

from tests.serving import AgentStub, ServerProcess
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest

__all__ = ["Caller", "operator", "operator_token_file", "register"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A name and the token that proves it."""

    name: str
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of its calls."""
        return (("authorization", f"Bearer {self.token}"),)


async def register(agents: AgentStub, name: str, by: Caller | None = None) -> Caller:
    """Register an agent, `by` an operator where tokens are required."""
    answer = await agents.RegisterAgent(
        RegisterAgentRequest(agent=name), metadata=by.metadata if by else ()
    )
    return Caller(name, answer.token)


def operator_token_file(db: Path) -> Path:
    """Returns the path of the operator's token of a server over this database."""
    return db.with_name(f"{db.name}.operator-token")


def operator(server: ServerProcess) -> Caller:
    """Returns the server's operator."""
    return Caller("operator", operator_token_file(server.db).read_text("ascii").strip())
