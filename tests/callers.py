"""Those who call with a token: registered agents and the operator."""

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
        """What its calls carry."""
        return (("authorization", f"Bearer {self.token}"),)


async def register(agents: AgentStub, name: str, by: Caller | None = None) -> Caller:
    """Register an agent; where tokens are required, `by` an operator."""
    answer = await agents.RegisterAgent(
        RegisterAgentRequest(agent=name), metadata=by.metadata if by else ()
    )
    return Caller(name, answer.token)


def operator_token_file(db: Path) -> Path:
    """Where a server over this database leaves the operator's token."""
    return db.with_name(f"{db.name}.operator-token")


def operator(server: ServerProcess) -> Caller:
    """The server's operator."""
    return Caller("operator", operator_token_file(server.db).read_text("ascii").strip())
