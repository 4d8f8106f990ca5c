"""Fixtures: consoles of a person, and clients that have logged in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from bus_client import BusClient
from tests.console.consoles import ConsoleProcess, browser, console_of
from tests.serving import ServerProcess


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home directory of the person of `console`."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def console(shared_server: ServerProcess, home: Path) -> Iterator[ConsoleProcess]:
    """This worker's console of a person, `console-ann`, at its server with default flags."""
    with console_of(shared_server, home) as running:
        yield running


@pytest.fixture
async def client(console: ConsoleProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has logged in at `console`."""
    async with browser(console) as opened:
        yield opened


@pytest.fixture
async def bus(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, name: str
) -> AsyncIterator[BusClient]:
    """An agent that talks with the person."""
    credentials = tmp_path_factory.mktemp("agent") / "c"
    async with BusClient(server.address, agent=f"{name}-a", credentials=credentials) as opened:
        yield opened
