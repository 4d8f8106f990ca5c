"""BusClient: the credentials file, and servers that require tokens."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bus_client import BusClient, CredentialsError, Unauthenticated, Unreachable
from tests.agent_process import agent_process
from tests.callers import operator
from tests.serving import AgentStub, ServerProcess
from threadbus.v1.agent_service_pb2 import RegisterAgentRequest
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """The path of a credentials file that does not exist yet."""
    return tmp_path / "user" / "credentials.json"


@pytest.fixture(scope="module")
def strict_server(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[ServerProcess]:
    """A server that requires tokens."""
    db = tmp_path_factory.mktemp("strict") / "bus.db"
    with ServerProcess(db, "--auth", "required") as running:
        yield running


def kept(credentials: Path) -> Any:
    """Returns the content of the file."""
    return json.loads(credentials.read_text("utf-8"))


async def test_tokens_are_stored_by_server_and_agent_readable_by_the_user_only(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    for agent in (name, f"{name}-2"):
        async with BusClient(server.address, agent=agent, credentials=credentials):
            pass
    tokens = kept(credentials)
    assert {address: set(agents) for address, agents in tokens.items()} == {
        server.address: {name, f"{name}-2"}
    }
    assert len(set(tokens[server.address].values())) == 2
    assert credentials.parent.stat().st_mode & 0o777 == 0o700
    modes = {path.stat().st_mode & 0o777 for path in credentials.parent.iterdir()}
    assert modes == {0o600}


async def test_a_token_is_the_agents_own(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    async with BusClient(server.address, agent=name, credentials=credentials):
        token = kept(credentials)[server.address][name]
    async with BusClient(server.address, token=token) as bus:
        assert bus.agent == name


async def test_tokens_are_stored_in_the_users_data_directory(
    server: ServerProcess, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    async with BusClient(server.address, agent=name):
        assert name in kept(tmp_path / "data/threadbus/credentials.json")[server.address]


async def test_a_token_is_stored_before_the_server_receives_it(
    credentials: Path, name: str
) -> None:
    bus = BusClient("127.0.0.1:1", agent=name, credentials=credentials, timeout=0.05)
    with pytest.raises(Unreachable):
        await bus.connect()
    assert name in kept(credentials)["127.0.0.1:1"]


async def test_entries_of_others_in_the_file_stay(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    credentials.parent.mkdir()
    credentials.write_text('{"elsewhere:1": {"someone": "their-token"}}', "utf-8")
    credentials.chmod(0o600)
    async with BusClient(server.address, agent=name, credentials=credentials):
        pass
    assert kept(credentials)["elsewhere:1"] == {"someone": "their-token"}
    assert credentials.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '"text"', '{"127.0.0.1:1": []}', '{"127.0.0.1:1": {"a": 5}}', "\0", "[" * 99_999],
    ids=lambda content: content[:40],
)
async def test_a_file_that_is_not_ours_is_named_and_left_unchanged(
    server: ServerProcess, credentials: Path, name: str, content: str
) -> None:
    credentials.parent.mkdir()
    credentials.write_text(content.replace("127.0.0.1:1", server.address), "utf-8")
    credentials.chmod(0o600)
    with pytest.raises(CredentialsError, match=str(credentials)):
        await BusClient(server.address, agent=name, credentials=credentials).connect()
    assert credentials.read_text("utf-8") == content.replace("127.0.0.1:1", server.address)


@pytest.mark.slow
async def test_processes_started_at_once_are_the_same_agent(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    async with contextlib.AsyncExitStack() as running:
        processes = await asyncio.gather(
            *(
                running.enter_async_context(agent_process(server.address, name, credentials, name))
                for _ in range(4)
            )
        )
        for process in processes:
            process.go()
        said = await asyncio.gather(*(process.line() for process in processes))
    assert said == [f"connected as {name}"] * 4
    assert set(kept(credentials)[server.address]) == {name}


async def test_where_tokens_are_required_an_anonymous_client_learns_only_that(
    strict_server: ServerProcess, name: str
) -> None:
    async with BusClient(strict_server.address) as bus:
        assert (bus.agent, (await bus.server_info()).auth) == ("anonymous", "required")
        with pytest.raises(Unauthenticated):
            await bus.join(name)


async def test_where_tokens_are_required_the_operators_is_one(
    strict_server: ServerProcess, name: str
) -> None:
    token = operator(strict_server).token
    async with BusClient(strict_server.address, token=token) as bus:
        assert bus.agent == "operator"
        assert (await bus.join(name)).created


async def test_where_tokens_are_required_the_operator_registers_with_the_stored_token(
    strict_server: ServerProcess, credentials: Path, name: str
) -> None:
    bus = BusClient(strict_server.address, agent=name, credentials=credentials)
    with pytest.raises(Unauthenticated) as refused:
        await bus.connect()
    assert refused.value.reason == "TOKEN_INVALID"

    own = kept(credentials)[strict_server.address][name]
    async with grpc.aio.insecure_channel(strict_server.address) as channel:
        agents: AgentStub = AgentServiceStub(channel)
        await agents.RegisterAgent(
            RegisterAgentRequest(agent=name, token=own), metadata=operator(strict_server).metadata
        )
    async with bus:
        assert (bus.agent, (await bus.server_info()).agent) == (name, name)
        assert (await (await bus.join(name)).post("hello")).seq == 1
