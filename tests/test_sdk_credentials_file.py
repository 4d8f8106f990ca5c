"""The credentials file: its path, what makes it unsafe, and what it contains afterwards."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import bus_client.credentials
from bus_client import (
    AgentExists,
    BusClient,
    CredentialsError,
    InvalidArgument,
    Unauthenticated,
    Unreachable,
)
from bus_client.credentials import new_token
from tests.callers import register
from tests.polling import until
from tests.script import Failure, scripted
from tests.serving import AgentStub, ServerProcess


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """The path of a credentials file that does not exist yet."""
    return tmp_path / "user" / "credentials.json"


def written(path: Path, tokens: dict[str, Any], *, mode: int = 0o600) -> Path:
    """A credentials file that exists already."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(tokens), "utf-8")
    path.chmod(mode)
    return path


def kept(path: Path) -> Any:
    """Returns the content of the file."""
    return json.loads(path.read_text("utf-8"))


async def connected_as(server: str, agent: str, credentials: Path | str | None = None) -> str:
    """Connect once; returns the caller's name."""
    async with BusClient(server, agent=agent, credentials=credentials) as bus:
        return bus.agent


async def refused(server: str, agent: str, credentials: Path | None = None) -> str:
    """Connect; returns the text of the CredentialsError."""
    with pytest.raises(CredentialsError) as raised:
        await connected_as(server, agent, credentials)
    assert raised.value.code == "FAILED_PRECONDITION"
    for name in ("THREADBUS_CREDENTIALS", "XDG_DATA_HOME", "HOME", "token="):
        assert name in raised.value.hint
    return str(raised.value)


async def test_a_path_may_be_a_string(server: ServerProcess, credentials: Path, name: str) -> None:
    assert await connected_as(server.address, name, str(credentials)) == name
    assert name in kept(credentials)[server.address]


def test_an_invalid_path_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(InvalidArgument, match="credentials: must be a path, not int"):
        BusClient(credentials=wrong)


async def test_the_environment_names_a_file(
    server: ServerProcess, credentials: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADBUS_CREDENTIALS", str(credentials))
    monkeypatch.setenv("XDG_DATA_HOME", "nowhere")
    assert await connected_as(server.address, name) == name
    assert name in kept(credentials)[server.address]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"XDG_DATA_HOME": "elsewhere"}, "XDG_DATA_HOME is 'elsewhere', which is not an absolute"),
        ({"XDG_DATA_HOME": "", "HOME": ""}, "HOME is '', which is not an absolute path"),
        ({"HOME": "here"}, "HOME is 'here', which is not an absolute path"),
    ],
    ids=str,
)
async def test_an_unusable_path_is_reported_and_nothing_is_created(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert told in await refused("127.0.0.1:1", name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user as in containers: without HOME, and not in the user database."""

    def unknown(_: int) -> None:
        raise KeyError

    for variable in ("HOME", "XDG_DATA_HOME", "THREADBUS_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("without_home")
async def test_without_a_home_folder_only_a_stored_token_is_missing(
    server: ServerProcess, agents: AgentStub, name: str
) -> None:
    async with BusClient(server.address) as bus:
        assert bus.agent == "anonymous"
    async with BusClient(server.address, token=(await register(agents, name)).token) as bus:
        assert bus.agent == name
    told = await refused(server.address, f"{name}-2")
    assert "neither HOME nor XDG_DATA_HOME is set" in told


@pytest.mark.parametrize("folder", ["/proc/threadbus", "/dev/null/threadbus"])
async def test_a_folder_that_cannot_be_created_is_reported_with_its_path(
    name: str, folder: str
) -> None:
    file = Path(folder) / "credentials.json"
    assert f"cannot be kept in {file}: " in await refused("127.0.0.1:1", name, file)


async def test_a_stored_token_is_used_without_writing_anything(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    written(credentials, {server.address: {name: new_token()}})
    assert await connected_as(server.address, name, credentials) == name
    assert list(credentials.parent.iterdir()) == [credentials]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
async def test_a_file_that_others_may_read_is_refused_as_ssh_does(
    server: ServerProcess, credentials: Path, name: str, mode: int
) -> None:
    written(credentials, {server.address: {name: new_token()}}, mode=mode)
    told = await refused(server.address, name, credentials)
    assert f"chmod 600 {credentials}" in told
    credentials.chmod(0o600)
    assert await connected_as(server.address, name, credentials) == name


@pytest.mark.parametrize("what", ["folder", "pipe", "loop"])
async def test_a_path_that_is_no_file_is_reported(credentials: Path, name: str, what: str) -> None:
    credentials.parent.mkdir()
    match what:
        case "folder":
            credentials.mkdir()
        case "pipe":
            os.mkfifo(credentials)
        case "loop":
            credentials.symlink_to(credentials)
    async with asyncio.timeout(10):
        assert str(credentials) in await refused("127.0.0.1:1", name, credentials)


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
async def test_a_link_to_the_file_stays_one(
    server: ServerProcess, credentials: Path, name: str, tmp_path: Path, there: bool
) -> None:
    real = tmp_path / "dotfiles" / "tokens.json"
    if there:
        written(real, {"elsewhere:1": {"a": "theirs"}})
    credentials.parent.mkdir()
    credentials.symlink_to(real)
    assert await connected_as(server.address, name, credentials) == name
    assert credentials.is_symlink()
    assert name in kept(real)[server.address]
    assert real.stat().st_mode & 0o777 == 0o600
    assert ("elsewhere:1" in kept(real)) is there


async def test_a_lock_file_that_is_a_link_is_not_followed(
    credentials: Path, name: str, tmp_path: Path
) -> None:
    credentials.parent.mkdir()
    victim = tmp_path / "victim"
    credentials.with_name("credentials.json.lock").symlink_to(victim)
    assert str(credentials) in await refused("127.0.0.1:1", name, credentials)
    assert not victim.exists()


@contextlib.contextmanager
def locked(credentials: Path) -> Iterator[None]:
    """Hold the file's lock, as another process."""
    credentials.parent.mkdir(exist_ok=True)
    with credentials.with_name("credentials.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def test_a_lock_held_by_another_process_is_waited_for(
    server: ServerProcess, credentials: Path, name: str
) -> None:
    with locked(credentials):
        connecting = asyncio.create_task(connected_as(server.address, name, credentials))
        await until(lambda: bus_client.credentials.awaited() is not None)
    assert await connecting == name
    assert bus_client.credentials.awaited() is None


async def test_a_lock_held_for_too_long_is_an_error_that_names_it(
    credentials: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus_client.credentials._LOCK_TIMEOUT", 0.1)
    with locked(credentials):
        told = await refused("127.0.0.1:1", name, credentials)
    assert f"{credentials}.lock locked" in told
    assert not credentials.exists()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"agent": "bad\udcb2"}, "agent"),
        ({"kind": "robot"}, "kind"),
        ({"display_name": 5}, "display_name"),
    ],
    ids=repr,
)
async def test_a_registration_that_cannot_be_sent_stores_no_token(
    credentials: Path, options: dict[str, Any], path: str
) -> None:
    bus = BusClient("127.0.0.1:1", credentials=credentials, **{"agent": "worker"} | options)
    with pytest.raises(InvalidArgument) as raised:
        await bus.connect()
    assert [field for field, _ in raised.value.field_violations] == [path]
    assert not credentials.exists()


async def test_a_token_made_for_a_taken_name_is_not_stored(
    server: ServerProcess, agents: AgentStub, credentials: Path, name: str
) -> None:
    written(credentials, {server.address: {"a": "theirs"}})
    await register(agents, name)
    with pytest.raises(AgentExists):
        await connected_as(server.address, name, credentials)
    assert kept(credentials) == {server.address: {"a": "theirs"}}


async def test_a_token_made_for_an_invalid_name_is_not_stored(
    server: ServerProcess, credentials: Path
) -> None:
    with pytest.raises(InvalidArgument):
        await connected_as(server.address, "Coder", credentials)
    assert kept(credentials) == {}


async def test_an_earlier_token_stays_though_the_name_is_taken_on_this_server(
    server: ServerProcess, agents: AgentStub, credentials: Path, name: str
) -> None:
    tokens = {server.address: {name: new_token()}}  # may be that of an older store
    written(credentials, tokens)
    await register(agents, name)
    with pytest.raises(AgentExists):
        await connected_as(server.address, name, credentials)
    assert kept(credentials) == tokens


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE), Unreachable),
        (Failure(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"), Unauthenticated),
        (
            Failure(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", fields=["display_name"]),
            InvalidArgument,
        ),
    ],
    ids=["unknown outcome", "an operator has to register it", "another process may have done it"],
)
async def test_a_token_that_may_be_the_agents_stays(
    credentials: Path, name: str, failure: Failure, kind: type[Exception]
) -> None:
    async with scripted() as script:
        for _ in range(20):
            script.answer("RegisterAgent", failure)
        bus = BusClient(script.address, agent=name, credentials=credentials, timeout=0.5)
        with pytest.raises(kind):
            await bus.connect()
        assert name in kept(credentials)[script.address]


async def test_a_token_replaced_by_another_process_stays(credentials: Path) -> None:
    token = bus_client.credentials.agent_token(credentials, "s:1", "a")
    bus_client.credentials.keep_token(credentials, "s:1", "a", "newer")
    bus_client.credentials.forget_token(credentials, "s:1", "a", token)
    assert kept(credentials) == {"s:1": {"a": "newer"}}
