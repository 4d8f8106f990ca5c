"""BusClient: the caller's identity."""

import asyncio
import secrets
from functools import partial
from pathlib import Path

import pytest

from bus_client import (
    AccessDenied,
    AgentExists,
    AgentKind,
    BusClient,
    InvalidArgument,
    Unauthenticated,
)
from bus_client.credentials import agent_token
from tests.callers import operator, register
from tests.conftest import StartServer
from tests.serving import AgentStub, ServerProcess


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """The path of a credentials file that does not exist yet."""
    return tmp_path / "user" / "credentials.json"


async def test_an_agent_registers_by_connecting(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    async with BusClient(
        server.address,
        agent=name,
        display_name="Ada",
        description="reads everything",
        credentials=credentials,
    ) as bus:
        assert (bus.agent, bus.server) == (name, server.address)
        agent = await bus.get_agent()
        posted = await (await bus.join(name)).post("hello")
        message = await bus.thread(name).message(posted.seq)
    assert (agent.name, agent.kind) == (name, AgentKind.AGENT_KIND_AGENT)
    assert (agent.display_name, agent.description) == ("Ada", "reads everything")
    assert (message.sender, message.sender_kind) == (name, AgentKind.AGENT_KIND_AGENT)


async def test_people_connect_once_an_operator_has_registered_them(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    human = AgentKind.AGENT_KIND_HUMAN
    person = partial(BusClient, server.address, agent=name, kind=human, credentials=credentials)
    with pytest.raises(AccessDenied, match="only operators register people"):
        await person().connect()
    async with BusClient(server.address, token=operator(server).token) as bus:
        await bus.register_agent(
            name,
            kind=human,
            token=agent_token(credentials, server.address, name),
        )
    async with person() as bus:
        assert (await bus.get_agent()).kind == human


async def test_an_agent_that_reconnects_is_the_same(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    created = set()
    for _ in range(2):
        async with BusClient(server.address, agent=name, credentials=credentials) as bus:
            created.add((await bus.get_agent()).create_time.ToMicroseconds())
    assert len(created) == 1


async def test_one_client_can_connect_again(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    bus = BusClient(server.address, agent=name, credentials=credentials)
    for _ in range(2):
        async with bus:
            await bus.connect()  # a no-op
            assert (await bus.server_info()).agent == name


async def test_calls_need_a_connection(server: ServerProcess) -> None:
    bus = BusClient(server.address)
    with pytest.raises(RuntimeError, match="connect"):
        await bus.join("x")
    await bus.close()  # a no-op


@pytest.mark.slow
async def test_an_agent_is_registered_again_in_a_recreated_database(
    start_server: StartServer, credentials: Path, name: str, tmp_path: Path
) -> None:
    server = start_server(db=tmp_path / "old.db")
    async with BusClient(server.address, agent=name, credentials=credentials):
        tokens = credentials.read_text("utf-8")
    server.kill()
    server.db = tmp_path / "new.db"
    server.start()
    async with BusClient(server.address, agent=name, credentials=credentials) as bus:
        assert (await bus.get_agent()).name == name
    assert credentials.read_text("utf-8") == tokens


async def test_a_taken_name_is_an_error_that_says_what_to_do(
    server: ServerProcess, agents: AgentStub, credentials: Path, name: str
) -> None:
    await register(agents, name)
    with pytest.raises(AgentExists) as taken:
        await BusClient(server.address, agent=name, credentials=credentials).connect()
    assert (taken.value.code, taken.value.reason) == ("ALREADY_EXISTS", "AGENT_EXISTS")
    for told in (name, server.address, str(credentials), "another token", "another name"):
        assert told in str(taken.value)


async def test_an_invalid_name_is_refused_with_its_field(
    server: ServerProcess, credentials: Path
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await BusClient(server.address, agent="No Name", credentials=credentials).connect()
    assert [field for field, _ in refused.value.field_violations] == ["agent"]


@pytest.mark.parametrize("named", [True, False])
async def test_a_given_token_determines_the_caller(
    server: ServerProcess, agents: AgentStub, credentials: Path, name: str, named: bool
) -> None:
    caller = await register(agents, name)
    async with BusClient(
        server.address,
        agent=name if named else None,
        token=caller.token,
        credentials=credentials,
    ) as bus:
        assert bus.agent == name
        assert (await bus.server_info()).agent == name
    assert not credentials.parent.exists()


async def test_the_token_of_another_agent_is_refused(
    server: ServerProcess, agents: AgentStub, name: str
) -> None:
    caller = await register(agents, name)
    bus = BusClient(server.address, agent=f"not-{name}", token=caller.token)
    with pytest.raises(Unauthenticated) as refused:
        await bus.connect()
    assert f"'{name}'" in str(refused.value)
    assert f"'not-{name}'" in str(refused.value)
    with pytest.raises(RuntimeError):
        await bus.server_info()  # it did not connect


async def test_an_unknown_token_is_refused(server: ServerProcess) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await BusClient(server.address, token=secrets.token_urlsafe(32)).connect()
    assert refused.value.reason == "TOKEN_INVALID"


async def test_without_a_name_and_a_token_the_caller_is_anonymous(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    async with BusClient(server.address, credentials=credentials) as bus:
        assert bus.agent == "anonymous"
        assert (await bus.get_agent()).kind == AgentKind.AGENT_KIND_ANONYMOUS
        posted = await (await bus.join(name)).post("hello")
        assert (await bus.thread(name).message(posted.seq)).sender == "anonymous"
    assert not credentials.parent.exists()


async def test_many_agents_of_one_user_share_a_file(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    names = [f"{name}-{n}" for n in range(10)]
    clients = [BusClient(server.address, agent=n, credentials=credentials) for n in names]
    await asyncio.gather(*(client.connect() for client in clients))
    assert [(await client.server_info()).agent for client in clients] == names
    await asyncio.gather(*(client.close() for client in clients))


async def test_others_are_registered_with_a_token_to_pass_on(
    server: ServerProcess, name: str
) -> None:
    async with BusClient(server.address) as bus:
        agent, token = await bus.register_agent(name, display_name="Ada", labels={"team": "blue"})
        assert (agent.name, agent.display_name) == (name, "Ada")
        assert dict(agent.labels) == {"team": "blue"}
        assert bus.agent == (await bus.server_info()).agent == "anonymous"
        # Registering again is idempotent, but not for another token.
        again, same_token = await bus.register_agent(name, token=token)
        assert (again.name, again.create_time, same_token) == (name, agent.create_time, token)
        with pytest.raises(AgentExists):
            await bus.register_agent(name)
    async with BusClient(server.address, token=token) as bus:
        assert bus.agent == name
