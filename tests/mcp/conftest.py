"""Fixtures: hosts whose bridges run in the test's process, and a peer on the bus."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.mcp.command import Command
from tests.mcp.host import Host, bridge_here
from tests.mcp.pipes import Pipes, opened
from tests.serving import ServerProcess


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's credentials are those of the test, and no trace is given."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("TRACEPARENT", raising=False)


@pytest.fixture
async def host(server: ServerProcess, name: str) -> AsyncIterator[Host]:
    """A host of the agent `{name}-me`."""
    async with bridge_here(server.address, f"{name}-me") as opened:
        yield opened


@pytest.fixture
async def peer(server: ServerProcess, name: str) -> AsyncIterator[BusClient]:
    """Another agent, `{name}-peer`."""
    async with BusClient(server.address, agent=f"{name}-peer") as bus:
        yield bus


@pytest.fixture
def command(server: ServerProcess, name: str, tmp_path: Path) -> Command:
    """How to run the bridge of `{name}-me` as a process."""
    return Command(server.address, f"{name}-me", tmp_path)


@pytest.fixture
def pipes(command: Command) -> Iterator[Pipes]:
    """The bridge of `command`, which has not shaken hands."""
    with opened(command) as running:
        yield running
