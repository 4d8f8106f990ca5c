"""Names that exist because an operator posted for them: who may register them, and when."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.callers import Caller, operator, operator_token_file, register
from tests.conftest import StartServer
from tests.connections import connected
from tests.refusals import refused
from tests.refused_start import refused_start
from tests.rpcs import nothing_stored
from tests.serving import AgentStub, BusStub, ServerProcess
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT
from threadbus.v1.agent_service_pb2 import GetAgentRequest, RegisterAgentRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest
from threadbus.v1.thread_service_pb2 import CreateThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@pytest.fixture(scope="module", params=["open", "required"])
def server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, chosen_store: None
) -> Iterator[ServerProcess]:
    """A server that requires tokens, or not."""
    db = tmp_path_factory.mktemp("claims") / "bus.db"
    with ServerProcess(db, "--auth", request.param) as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator."""
    return operator(server)


@pytest.fixture
async def posted_for(channel: grpc.aio.Channel, bus: BusStub, boss: Caller, name: str) -> str:
    """An agent that exists only because the operator posted on its behalf."""
    create = CreateThreadRequest(thread=name)
    await ThreadServiceStub(channel).CreateThread(create, metadata=boss.metadata)
    request = PostMessageRequest(thread=name, content="x", on_behalf_of=name)
    await bus.PostMessage(request, metadata=boss.metadata)
    return name


async def test_an_operator_registers_a_name_posted_for(
    bus: BusStub, agents: AgentStub, boss: Caller, posted_for: str
) -> None:
    agent = await register(agents, posted_for, by=boss)
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=agent.metadata)
    assert (info.agent, list(info.scopes)) == (posted_for, ["post", "read"])
    request = PostMessageRequest(thread=posted_for, content="now by itself")
    assert (await bus.PostMessage(request, metadata=agent.metadata)).seq == 2
    found = await agents.GetAgent(GetAgentRequest(), metadata=agent.metadata)
    assert (found.agent.name, found.agent.kind) == (posted_for, AGENT_KIND_AGENT)


async def test_an_operator_may_repeat_the_registration_with_the_same_token(
    agents: AgentStub, boss: Caller, posted_for: str
) -> None:
    request = RegisterAgentRequest(agent=posted_for, token="x" * 32 + posted_for)
    first = await agents.RegisterAgent(request, metadata=boss.metadata)
    assert await agents.RegisterAgent(request, metadata=boss.metadata) == first


async def test_no_caller_gives_a_name_posted_for_a_second_token(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Caller, posted_for: str
) -> None:
    await register(agents, posted_for, by=boss)
    async with nothing_stored(channel, boss.metadata):
        again = agents.RegisterAgent(RegisterAgentRequest(agent=posted_for), metadata=boss.metadata)
        assert (await refused(again)).reason == "AGENT_EXISTS"


async def test_a_registered_agent_gets_no_second_token_after_a_post_on_its_behalf(
    channel: grpc.aio.Channel, bus: BusStub, agents: AgentStub, boss: Caller, posted_for: str
) -> None:
    registered = await register(agents, f"{posted_for}-2", by=boss)
    post = PostMessageRequest(thread=posted_for, content="x", on_behalf_of=registered.name)
    await bus.PostMessage(post, metadata=boss.metadata)
    async with nothing_stored(channel, boss.metadata):
        again = RegisterAgentRequest(agent=registered.name)
        refusal = await refused(agents.RegisterAgent(again, metadata=boss.metadata))
    assert refusal.reason == "AGENT_EXISTS"


async def test_only_an_operator_registers_a_name_posted_for(
    channel: grpc.aio.Channel,
    server: ServerProcess,
    agents: AgentStub,
    boss: Caller,
    posted_for: str,
) -> None:
    another = await register(agents, f"{posted_for}-2", by=boss)
    request = RegisterAgentRequest(agent=posted_for)
    is_open = "auth open" in server.announcement
    async with nothing_stored(channel, boss.metadata):
        by_another = await refused(agents.RegisterAgent(request, metadata=another.metadata))
        by_anyone = await refused(agents.RegisterAgent(request))
    assert by_another.reason == ("AGENT_EXISTS" if is_open else "ACCESS_DENIED")
    assert by_anyone.reason == ("AGENT_EXISTS" if is_open else "TOKEN_INVALID")
    await register(agents, posted_for, by=boss)  # it can still be registered


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_an_operators_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    db = tmp_path / "bus.db"
    file = operator_token_file(db)
    file.write_text("x" * 43 + "\n")
    file.chmod(mode)
    line = refused_start(db)
    assert str(file) in line
    assert "chmod" in line
    assert file.read_text() == "x" * 43 + "\n"


@pytest.mark.slow
async def test_a_self_made_operators_token_is_accepted_if_only_its_user_can_read_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = operator_token_file(tmp_path / "bus.db")
    file.write_text("x" * 43 + "\n")
    file.chmod(0o400)
    server = start_server(db=tmp_path / "bus.db")
    async with connected(server.address) as client:
        metadata = operator(server).metadata
        info = await client.bus.GetServerInfo(GetServerInfoRequest(), metadata=metadata)
    assert info.agent == "operator"
