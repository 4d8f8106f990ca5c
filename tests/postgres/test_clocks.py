"""Two servers whose clocks are an hour apart: all times are those of the database."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import serving
from tests.callers import operator, register
from tests.clocks import WallClock
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.peers import Peer
from tests.polling import until_known
from tests.presence import beat, seen, state, until_state
from tests.rotation import caller_name, expired, rotate
from tests.serving import ServerProcess
from tests.wait_frames import seconds
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, Wait
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import PRESENCE_AWAITING_HUMAN
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest

pytestmark = pytest.mark.slow

HOUR = 3_600.0
#: Seconds by which a time may be off that is reported as now.
NEAR = 5.0
#: Agents lapse after two seconds.
HASTY = (
    *("--heartbeat-interval", "1", "--agent-timeout", "2"),
    *("--checkpoint-interval", "0.05", "--fallback-interval", "0.1"),
)

Pair = tuple[tuple[ServerProcess, Connection], tuple[ServerProcess, Connection]]


@pytest.fixture
async def pair(
    postgres_url: str, start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """Two servers, one half an hour behind and one half an hour ahead, and their clients.

    They end before their schema is dropped, as start_server comes after it.
    """
    monkeypatch.setattr(serving, "database_of", lambda _: postgres_url)
    async with contextlib.AsyncExitStack() as clients:
        opened = []
        for number, step in enumerate((-HOUR / 2, HOUR / 2)):
            folder = tmp_path / str(number)
            folder.mkdir()
            wall = WallClock(folder)
            wall.set(step)
            server = start_server(*HASTY, environment=wall.environment)
            client = await clients.enter_async_context(connected(server.address, "t"))
            opened.append((server, client))
        yield opened[0], opened[1]


def is_near(moment: float) -> bool:
    """Returns whether a time is about now."""
    return abs(moment - time.time()) < NEAR


async def test_messages_have_the_databases_time_whichever_server_took_them(pair: Pair) -> None:
    (_, here), (_, there) = pair
    for _ in range(5):
        for client in (here, there):
            await Peer(client.bus).post("t")
    for client in (here, there):
        times = [
            message.create_time.ToMicroseconds() for message in await Peer(client.bus).read("t")
        ]
        assert times == sorted(times)
        assert len(times) == 10
        assert is_near(times[0] / 1e6)
        info = await client.bus.GetServerInfo(GetServerInfoRequest())
        assert is_near(info.server_time.ToMicroseconds() / 1e6)
        assert info.server_time.ToMicroseconds() > times[-1]


async def test_presence_and_leases_are_the_same_at_both(pair: Pair, name: str) -> None:
    (_, here), (_, there) = pair
    for client in (here, there):
        brief, long = [await register(client.agents, f"{name}-{n}-{id(client)}") for n in range(2)]
        began = time.monotonic()
        await beat(client.bus, brief)
        answer = await beat(client.bus, long, lease=600, state=PRESENCE_AWAITING_HUMAN)
        assert is_near(answer.expire_time.ToMicroseconds() / 1e6 - 600)
        for other in (here, there):
            await until_state(other.agents, long.name, "AWAITING_HUMAN")
            told = (await seen(other.agents, long.name)).last_seen_time
            assert is_near(told.ToMicroseconds() / 1e6)
        for other in (here, there):
            await until_state(other.agents, brief.name, "LAPSED")
            assert time.monotonic() - began >= 2
            assert await state(other.agents, long.name) == "AWAITING_HUMAN"


async def test_a_rotated_token_ends_at_both_after_its_grace_period(pair: Pair, name: str) -> None:
    (_, here), (_, there) = pair
    for client in (here, there):
        brief, long = [await register(client.agents, f"{name}-{n}-{id(client)}") for n in range(2)]
        began = time.monotonic()
        await rotate(client.agents, brief, seconds(1))
        await rotate(client.agents, long, seconds(600))
        for other in (here, there):
            await until_known(lambda: expired(other.bus, brief))  # noqa: B023 - awaited here
            assert time.monotonic() - began >= 1
            assert await caller_name(other.bus, long) == long.name


async def test_both_list_all_waits_the_longest_open_first(pair: Pair, name: str) -> None:
    async with contextlib.AsyncExitStack() as waits:
        names = list[str]()
        for number in range(4):
            _, client = pair[1 - number % 2]
            agent = await register(client.agents, f"{name}-{number}")
            frames = await waits.enter_async_context(Peer(client.bus, agent).wait("t"))
            await frames.until("caught_up")
            names.append(agent.name)
            await asyncio.sleep(0.01)  # so that their times differ by more than clocks are read
        for server, client in pair:

            async def all_listed() -> bool:
                return [wait.agent for wait in await listed(server, client)] == names  # noqa: B023

            await until_known(all_listed)
            for wait in await listed(server, client):
                assert is_near(wait.start_time.ToMicroseconds() / 1e6)


async def listed(server: ServerProcess, client: Connection) -> list[Wait]:
    """Returns the waits that a server lists."""
    admin = AdminServiceStub(client.channel)
    answer = await admin.ListWaits(ListWaitsRequest(), metadata=operator(server).metadata)
    return list(answer.waits)
